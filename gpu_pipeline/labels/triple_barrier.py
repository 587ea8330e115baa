"""Triple barrier: take profit, stop loss or timeout, whichever a position meets first (DESIGN 4.7; AFML ch. 3).

At bar i the entry is close_i (or the next open) and the barriers lie at entry + take_profit x ATR_i and
entry - stop_loss x ATR_i. They are tested on high and low of the bars i+1 .. i+horizon_bars; both in one bar count as
the stop; the exit is at the barrier, or at the open where a bar opened beyond it; a timeout leaves at the last close.
There is no label where ATR_i is NaN or i + horizon_bars lies past the last bar, even if a barrier was touched earlier.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator

from gpu_pipeline.core.config import Duration
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Bars, Labels
from gpu_pipeline.core.units import parse_duration
from gpu_pipeline.labels import _barriers
from kernels.barriers import BOTH, LOWER, UNKNOWN, UPPER


class Config(Options):
    """Where the barriers lie.

    Attributes:
        take_profit: upper barrier, in ATR above the entry.
        stop_loss: lower barrier, in ATR below the entry.
        horizon_bars: how many bars after the entry's are tested.
        atr: window of the average true range, in bars.
        entry: `close` of the bar, or `next_open`.
        cross_gap: `allow` keeps every label; `drop` drops those that were decided only after a gap in time, which
            favours near barriers (what is decided before the gap stays).
        gap: longest time between two bars that is no gap; needed by `drop`.
    """

    take_profit: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    stop_loss: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    horizon_bars: int = Field(default=100, gt=0)
    atr: int = Field(default=14, gt=0)
    entry: Literal["close", "next_open"] = "close"
    cross_gap: Literal["allow", "drop"] = "allow"
    gap: Duration | None = None

    @model_validator(mode="after")
    def _gap_belongs_to_drop(self) -> Self:
        if (self.cross_gap == "drop") != (self.gap is not None):
            raise ValueError("'gap' and 'cross_gap: drop' belong together, for example gap: 30min")
        return self


def make(bars: Bars, config: Config, classes: str) -> Labels:
    """Codes +1 take_profit, -1 stop_loss, 0 timeout; `t_end` is the close of the deciding bar.

    Raises:
        InputError: some bars are partial.
    """
    found = _barriers.exits(bars, config.entry, config.take_profit, config.stop_loss, config.atr, config.horizon_bars)
    stopped = (found.touch == LOWER) | (found.touch == BOTH)
    code = torch.where(stopped, _barriers.STOP, torch.where(found.touch == UPPER, _barriers.PROFIT, 0))
    valid = found.touch != UNKNOWN
    if config.gap is not None:
        valid = valid & ~_barriers.crosses_gap(bars, found.row, parse_duration(config.gap))
    return _barriers.table(bars, found, code, valid, _barriers.CODES, classes)
