"""What a book stream is worth: one row per UTC day and symbol, from whole numbers that any cut into pieces gives.

Updates are snapshots, or messages of a feed; the best levels are looked at after every one of them, levels per side and
the depth profile in the first book of every ten seconds.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch

from gpu_pipeline.book import _tops
from gpu_pipeline.book._check import faults
from gpu_pipeline.book._pieces import cut_events, select
from gpu_pipeline.book._tops import Tops
from gpu_pipeline.core.schema import BookEvents, BookSnapshots, Depth, Symbol, Tensor
from gpu_pipeline.core.sums import exact_sum
from gpu_pipeline.core.units import DAY_NS

PROFILE = (1, 5, 10, 50, 100, 500)
COUNTS = (
    "updates", "rows", "clock_back", "unsorted", "negative", "bad_count", "crossed", "locked", "inversions",
    "missing_bid", "missing_ask", "empty", "jumps", "gaps", "cells", "fresh", "filled", "missing",
)  # fmt: skip
MEASURES = (
    "updates_per_s", "gap_longest_s", "gap_total_s", "spread_least", "spread_median", "spread_p99", "levels_bid",
    "levels_ask", *(f"quantity_{level}" for level in PROFILE), "age_longest_s",
)  # fmt: skip
# What no sound stream shows; the rest are properties of a market or of the feed.
WRONG = ("clock_back", "unsorted", "negative", "bad_count", "crossed", "locked", "empty")


@dataclass
class Day:
    """Whole numbers of one day."""

    counts: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    spreads: Counter[int] = field(default_factory=Counter)
    most: dict[str, int] = field(default_factory=dict)
    first_ns: int | None = None
    last_ns: int = 0

    def longest(self, name: str, values: Tensor) -> None:
        """Keeps the largest value so far."""
        if len(values):
            self.most[name] = max(self.most.get(name, 0), int(values.max()))

    def span(self, time_ns: Tensor) -> None:
        """Takes times into account."""
        self.first_ns = int(time_ns[0]) if self.first_ns is None else self.first_ns
        self.last_ns = int(time_ns[-1])


@dataclass
class Quality:
    """The account of one symbol's stream, and the cells made of it.

    Attributes:
        symbol: instrument and scales.
        max_gap_ns: a longer silence between updates is a gap.
        jump_percent: a larger move of the mid from one update to the next is a jump.
    """

    symbol: Symbol
    max_gap_ns: int
    jump_percent: float
    _days: defaultdict[int, Day] = field(default_factory=lambda: defaultdict(Day))
    _events: _tops.State | None = None
    _slot: int = -1
    _time_ns: int = -1
    _mid: int = 0
    _crossed: bool = False

    def add(self, piece: BookSnapshots | BookEvents) -> None:
        """Takes the next piece into account."""
        self._count(piece.time_ns, "rows", _rows(piece))
        if isinstance(piece, BookEvents):
            self._add_events(piece, closed=False)
            return
        found, _ = faults(piece, self._time_ns)
        for name in ("clock_back", "unsorted", "negative", "bad_count"):
            self._count(piece.time_ns, name, found[name].long())
        bad = found["bad_count"]
        fit = select(piece, torch.nonzero(~bad)[:, 0]) if bool(bad.any()) else piece
        self._best(_tops.of_snapshots(fit))
        which, self._slot = _tops.sampled(fit, self._slot)
        self._profile(fit, which)

    def close(self) -> None:
        """Takes the last message into account."""
        if self._events is not None:
            self._add_events(cut_events(self._events.events, slice(0, 0)), closed=True)

    def cells(self, depth: Depth) -> None:
        """Takes cells of the grid into account."""
        kinds = {"fresh": depth.valid & ~depth.filled, "filled": depth.filled, "missing": ~depth.valid}
        self._count(depth.time_ns, "cells", torch.ones_like(depth.time_ns))
        for name, found in kinds.items():
            self._count(depth.time_ns, name, found.long())
        for day, rows in _by_day(depth.time_ns):
            self._days[day].longest("age", depth.age_ns[rows])

    def rows(self) -> list[dict[str, Any]]:
        """One row per day: `symbol`, `day` (ISO), COUNTS (int) and MEASURES (float; None where there is nothing)."""
        return [
            {
                "symbol": self.symbol.name,
                "day": (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat(),
                **{name: self._days[day].counts[name] for name in COUNTS},
                **_measures(self._days[day], self.symbol),
            }
            for day in sorted(self._days)
        ]

    def _add_events(self, piece: BookEvents, *, closed: bool) -> None:
        tops, books, self._events = _tops.of_events(piece, self._events or _tops.start(piece), closed=closed)
        self._best(tops)
        self._profile(books, torch.arange(len(books), device=books.time_ns.device))

    def _count(self, time_ns: Tensor, name: str, amounts: Tensor) -> None:
        for day, rows in _by_day(time_ns):
            self._days[day].counts[name] += int(amounts[rows].sum())

    def _best(self, tops: Tops) -> None:
        """Best levels after every update."""
        if not len(tops.time_ns):
            return
        before = torch.cat((tops.time_ns.new_full((1,), self._time_ns), tops.time_ns[:-1])).cummax(0).values
        silence = torch.where(before >= 0, tops.time_ns - before, 0)
        crossed = torch.cat((torch.tensor([self._crossed], device=silence.device), tops.crossed))
        gaps = silence > self.max_gap_ns
        found = {
            "updates": torch.ones_like(tops.has_bid),
            "crossed": tops.crossed,
            "locked": tops.locked,
            "inversions": crossed[1:] & ~crossed[:-1],
            "missing_bid": ~tops.has_bid & tops.has_ask,
            "missing_ask": tops.has_bid & ~tops.has_ask,
            "empty": ~tops.has_bid & ~tops.has_ask,
            "gaps": gaps,
            "jumps": self._jumps(tops),
        }
        for name, marks in found.items():
            self._count(tops.time_ns, name, marks.long())
        for day, rows in _by_day(tops.time_ns):
            self._days[day].span(tops.time_ns[rows])
            self._days[day].longest("gap", silence[rows][gaps[rows]])
            self._days[day].sums["gap"] += int(silence[rows][gaps[rows]].sum())
            both = tops.both & rows
            self._days[day].spreads.update(_histogram(tops.ask_ticks[both] - tops.bid_ticks[both]))
        self._time_ns = max(self._time_ns, int(tops.time_ns.max()))
        self._crossed = bool(crossed[-1])

    def _jumps(self, tops: Tops) -> Tensor:
        """[M] bool: the mid moved too far since the last update with both sides."""
        at = torch.nonzero(tops.both)[:, 0]
        mids = torch.cat((at.new_full((1,), self._mid), tops.bid_ticks[at] + tops.ask_ticks[at]))
        far = mids.diff().abs().double() > mids[:-1].abs().double() * (self.jump_percent / 100)
        jumps = torch.zeros_like(tops.has_bid)
        jumps[at] = far & (mids[:-1] != 0)
        self._mid = int(mids[-1])
        return jumps

    def _profile(self, books: BookSnapshots, which: Tensor) -> None:
        """Levels per side, and quantity at some of them, of the books `which` [K]."""
        bids, begin = books.bid_count[which], books.offsets[:-1][which]
        levels = {"bid": bids, "ask": books.offsets.diff()[which] - bids}
        begins = {"bid": begin, "ask": begin + bids}
        for day, rows in _by_day(books.time_ns[which]):
            sums = self._days[day].sums
            sums["books"] += int(rows.sum())
            for side, counts in levels.items():
                sums[f"levels_{side}"] += int(counts[rows].sum())
                for level in PROFILE:
                    at = begins[side][rows & (counts >= level)] + level - 1
                    sums[f"quantity_{level}"] += exact_sum(books.quantity_lots[at])
                    sums[f"sides_{level}"] += len(at)


def _rows(piece: BookSnapshots | BookEvents) -> Tensor:
    return torch.ones_like(piece.time_ns) if isinstance(piece, BookEvents) else piece.offsets.diff()


def _by_day(time_ns: Tensor) -> Iterable[tuple[int, Tensor]]:
    days = torch.div(time_ns, DAY_NS, rounding_mode="floor")
    return [(day, days == day) for day in days.unique().tolist()]


def _histogram(values: Tensor) -> dict[int, int]:
    found, counts = values.unique(return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def quantile(histogram: Mapping[int, int], share: float) -> int | None:
    """The smallest value that at least a share of the counted ones do not exceed; None where nothing was counted."""
    total, seen = sum(histogram.values()), 0
    for value in sorted(histogram):
        seen += histogram[value]
        if seen >= share * total:
            return value
    return None


def _measures(day: Day, symbol: Symbol) -> dict[str, float | None]:
    """Floats for people: seconds, prices, quantities."""
    span_ns = day.last_ns - (day.first_ns or 0)
    updates = day.counts["updates"]
    spreads = {"median": quantile(day.spreads, 0.5), "p99": quantile(day.spreads, 0.99)}
    spreads["least"] = min(day.spreads, default=None)
    values: dict[str, float | None] = {
        "updates_per_s": (updates - 1) * 1e9 / span_ns if span_ns > 0 else None,
        "gap_longest_s": day.most.get("gap", 0) / 1e9,
        "gap_total_s": day.sums["gap"] / 1e9,
        "age_longest_s": day.most["age"] / 1e9 if day.most.get("age", -1) >= 0 else None,
        **{f"levels_{side}": _mean(day.sums[f"levels_{side}"], day.sums["books"]) for side in ("bid", "ask")},
    }
    for name, ticks in spreads.items():
        values[f"spread_{name}"] = None if ticks is None else float(ticks * symbol.price_tick)
    for level in PROFILE:
        lots = _mean(day.sums[f"quantity_{level}"], day.sums[f"sides_{level}"])
        values[f"quantity_{level}"] = None if lots is None else lots * float(symbol.quantity_lot)
    return {name: values[name] for name in MEASURES}


def _mean(total: int, count: int) -> float | None:
    return total / count if count else None


def table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows of all symbols as a table: `symbol`, `day` (date), COUNTS int64, MEASURES float64 (null: nothing)."""
    columns: dict[str, pa.Array] = {
        "symbol": pa.array([row["symbol"] for row in rows], pa.string()),
        "day": pa.array([dt.date.fromisoformat(row["day"]) for row in rows], pa.date32()),
    }
    columns |= {name: pa.array([row[name] for row in rows], pa.int64()) for name in COUNTS}
    return pa.table(columns | {name: pa.array([row[name] for row in rows], pa.float64()) for name in MEASURES})


def wrong(row: Mapping[str, Any]) -> dict[str, int]:
    """What no sound stream shows, where a day shows it."""
    return {name: row[name] for name in WRONG if row[name]}
