"""Volume imbalance bars: a bar closes when the quantities bought and sold differ by more than expected.

De Prado, Advances in Financial Machine Learning, section 2.3.2.2. A trade's sign b is +1 where the taker bought and -1
where he sold; without sides it is that of the last price change, 0 before the first. With v = lots, theta is the sum of
b v over the open bar's n trades. It closes at the first trade with n >= min_ticks and |theta| >= threshold, or with
n >= max_ticks. Then, in float64, one operation after the other:

    E_T <- E_T + a (n - E_T)              a = 2 / (span_bars + 1)
    E_v <- w E_v + (1 - w) (theta / n)    w = (1 - 2 / (span_ticks + 1)) ^ n
    threshold <- the integer nearest to E_T |E_v|, in [1, 2^62) lots

Where `expected_imbalance` is null, the first bar closes at `expected_ticks` trades and sets E_v to its theta / n.
"""

from __future__ import annotations

from gpu_pipeline.bars import _expectations
from gpu_pipeline.bars._expectations import Expectations, Imbalance
from gpu_pipeline.bars._signs import COLUMNS as SIGN_COLUMNS
from gpu_pipeline.core.schema import Tensor, Trades

COLUMNS = (*SIGN_COLUMNS, "quantity_lots")


class Config(Expectations):
    """When a volume imbalance bar closes; the other keys are those of all imbalance and runs bars.

    Attributes:
        expected_imbalance: b v per trade to begin with, in base units, not 0; null measures it.
    """

    expected_imbalance: Imbalance | None = None


def step(trades: Trades, config: Config, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Where bars end in a chunk of trades; the state is the open bar, what was learnt, the tick rule's last trade."""
    return _expectations.imbalance(trades.quantity_lots, trades.symbol.quantity.fraction, trades, config, state)


def label(config: Config) -> str:
    """The ticks expected, and what is not as usual, as file names write it: 100, 1k.bars50."""
    return _expectations.label(config)
