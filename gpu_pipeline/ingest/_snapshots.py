"""Snapshots of a book as they were recorded, and cleaning them as a fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookSnapshots, Symbol, Tensor
from gpu_pipeline.ingest._book_sequence import back_error, before, running, units, whole
from gpu_pipeline.ingest._depth import RawDepth
from gpu_pipeline.ingest._raw import ReadRequest

_COUNTS = ("snapshots_in", "times_set_back", "before_start", "levels_without_quantity")


@dataclass(frozen=True)
class RawSnapshots:
    """A piece of a source of snapshots.

    Attributes:
        depth: one message per snapshot; its levels are its bids, best first, then its asks, best first.
        on_time_back: a time that steps back is set to the latest before it and counted, or an error.
        counted: what the source counted in the piece, for the report.
    """

    depth: RawDepth
    on_time_back: Literal["count", "error"] = "count"
    counted: Mapping[str, int] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The file that it came from."""
        return self.depth.file

    def nbytes(self) -> int:
        """Bytes of its columns."""
        return self.depth.nbytes()


@dataclass(frozen=True)
class State:
    """What one piece hands to the next: the latest times, how many snapshots were kept, what was counted."""

    time_ns: int = 0
    known_ns: int = 0
    kept: int = 0
    counts: Mapping[str, Any] = field(default_factory=lambda: {**dict.fromkeys(_COUNTS, 0), "dropped": {}})
    done: bool = False


def clean(raw: RawSnapshots, symbol: Symbol, request: ReadRequest, state: State) -> tuple[BookSnapshots, State]:
    """Scales, mends times and cuts one piece; any cutting into pieces gives the same snapshots.

    A level without a quantity is none; it is left out and counted. Snapshots before `start` are left out.

    Raises:
        InputError: a bad level, a missing time, or a time that steps back where that is an error; names file and row.
    """
    depth, dropped = whole(raw.depth, request.on_bad_row, has_ids=False)
    clock = _clock(depth)
    time_ns = running(clock, state.time_ns)
    depth, done = before(depth, time_ns, request.end_ns)
    early = 0 if request.start_ns is None else int((time_ns[: len(depth)] < request.start_ns).sum())
    if request.limit is not None and state.kept + len(depth) - early >= request.limit:
        depth, done = depth.part(0, early + request.limit - state.kept), True
    clock, time_ns = clock[: len(depth)], time_ns[: len(depth)]
    back = clock < time_ns
    if raw.on_time_back == "error" and bool(back.any()):
        raise back_error(depth, int(back.nonzero()[0]), clock, time_ns)
    known_ns = running(torch.maximum(depth.known_ns, time_ns), state.known_ns)
    kept = depth.part(early, len(depth)) if early else depth
    book, without = _book(kept, (time_ns[early:], known_ns[early:]), symbol, request)
    seen = len(depth)
    counted = {
        "snapshots_in": seen,
        "times_set_back": int(back.sum()),
        "before_start": early,
        "levels_without_quantity": without,
        **raw.counted,
    }
    moved = State(
        int(time_ns[-1]) if seen else state.time_ns,
        int(known_ns[-1]) if seen else state.known_ns,
        state.kept + len(kept),
        _plus(state.counts, counted) | {"dropped": _plus(state.counts["dropped"], dropped)},
        done,
    )
    return book, moved


def _clock(depth: RawDepth) -> Tensor:
    clock = torch.where(depth.time_ns >= 0, depth.time_ns, depth.known_ns)
    if len(missing := (clock < 0).nonzero()):
        rule, fix = "a snapshot needs a time", "map its column under columns, or leave the row out"
        raise InputError.at(depth.file, rule, row=int(depth.row[missing[0]]), fix=fix)
    return clock


def _book(
    depth: RawDepth, times: tuple[Tensor, Tensor], symbol: Symbol, request: ReadRequest
) -> tuple[BookSnapshots, int]:
    """The snapshots, and how many levels without a quantity were left out."""
    rows = torch.arange(len(depth.side))
    lots = units(depth, "quantity", rows, symbol.quantity_lot)
    ticks = units(depth, "price", rows, symbol.price_tick)
    there = lots > 0
    owner = torch.repeat_interleave(torch.arange(len(depth)), torch.diff(depth.offsets))
    sizes = torch.bincount(owner[there], minlength=len(depth))
    bids = torch.bincount(owner[there & (depth.side == 1)], minlength=len(depth))
    offsets = torch.cat([sizes.new_zeros(1), torch.cumsum(sizes, 0)])
    columns: Any = (column.to(request.device) for column in (*times, offsets, bids, ticks[there], lots[there]))
    return BookSnapshots(symbol, *columns), int((~there).sum())


def _plus(counts: Mapping[str, Any], more: Mapping[str, int]) -> dict[str, Any]:
    return {**counts, **{name: counts.get(name, 0) + many for name, many in more.items()}}
