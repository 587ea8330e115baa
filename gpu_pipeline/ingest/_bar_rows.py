"""Cleaning bars made by others as a fold: raw pieces in, checked bars in time order out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BAR_COLUMNS, BAR_FLOATS, Bars, Symbol, Tensor
from gpu_pipeline.core.units import format_step
from gpu_pipeline.ingest._bar_checks import as_float, good_rows
from gpu_pipeline.ingest._bar_files import PRICES, RawBars
from gpu_pipeline.ingest._bar_scales import BarScan, ticks, volumes
from gpu_pipeline.ingest._order import is_sorted
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._streams import Stream, looked_through

_UNKNOWN = ("num_ticks", "num_price_changes", "num_directional_changes")
COUNTS = (
    "rows_in",
    "rows_out",
    "rows_sorted",
    "duplicates",
    "outside_sessions",
    "holidays",
    "before_start",
    "after_end",
    "after_limit",
    "gaps",
    "volumes_off_lot",
)

Columns = dict[str, Tensor]


def open_bars(
    pieces: Iterator[RawBars], again: Callable[[], Iterator[RawBars]], request: ReadRequest, room: int
) -> Stream:
    """Bars made by others.

    Raises:
        InputError: a bad row, where it is an error; a price that is no decimal.
    """
    found = BarScan(request.symbol, request.on_bad_row)
    kept = looked_through(pieces, found.add, room)

    def make(symbol: Symbol) -> Iterator[Bars]:
        raws = again() if kept is None else iter(kept)
        return _cleaned(found.gathered(raws), _Cleaner(symbol, request, found.checked))

    return Stream(request.stream, Bars, found.symbol(), make)


def _cleaned(raws: Iterator[RawBars], cleaner: _Cleaner) -> Iterator[Bars]:
    """The pieces, one late, so that the last one carries the whole account."""
    held: Bars | None = None
    for raw in raws:
        bars = cleaner.add(raw)
        if len(bars):
            if held is not None:
                yield held
            held = bars
    rest = cleaner.end()
    if held is not None and len(rest):
        yield held
    last = rest if len(rest) else held
    if last is None:
        raise InputError(f"{cleaner.symbol.name}: no bars are left ({cleaner.report()}); check path, start and end")
    yield replace(last, report=cleaner.report())


@dataclass
class _Cleaner:
    """One symbol's rows so far; the last one waits, since a later row of its time takes its place.

    Attributes:
        checked: how the bytes of files were verified.
        waiting: the columns of the last row.
        file: where it stands.
        last_open: open (ns) of the last bar that was kept.
    """

    symbol: Symbol
    request: ReadRequest
    checked: Mapping[str, int]
    waiting: Columns = field(default_factory=dict)
    file: Path = Path()
    step_ns: int = 0
    last_open: int | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    dropped: dict[str, int] = field(default_factory=dict)

    def add(self, raw: RawBars) -> Bars:
        """The bars of a piece that no later row can replace."""
        good, dropped = good_rows(raw, self.request.on_bad_row)
        for name, count in dropped.items():
            self.dropped[name] = self.dropped.get(name, 0) + count
        self.counts["rows_in"] += len(raw)
        self.step_ns = raw.rules.step_ns
        if not len(good):
            return self._kept({})
        columns = self._sorted(raw, self._scaled(raw, good))
        self._check_apart(raw, columns)
        if self.waiting:
            columns = {name: torch.cat([self.waiting[name], column]) for name, column in columns.items()}
        self.waiting = {name: column[-1:].clone() for name, column in columns.items()}
        self.file = raw.file
        again = columns["open_ns"][:-1] == columns["open_ns"][1:]
        self.counts["duplicates"] += int(again.sum())
        settled = (~again).nonzero().flatten()
        return self._kept({name: column[settled] for name, column in columns.items()})

    def end(self) -> Bars:
        """The bar that waited."""
        return self._kept(self.waiting)

    def report(self) -> dict[str, Any]:
        """Plain values: rows_in = rows_out + all that was left out."""
        return {**self.counts, "dropped": dict(sorted(self.dropped.items())), "checked": dict(self.checked)}

    def _scaled(self, raw: RawBars, good: Tensor) -> Columns:
        tick, lots = self.symbol.price_tick, self.symbol.quantity
        columns: Columns = {name: self.symbol.price.to_float(ticks(raw, good, name, tick)) for name in PRICES}
        volume, off = volumes(raw.number("volume", good), lots)
        columns |= {"open_ns": raw.time_ns[good] - raw.rules.shift_ns, "row": good, "volume": volume, "off_lot": off}
        if "quote_volume" in raw.numbers:
            columns["quote_volume"] = as_float(raw.number("quote_volume", good))
        return columns

    def _sorted(self, raw: RawBars, columns: Columns) -> Columns:
        opened = columns["open_ns"]
        if not is_sorted(opened):
            self.counts["rows_sorted"] += int((opened < torch.cummax(opened, 0).values).sum())
            order = torch.sort(opened, stable=True).indices
            columns = {name: column[order] for name, column in columns.items()}
        if self.waiting and int(columns["open_ns"][0]) < int(self.waiting["open_ns"][0]):
            row = raw.first_row + int(columns["row"][0]) + 1
            shown = _instant(int(columns["open_ns"][0]) + raw.rules.shift_ns)
            ended = _instant(int(self.waiting["open_ns"][0]) + raw.rules.shift_ns)
            rule = f"begins at {shown}, before {self.file} ended at {ended}"
            raise InputError.at(raw.file, rule, row=row, fix="give the files in order and without overlap")
        return columns

    def _check_apart(self, raw: RawBars, columns: Columns) -> None:
        """Bars do not overlap."""
        before = self.waiting["open_ns"] if self.waiting else columns["open_ns"][:1]
        apart = torch.diff(torch.cat([before, columns["open_ns"]]))
        wrong = (apart > 0) & (apart < self.step_ns)
        if bool(wrong.any()):
            at = int(wrong.nonzero()[0])
            own, step = format_step(int(apart[at])), format_step(self.step_ns)
            rule = f"the bar begins {own} after the one before, but step is {step}"
            row, shown = raw.first_row + int(columns["row"][at]) + 1, int(columns["open_ns"][at]) + raw.rules.shift_ns
            fix = "set step to the length of the bars"
            raise InputError.at(raw.file, rule, row=row, value=_instant(shown), fix=fix)

    def _kept(self, columns: Columns) -> Bars:
        """The bars within sessions and bounds, with row numbers over all that was kept."""
        first = self.counts["rows_out"]
        if not columns:
            return make_table(_nothing(self.request.device), self.symbol, self.step_ns, first)
        opened = columns["open_ns"]
        out = torch.zeros_like(opened, dtype=torch.bool)
        for name, mask in self._left_out(opened):
            self.counts[name] += int((mask & ~out).sum())
            out |= mask
        rows = (~out).nonzero().flatten()
        if self.request.limit is not None:
            left = max(0, self.request.limit - first)
            self.counts["after_limit"] += max(0, len(rows) - left)
            rows = rows[:left]
        kept = {name: column[rows] for name, column in columns.items() if name != "row"}
        self._count(kept)
        return make_table(kept, self.symbol, self.step_ns, first)

    def _left_out(self, opened: Tensor) -> Iterator[tuple[str, Tensor]]:
        hours, request = self.symbol.hours, self.request
        if request.start_ns is not None:
            yield "before_start", opened < request.start_ns
        if request.end_ns is not None:
            yield "after_end", opened >= request.end_ns
        if hours.holidays:
            yield "holidays", hours.on_holiday(opened)
        if hours.sessions:
            yield "outside_sessions", ~hours.session_of(opened)[2]

    def _count(self, kept: Columns) -> None:
        opened = kept["open_ns"]
        if not len(opened):
            return
        before = opened[:1] if self.last_open is None else opened.new_tensor([self.last_open])
        self.counts["gaps"] += int((torch.diff(torch.cat([before, opened])) > self.step_ns).sum())
        self.counts["volumes_off_lot"] += int(kept["off_lot"].sum())
        self.counts["rows_out"] += len(opened)
        self.last_open = int(opened[-1])


def _nothing(device: torch.device) -> Columns:
    floats: Columns = {name: torch.zeros(0, dtype=torch.float64, device=device) for name in (*PRICES, "volume")}
    return {"open_ns": torch.zeros(0, dtype=torch.int64, device=device), **floats}


def _instant(time_ns: int) -> str:
    return str(np.datetime_as_string(np.datetime64(time_ns, "ns"), unit="auto", timezone="UTC"))


def make_table(found: Mapping[str, Tensor], symbol: Symbol, step_ns: int, first_row: int) -> Bars:
    """Bars of columns `open_ns open high low close volume[ quote_volume]`; what is unknown is NaN, counts -1, moves 0.

    A bar's own number among the symbol's bars stands for its trades.
    """
    opened = found["open_ns"]
    row = torch.arange(first_row, first_row + len(opened), device=opened.device)
    columns = {name: torch.full_like(found["close"], torch.nan) for name in BAR_FLOATS}
    columns |= {name: torch.full_like(row, -1) for name in _UNKNOWN}
    columns |= {"open_timestamp": opened, "close_timestamp": opened + step_ns}
    columns |= {"first_trade_row": row, "last_trade_row": row.clone()}
    columns |= {"first_move": torch.zeros_like(row), "last_move": torch.zeros_like(row)}
    columns |= {name: found[name] for name in (*PRICES, "volume")}
    columns["is_partial"] = torch.zeros_like(row, dtype=torch.bool)
    if "quote_volume" in found:
        columns["dollar_volume"] = found["quote_volume"]
        columns["vwap"] = _vwap(columns, symbol)
    ordered = {name: columns[name] for name in BAR_COLUMNS}
    return Bars(symbol, f"time_{format_step(step_ns)}", ordered, has_side=False)


def _vwap(columns: Mapping[str, Tensor], symbol: Symbol) -> Tensor:
    if symbol.inverse:
        return columns["vwap"]
    volume = columns["volume"]
    mean = columns["dollar_volume"] / (volume * float(symbol.multiplier))
    unknown = columns["dollar_volume"].isnan()
    return torch.where(unknown, torch.nan, torch.where(volume > 0, mean, columns["close"]))
