"""Time bars: left-closed buckets [t, t + step), anchored at 00:00 UTC; the last of a day is cut short at midnight.

A bar is stamped with its bucket, not with its trades. Buckets without trades are absent, or with `empty: true` bars of
no volume at the previous close. A bar is complete once a trade of a later bucket was seen. Of bars made by others they
are complete when the last of their bars ends, and `anchor: session` counts from the session's open to its close.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator

from gpu_pipeline.core.config import Step
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Tensor, Trades
from gpu_pipeline.core.units import DAY_NS, parse_duration
from kernels import bar_sums
from kernels.time_ends import NO_BUCKET, bucket_end, time_ends

COLUMNS = ("time_ns",)


class Config(Options):
    """How long a time bar is.

    Attributes:
        step: duration of a bar, at most one day.
        empty: whether buckets without trades become bars.
        anchor: buckets are counted from 00:00 UTC of each `day`, or from the open of each `session` of the symbol
            (bars made by others only).
    """

    step: Step = Field(examples=["1min"])
    empty: bool = False
    anchor: Literal["day", "session"] = "day"

    @model_validator(mode="after")
    def _within_a_day(self) -> Self:
        if not 0 < parse_duration(self.step) <= DAY_NS:
            raise ValueError(f"step must be longer than 0 and at most 1day, got {self.step}")
        return self


def step(trades: Trades, config: Config, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Where bars end in a chunk of trades; the state is the start of the open bucket.

    Raises:
        InputError: buckets of trades that are anchored at sessions.
    """
    if config.anchor != "day":
        raise InputError("bars.anchor: time bars of trades are anchored at 00:00 UTC of each day; write anchor: day")
    bucket = state["bucket"] if state else torch.full((1,), NO_BUCKET, dtype=torch.int64, device=trades.device)
    ends, _, bucket = time_ends(trades.time_ns, parse_duration(config.step), bucket)
    return ends, {"bucket": bucket}


def label(config: Config) -> str:
    """The step as file names write it."""
    return config.step


def finish(sums: Tensor, next_ns: Tensor | None, config: Config) -> Tensor:
    """Stamps bars with their buckets and adds the empty ones.

    Args:
        sums: [K, B] int64, the rows of `bar_sums.COLUMNS`.
        next_ns: [B] int64, time of the first trade after each bar; None for open bars and for groups of bars.
        config: step, and whether empty bars are wanted.
    """
    step_ns = parse_duration(config.step)
    if config.empty and next_ns is not None:
        sums = _with_empty(sums, next_ns, step_ns)
    stamped = sums.clone()
    stamped[bar_sums.FIRST_TIME] = _bucket_start(sums[bar_sums.FIRST_TIME], step_ns)
    stamped[bar_sums.LAST_TIME] = bucket_end(_bucket_start(sums[bar_sums.LAST_TIME], step_ns), step_ns)
    return stamped


def _bucket_start(time_ns: Tensor, step_ns: int) -> Tensor:
    return time_ns - time_ns % DAY_NS % step_ns


def _bucket_number(time_ns: Tensor, step_ns: int) -> Tensor:
    return time_ns // DAY_NS * -(-DAY_NS // step_ns) + time_ns % DAY_NS // step_ns


def _with_empty(sums: Tensor, next_ns: Tensor, step_ns: int) -> Tensor:
    """After each bar, one copy of its close without trades for every bucket up to the next trade's."""
    own = _bucket_number(sums[bar_sums.FIRST_TIME], step_ns)
    width = _bucket_number(next_ns, step_ns) - own
    bar = torch.repeat_interleave(width)
    ahead = torch.arange(len(bar), device=sums.device) - (width.cumsum(0) - width)[bar]
    filled = sums[:, bar]
    empty = ahead > 0
    start_ns = _start_of_number((own[bar] + ahead)[empty], step_ns)
    filled[:, empty] = _blank(filled[:, empty], start_ns)
    return filled


def _start_of_number(number: Tensor, step_ns: int) -> Tensor:
    per_day = -(-DAY_NS // step_ns)
    return number // per_day * DAY_NS + number % per_day * step_ns


def _blank(before: Tensor, start_ns: Tensor) -> Tensor:
    """Bars without trades after `before`: its close as every price, rows (last + 1, last), all sums zero."""
    blank = torch.zeros_like(before)
    blank[bar_sums.FIRST_TIME] = blank[bar_sums.LAST_TIME] = start_ns
    for price in (bar_sums.OPEN, bar_sums.HIGH, bar_sums.LOW, bar_sums.CLOSE):
        blank[price] = before[bar_sums.CLOSE]
    blank[bar_sums.LAST_ROW] = before[bar_sums.LAST_ROW]
    blank[bar_sums.FIRST_ROW] = before[bar_sums.LAST_ROW] + 1
    return blank
