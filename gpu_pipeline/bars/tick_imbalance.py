"""Tick imbalance bars: a bar closes when the numbers of trades bought and sold differ by more than expected.

De Prado, Advances in Financial Machine Learning, section 2.3.2.1. A trade's sign b is +1 where the taker bought and -1
where he sold; without sides it is that of the last price change, 0 before the first. With v = 1, theta is the sum of
b v over the open bar's n trades. It closes at the first trade with n >= min_ticks and |theta| >= threshold, or with
n >= max_ticks. Then, in float64, one operation after the other:

    E_T <- E_T + a (n - E_T)              a = 2 / (span_bars + 1)
    E_v <- w E_v + (1 - w) (theta / n)    w = (1 - 2 / (span_ticks + 1)) ^ n
    threshold <- the integer nearest to E_T |E_v|, in [1, 2^62)

Where `expected_imbalance` is null, the first bar closes at `expected_ticks` trades and sets E_v to its theta / n.
"""

from __future__ import annotations

from fractions import Fraction

import torch

from gpu_pipeline.bars import _expectations
from gpu_pipeline.bars._expectations import Expectations, Imbalance
from gpu_pipeline.bars._signs import COLUMNS as SIGN_COLUMNS
from gpu_pipeline.core.schema import Tensor, Trades

COLUMNS = SIGN_COLUMNS


class Config(Expectations):
    """When a tick imbalance bar closes; the other keys are those of all imbalance and runs bars.

    Attributes:
        expected_imbalance: mean sign of a trade to begin with, not 0; null measures it.
    """

    expected_imbalance: Imbalance | None = None


def step(trades: Trades, config: Config, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Where bars end in a chunk of trades; the state is the open bar, what was learnt, the tick rule's last trade."""
    one = torch.ones(1, dtype=torch.int64, device=trades.device)
    return _expectations.imbalance(one, Fraction(1), trades, config, state)


def label(config: Config) -> str:
    """The ticks expected, and what is not as usual, as file names write it: 100, 1k.bars50."""
    return _expectations.label(config)
