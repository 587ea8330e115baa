"""The label of the null gate: one ATR up or down from the next bar's open, ties and timeouts dropped (DESIGN 4.9).

Where price moves are fair coins, independent of the past, P(up first) is exactly one half under these rules and no
others: unequal barriers, an entry at a close that bounces between bid and ask, or kept timeouts can be predicted.
"""

from __future__ import annotations

import torch
from pydantic import Field

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Bars, Labels
from gpu_pipeline.labels import _barriers
from kernels.barriers import LOWER, UPPER


class Config(Options):
    """How long to wait, and for how far.

    Attributes:
        horizon_bars: how many bars after the entry's are tested.
        atr: window of the average true range, in bars; both barriers lie one ATR from the entry.
    """

    horizon_bars: int = Field(default=100, gt=0)
    atr: int = Field(default=14, gt=0)


def make(bars: Bars, config: Config, classes: str) -> Labels:
    """Codes +1 up first, -1 down first; bars that end in a timeout or touch both barriers at once have no label.

    Raises:
        InputError: some bars are partial.
    """
    found = _barriers.exits(bars, "next_open", 1.0, 1.0, config.atr, config.horizon_bars)
    up, down = found.touch == UPPER, found.touch == LOWER
    code = torch.where(up, _barriers.PROFIT, _barriers.STOP)
    return _barriers.table(bars, found, code, up | down, {_barriers.PROFIT: "up", _barriers.STOP: "down"}, classes)
