"""What labels by price barriers share: average true range, the first touch, and the table that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars, Labels, Tensor
from kernels.barriers import first_touch
from kernels.recurrence import initial_state, smooth

STOP, TIMEOUT, PROFIT = -1, 0, 1
CODES = {PROFIT: "take_profit", STOP: "stop_loss", TIMEOUT: "timeout"}


@dataclass(frozen=True)
class Exits:
    """How a position opened at every bar ends.

    Attributes:
        touch: [B] int64, UPPER, LOWER, BOTH, NEITHER or UNKNOWN of `kernels.barriers`.
        row: [B] int64, the deciding bar; -1 where unknown.
        entry: [B] float64, price of the position.
        price: [B] float64, price at which it is left; NaN where unknown.
    """

    touch: Tensor
    row: Tensor
    entry: Tensor
    price: Tensor


def average_true_range(bars: Bars, window: int) -> Tensor:
    """[B] float64 in quote currency, Wilder's smoothing (TA-Lib's ATR): NaN in the first `window` rows.

    True range = max(high - low, |high - previous close|, |low - previous close|); the first bar has none.
    """
    high, low, before = bars.high[1:], bars.low[1:], bars.close[:-1]
    true_range = torch.full_like(bars.close, torch.nan)
    true_range[1:] = torch.maximum(high - low, torch.maximum((high - before).abs(), (low - before).abs()))
    smoothed, _ = smooth(true_range[:, None], window, "wilder", initial_state(1, bars.device))
    return smoothed[:, 0]


def exits(bars: Bars, entry_at: str, up: float, down: float, window: int, horizon: int) -> Exits:
    """Barriers at entry + up x ATR and entry - down x ATR of the bar, tested on the `horizon` bars after it.

    Raises:
        InputError: some bars are partial.
    """
    refuse_partial(bars)
    entry = bars.close if entry_at == "close" else _next(bars.open)
    width = average_true_range(bars, window)
    first = torch.arange(1, len(bars) + 1, device=bars.device)
    touch, row, price = first_touch(
        bars.open, bars.high, bars.low, bars.close, entry + up * width, entry - down * width, first, horizon
    )
    return Exits(touch, row, entry, price)


def refuse_partial(bars: Bars) -> None:
    """Raises InputError where a bar is partial: such rows never enter labels."""
    if bool(bars.is_partial.any()):
        row = int(bars.is_partial.int().argmax())
        raise InputError.at(f"labels of {bars.name}", "partial bars have no labels", row=row, fix="use bars.complete()")


def _next(column: Tensor) -> Tensor:
    return torch.cat([column[1:], torch.full_like(column[:1], torch.nan)])


def table(
    bars: Bars,
    found: Exits,
    code: Tensor,  # [B] int64
    valid: Tensor,  # [B] bool
    codes: Mapping[int, str],
    classes: str,
) -> Labels:
    """The label table; where not valid the code is 0, times and rows -1 and the return NaN.

    binary: class 1 is code +1, everything else class 0. codes: a class per code, in the order of the codes.
    """
    binary = classes == "binary"
    ordered = sorted(codes)
    row = torch.where(valid, found.row, -1)
    return Labels(
        symbol=bars.symbol,
        name="",
        code=torch.where(valid, code, 0),
        valid=valid,
        t_end=torch.where(valid, bars.close_timestamp[row], -1) if len(bars) else row,
        label_return=torch.where(valid, found.price / found.entry - 1.0, torch.nan),
        weight=torch.ones_like(found.price),
        codes=dict(codes),
        known_row=row,
        classes={each: int(each == PROFIT) if binary else index for index, each in enumerate(ordered)},
        class_names=(f"not_{codes[PROFIT]}", codes[PROFIT]) if binary else tuple(codes[each] for each in ordered),
    )


def crosses_gap(bars: Bars, row: Tensor, gap_ns: int) -> Tensor:
    """[B] bool: whether between bar i and bar `row[i]` two neighbours lie further than `gap_ns` apart."""
    apart = torch.zeros(len(bars), dtype=torch.int64, device=bars.device)
    apart[1:] = (bars.open_timestamp[1:] - bars.close_timestamp[:-1] > gap_ns).long()
    gaps = apart.cumsum(0)
    return (row >= 0) & (gaps[row.clamp(min=0)] > gaps) if len(bars) else row >= 0
