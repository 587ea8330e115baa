"""Bar columns as the numbers that expressions read, and the refusal of columns that the bars do not have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._calendar import CALENDAR

TAKER = ("buy_volume", "sell_volume", "trade_imbalance", "taker_buy_sell_ratio")
COUNTS = ("num_ticks", "num_price_changes", "num_directional_changes")
# Signs, so they cannot say themselves that they are absent: the count of such signs does.
MOVES = ("first_move", "last_move")
# NaN is its value where nobody sold.
MAY_BE_NAN = ("taker_buy_sell_ratio",)


def _scalar(bars: Bars, value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device=bars.device)


DERIVED: Mapping[str, Callable[[Bars], Tensor]] = {
    "duration_seconds": lambda bars: (
        (bars.close_timestamp - bars.open_timestamp).to(torch.float64) / _scalar(bars, 1e9)
    ),
    "quantity_lot": lambda bars: _scalar(bars, float(bars.symbol.quantity_lot)),
    "price_tick": lambda bars: _scalar(bars, float(bars.symbol.price_tick)),
    **CALENDAR,
}


def read_columns(bars: Bars, readers: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """The columns of `readers` (column -> features that need it) as float64 [B], or [] where a row has none of its own.

    Raises:
        InputError: the bars lack a column, or hold NaN (of counts: -1) in it; names the feature, column and row.
    """
    missing = [name for name in readers if name not in DERIVED and name not in bars.columns]
    missing += [name for name in TAKER if name in readers and not bars.has_side]
    if missing:
        raise _lacking(bars, missing[0], readers, "the bars do not have it")
    columns = {
        name: DERIVED[name](bars) if name in DERIVED else bars.columns[name].to(torch.float64) for name in readers
    }
    _refuse_gaps(bars, columns, readers)
    return columns


def _refuse_gaps(bars: Bars, columns: Mapping[str, Tensor], readers: Mapping[str, Sequence[str]]) -> None:
    names = [name for name in columns if name in bars.columns and name not in MAY_BE_NAN]
    names = [name for name in names if not _is_whole(name, _told_by(bars, name, columns))]
    if not names:
        return
    least = torch.tensor([0.0 if name in COUNTS + MOVES else -torch.inf for name in names], device=bars.device)
    told = [_told_by(bars, name, columns) for name in names]
    absent = ~(torch.stack(told, dim=1) >= least)
    if bool(absent.any()):
        row, column = (int(place) for place in absent.nonzero()[0])
        raise _lacking(bars, names[column], readers, f"it has no value at row {row:,} of this chunk")


def _is_whole(name: str, told: Tensor) -> bool:
    """Whether nothing is absent, in one pass: a sum is NaN where an element is."""
    if name in COUNTS + MOVES:
        return not len(told) or bool(told.min() >= 0)
    return math.isfinite(float(told.sum()))


def _told_by(bars: Bars, name: str, columns: Mapping[str, Tensor]) -> Tensor:
    return bars.columns["num_directional_changes"].to(torch.float64) if name in MOVES else columns[name]


def _lacking(bars: Bars, column: str, readers: Mapping[str, Sequence[str]], why: str) -> InputError:
    name = readers[column][0]
    rest = f" (and {len(readers[column]) - 1} more)" if len(readers[column]) > 1 else ""
    side = " because their trades have no taker side" if column in TAKER and not bars.has_side else ""
    return InputError(
        f"features: '{name}'{rest} needs the column '{column}' of the bars {bars.name} of {bars.symbol.name}, but"
        f" {why}{side}; leave the feature out, or make the bars from trades that have it"
    )
