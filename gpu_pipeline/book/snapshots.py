"""Order books on a fixed grid: near levels as they are, deeper ones in bins (DESIGN 4.5).

Snapshots are taken as they come; events are replayed as far as each cell sees them. A book without any level, as after
a gap in the feed, is missing; a book with one side only is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Self

import torch
from pydantic import Field, model_validator

from gpu_pipeline.book._check import RULES, OnBadBook, moment_of, sound
from gpu_pipeline.book._grid import Grid, Seen
from gpu_pipeline.book._held import Held
from gpu_pipeline.book._linear import interpolate
from gpu_pipeline.book._pieces import join_depth
from gpu_pipeline.book._replayed import Replayed
from gpu_pipeline.core.config import Duration
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import BookEvents, BookSnapshots, Depth, Symbol, Tensor
from gpu_pipeline.core.units import parse_duration
from kernels.depth import depth_tensor


class DeepBins(Options):
    """Bins of equally many levels behind the near ones.

    Attributes:
        count: number of bins.
        levels_each: levels in one bin.
        up_to: the last level that is binned, instead of `levels_each`.
    """

    count: int = Field(gt=0)
    levels_each: int | None = Field(default=None, gt=0)
    up_to: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.levels_each is None) == (self.up_to is None):
            raise ValueError("needs exactly one of 'levels_each' and 'up_to' (the last level that is binned)")
        return self

    def sizes(self, near_levels: int) -> list[int]:
        """Levels of each bin."""
        each = self.levels_each or ((self.up_to or 0) - near_levels) // self.count
        return [each] * self.count


class Config(Options):
    """The grid, and how deep the tensor is.

    Attributes:
        cadence: distance of grid times, which are multiples of it since 1970 UTC.
        tolerance: a cell at g sees snapshots up to g + tolerance, and is known then.
        max_gap: oldest snapshot that may stand for a cell; None means six times the cadence.
        near_levels: best levels kept as they are.
        deep_bins: bins behind them, or None.
        fill: how cells older than the cadence are filled: `forward_fill` with the last book; `linear` between two
            snapshots known by g + tolerance, one on either side of g, else forward. That takes a tolerance longer than
            the cadence, and snapshots: a book replayed from changes is exact between them.
        on_bad_book: a malformed snapshot, or a replayed book that is crossed where a cell shows it, is an `error`;
            `drop` leaves it out; `keep` shows it where a tensor can (crossed, unsorted) and refuses it elsewhere.
        jump_percent: a larger move of the mid from one update to the next is counted as a jump in the quality table.
    """

    cadence: Duration = "10s"
    tolerance: Duration = "0ms"
    max_gap: Duration | None = None
    near_levels: int = Field(default=50, gt=0)
    deep_bins: DeepBins | None = DeepBins(count=10, levels_each=10)
    fill: Literal["forward_fill", "linear"] = "forward_fill"
    on_bad_book: OnBadBook = "error"
    jump_percent: float = Field(default=5.0, gt=0)

    @property
    def max_gap_ns(self) -> int:
        """The oldest snapshot that may stand for a cell, in nanoseconds."""
        return 6 * parse_duration(self.cadence) if self.max_gap is None else parse_duration(self.max_gap)

    @property
    def grid(self) -> Grid:
        """The grid, in nanoseconds."""
        cadence_ns, tolerance_ns = parse_duration(self.cadence), parse_duration(self.tolerance)
        return Grid(cadence_ns, tolerance_ns, self.max_gap_ns, linear=self.fill == "linear")

    @property
    def bin_sizes(self) -> list[int]:
        """Levels of each deep bin."""
        return self.deep_bins.sizes(self.near_levels) if self.deep_bins else []

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if parse_duration(self.cadence) <= 0:
            raise ValueError(f"cadence must be longer than 0, got {self.cadence}")
        if self.max_gap_ns < parse_duration(self.cadence):
            raise ValueError(f"max_gap must be at least the cadence ({self.cadence}), got {self.max_gap}")
        deep = self.deep_bins
        if deep and deep.up_to and (deep.up_to <= self.near_levels or (deep.up_to - self.near_levels) % deep.count):
            raise ValueError(
                f"deep_bins.up_to less near_levels must be a multiple of count: {deep.up_to} - {self.near_levels} "
                f"levels do not make {deep.count} equal bins"
            )
        return self


@dataclass(frozen=True)
class State:
    """What one piece hands to the next.

    Attributes:
        symbol: instrument and scales.
        source: what cells still to come can see.
        cell: number of the next cell; None before the first book.
        latest_ns: the latest time so far.
        rows: snapshots and levels so far.
        bad: malformed books so far by kind: snapshots, or cells that would have shown a replayed one.
        interpolated: cells so far that stand between two snapshots.
    """

    symbol: Symbol
    source: Held | Replayed
    cell: int | None = None
    latest_ns: int = -1
    rows: tuple[int, int] = (0, 0)
    bad: Mapping[str, int] = field(default_factory=dict)
    interpolated: int = 0


def step(piece: BookSnapshots | BookEvents, config: Config, state: State | None) -> tuple[Depth, State]:
    """The cells that the piece decides: those whose moment lies before its last time.

    Missing cells have quantity 0, price NaN and `valid` False.

    Raises:
        InputError: a malformed book (time and row are named), or ticks and lots that float64 cannot hold.
    """
    if isinstance(piece, BookEvents):
        state = _take_events(piece, config, state)
    else:
        piece, state = _take_snapshots(piece, config, state)
    if len(piece):
        first = config.grid.first_at(int(piece.time_ns[0])) if state.cell is None else state.cell
        state = replace(state, cell=first, latest_ns=max(state.latest_ns, int(piece.time_ns[-1])))
    return _cells(config, state, closed=False)


def end(config: Config, state: State, until_ns: int | None = None) -> tuple[Depth, State]:
    """The cells up to the last time, or to a later one up to which the feed was silent; called again, further ones.

    Args:
        config: of this form.
        state: after the last piece, or after an earlier end.
        until_ns: the moment of the last cell is at or before it.

    Raises:
        InputError: as `step`.
    """
    latest_ns = state.latest_ns if until_ns is None else max(state.latest_ns, until_ns)
    return _cells(config, replace(state, latest_ns=latest_ns), closed=True)


def make(book: BookSnapshots | BookEvents, config: Config) -> Depth:
    """The depth tensor of a whole history.

    Raises:
        InputError: as `step`.
    """
    depth, state = step(book, config, None)
    return join_depth([depth, end(config, state)[0]])


def _take_events(piece: BookEvents, config: Config, state: State | None) -> State:
    if config.fill == "linear":
        rule = "fill: linear needs snapshots; a book replayed from changes is exact between them: use forward_fill"
        raise InputError(f"book of {piece.symbol.name}: {rule}")
    state = state or State(piece.symbol, Replayed.start(piece))
    assert isinstance(state.source, Replayed), "a stream holds snapshots or events, never both"
    return replace(state, source=state.source.add(piece))


def _take_snapshots(piece: BookSnapshots, config: Config, state: State | None) -> tuple[BookSnapshots, State]:
    state = state or State(piece.symbol, Held.start(piece))
    assert isinstance(state.source, Held), "a stream holds snapshots or events, never both"
    books, found = sound(piece, state.latest_ns, config.on_bad_book, state.rows)
    rows = (state.rows[0] + len(piece), state.rows[1] + len(piece.price_ticks))
    bad = {name: state.bad.get(name, 0) + count for name, count in found.items()}
    return books, replace(state, source=state.source.add(books), rows=rows, bad=bad)


def _cells(config: Config, state: State, *, closed: bool) -> tuple[Depth, State]:
    """The cells that are due, a batch at a time, and the state behind them."""
    device = state.source.device
    moments = torch.arange(0, device=device)
    if state.cell is not None:
        moments = config.grid.moments(state.cell, state.latest_ns, device, closed=closed)
    parts: list[Depth] = []
    while len(moments) or not parts:
        batch, moments = moments[: state.source.batch], moments[state.source.batch :]
        depth, state = _batch(config, state, batch)
        parts.append(depth)
    return join_depth(parts), state


def _batch(config: Config, state: State, moments: Tensor) -> tuple[Depth, State]:
    grid, cell = config.grid, state.cell
    cell = None if cell is None else cell + len(moments)
    seen, source = state.source.see(moments, -1 if cell is None else grid.moment(cell), grid)
    seen, crossed = _without_crossed(config, state, seen, moments)
    bad = {**state.bad, "crossed": state.bad.get("crossed", 0) + crossed}
    between = state.interpolated + (len(seen.between.cells) if seen.between else 0)
    after = replace(state, source=source, cell=cell, bad=bad, interpolated=between)
    return _depth(config, state.symbol, seen, moments), after


def _without_crossed(config: Config, state: State, seen: Seen, moments: Tensor) -> tuple[Seen, int]:
    """What cells see of a replayed book, and how many of them would see it crossed; snapshots were checked before."""
    if isinstance(state.source, Held) or not len(seen.bid_count):
        return seen, 0
    crossed = (seen.rows >= 0) & seen.crossed[seen.rows.clamp(min=0)]
    count = int(crossed.sum())
    if count and config.on_bad_book == "error":
        moment = moment_of(int(moments[int(crossed.int().argmax())]))
        rule = f"{RULES['crossed']}; repair the feed, or book.on_bad_book: drop"
        raise InputError(f"book of {state.symbol.name}, replayed to {moment}: {rule}")
    if config.on_bad_book == "drop":
        seen = replace(seen, rows=torch.where(crossed, -1, seen.rows))
    return seen, count


def _depth(config: Config, symbol: Symbol, seen: Seen, moments: Tensor) -> Depth:
    book = (seen.price_ticks, seen.quantity_lots, seen.offsets, seen.bid_count)
    try:
        depth, beyond = depth_tensor(*book, seen.rows, config.near_levels, config.bin_sizes)
        if seen.between is not None:
            cells_of = partial(depth_tensor, *book, near_levels=config.near_levels, bin_sizes=config.bin_sizes)
            interpolate(depth, beyond, seen.between, cells_of)
    except ValueError as error:
        raise InputError(f"book of {symbol.name}: {error}") from error
    age_ns = torch.where(seen.time_ns >= 0, moments - seen.time_ns, -1)
    valid = seen.rows >= 0
    return Depth(
        symbol=symbol,
        depth=depth,
        beyond=beyond,
        time_ns=moments - config.grid.tolerance_ns,
        known_ns=moments,
        age_ns=age_ns,
        valid=valid,
        filled=valid & (age_ns > config.grid.cadence_ns),
    )
