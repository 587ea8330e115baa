"""Volume runs bars: a bar closes when the quantity of one side is more than expected.

De Prado, Advances in Financial Machine Learning, section 2.3.2.4: a run may be interrupted, its sides are not offset.
The side is the taker's; without sides it is that of the last price change, none before the first. With v = lots,
B and S are the sums of v over buys and sells in the open bar of n trades. It closes at the first trade with
n >= min_ticks and max(B, S) >= threshold, or with n >= max_ticks. Then, in float64, one operation after the other:

    E_T <- E_T + a (n - E_T)                  a = 2 / (span_bars + 1)
    e_buy <- w e_buy + (1 - w) (B / n)        w = (1 - 2 / (span_ticks + 1)) ^ n
    e_sell <- w e_sell + (1 - w) (S / n)
    threshold <- the integer nearest to E_T max(e_buy, e_sell), in [1, 2^62) lots

Where `expected_run` is null, the first bar closes at `expected_ticks` trades and sets e_buy = B / n, e_sell = S / n.
"""

from __future__ import annotations

from gpu_pipeline.bars import _expectations
from gpu_pipeline.bars._expectations import Expectations, Run
from gpu_pipeline.bars._signs import COLUMNS as SIGN_COLUMNS
from gpu_pipeline.core.schema import Tensor, Trades

COLUMNS = (*SIGN_COLUMNS, "quantity_lots")


class Config(Expectations):
    """When a volume runs bar closes; the other keys are those of all imbalance and runs bars.

    Attributes:
        expected_run: quantity per trade on the larger side to begin with, in base units; null measures it.
    """

    expected_run: Run | None = None


def step(trades: Trades, config: Config, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Where bars end in a chunk of trades; the state is the open bar, what was learnt, the tick rule's last trade."""
    return _expectations.runs(trades.quantity_lots, trades.symbol.quantity.fraction, trades, config, state)


def label(config: Config) -> str:
    """The ticks expected, and what is not as usual, as file names write it: 100, 1k.bars50."""
    return _expectations.label(config)
