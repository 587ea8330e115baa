"""Streams before they are model input: rows of all symbols in float64, with what may stand in a window.

A stream has one row per bar (`from: features`), per grid time (`from: book`) or per day (`from: daily`, see `_daily`);
the rows of one symbol follow those of the one before. `first` leaves out the leading rows in which a short-bar feature
is still warming up: they show no market, so no window reaches back into them. Later values that are not finite are
imputed. A missing book row (older than its `max_gap`, or without a touch on both sides) stands in no window at all
(DESIGN 4.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from gpu_pipeline.core.config import StreamSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import CHANNELS, Depth, Features
from gpu_pipeline.core.units import parse_duration
from kernels import elementwise

SHORT = "_db_s"


@dataclass(frozen=True)
class Rows:
    """One stream of all symbols.

    Attributes:
        name: its name in the run file.
        section: its keys there.
        columns: F names.
        values: [R, F] float64, NaN or infinite where a value is to be imputed.
        time_ns: [R] int64.
        known_ns: [R] int64, latency included, non-decreasing within a symbol.
        offsets: [A+1] first row of each symbol, and the end.
        first: [A] first row of each symbol that a window may hold.
        missing: [R] bool, rows that no window may hold.
        ready: [R] bool, rows at which a decision may be made: every short-bar feature is finite.
        dropped_levels: columns left out because they are levels.
        assets: A names where a row shows several assets and belongs to all symbols (one offset); else empty.
        barred: reason -> [R] bool, what `missing` consists of where a row shows several assets.
        filled: [R] int64 cells of the row that are older than the cadence; None where it has no book.
        missing_cells: asset -> missing cells, where a row shows several assets; days without trades, where it is a day.
        cadence_ns: distance of the grid times of a book; None elsewhere, and where there is only one.
    """

    name: str
    section: StreamSection
    columns: tuple[str, ...]
    values: Tensor
    time_ns: Tensor
    known_ns: Tensor
    offsets: tuple[int, ...]
    first: tuple[int, ...]
    missing: Tensor
    ready: Tensor
    dropped_levels: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    barred: Mapping[str, Tensor] = field(default_factory=dict)
    filled: Tensor | None = None
    missing_cells: Mapping[str, int] = field(default_factory=dict)
    cadence_ns: int | None = None

    def __len__(self) -> int:
        return len(self.time_ns)

    @property
    def symbol_id(self) -> Tensor:
        """[R] int64, -1 where a row belongs to all symbols."""
        if self.assets:
            return torch.full_like(self.time_ns, -1)
        return self.of_rows(torch.arange(len(self.first), device=self.time_ns.device))

    def of_rows(self, per_symbol: Tensor) -> Tensor:
        """[R]: a number of each symbol [A], at each of its rows."""
        counts = torch.tensor(self.offsets, device=per_symbol.device).diff()
        return torch.repeat_interleave(per_symbol, counts, output_size=len(self))


def feature_rows(name: str, section: StreamSection, parts: Sequence[Features], listed: bool = False) -> Rows:
    """Rows of a `from: features` stream, one part per symbol.

    Args:
        name: of the stream.
        section: of the stream.
        parts: features of each symbol, the same columns in the same order.
        listed: the run file lists the columns, so levels among them are meant; else levels are left out (DESIGN 4.6).

    Raises:
        InputError: symbols differ in their columns, no column is left, or times step back.
    """
    _require_same_columns(name, parts)
    keep = [index for index, column in enumerate(parts[0].names) if listed or column not in parts[0].levels]
    if not keep:
        raise InputError(f"dataset.streams.{name}: every feature is a level; add returns or ratios, or list the levels")
    columns = tuple(parts[0].names[index] for index in keep)
    whole = len(keep) == len(parts[0].names)
    shown = [part.values if whole else part.values[:, keep] for part in parts]
    values = shown[0] if len(shown) == 1 else torch.cat(shown)
    short = [index for index, column in enumerate(columns) if column.endswith(SHORT)] or list(range(len(columns)))
    ready = torch.isfinite(values[:, short]).all(1)
    offsets = _offsets(parts)
    return checked(
        Rows(
            name=name,
            section=section,
            columns=columns,
            values=values,
            time_ns=torch.cat([part.time_ns for part in parts]),
            known_ns=torch.cat([part.known_ns for part in parts]) + parse_duration(section.latency),
            offsets=offsets,
            first=tuple(_first_true(ready, lo, hi) for lo, hi in pairwise(offsets)),
            missing=torch.zeros_like(ready),
            ready=ready,
            dropped_levels=tuple(column for column in parts[0].names if column not in columns),
        )
    )


def book_rows(name: str, section: StreamSection, parts: Sequence[Depth]) -> Rows:
    """Rows of a `from: book` stream, one part per symbol: L levels x 4 channels, best level first.

    Raises:
        InputError: symbols differ in their number of levels, or times step back.
    """
    levels = levels_of(name, parts)
    present = [has_touch(part) for part in parts]
    shown = zip(parts, present, strict=True)
    values = [book_values(part.depth, here, section.price, section.quantity) for part, here in shown]
    steps = torch.cat([part.time_ns[:2].diff() for part in parts])
    offsets, here = _offsets(parts), torch.cat(present)
    return checked(
        Rows(
            name=name,
            section=section,
            columns=tuple(f"{channel}_{level}" for level in range(levels) for channel in CHANNELS),
            values=torch.cat(values),
            time_ns=torch.cat([part.time_ns for part in parts]),
            known_ns=torch.cat([part.known_ns for part in parts]) + parse_duration(section.latency),
            offsets=offsets,
            first=offsets[:-1],
            missing=~here,
            ready=here,
            filled=(torch.cat([part.filled for part in parts]) & here).to(torch.int64),
            cadence_ns=int(steps[0]) if len(steps) else None,
        )
    )


def levels_of(name: str, parts: Sequence[Depth]) -> int:
    """How many levels the books of a stream have.

    Raises:
        InputError: they differ.
    """
    levels = {part.depth.shape[1] for part in parts}
    if len(levels) > 1:
        raise InputError(
            f"dataset.streams.{name}: symbols differ in book levels (value {sorted(levels)}); use one form"
        )
    return levels.pop()


def book_values(depth: Tensor, present: Tensor, price: str, quantity: str = "log") -> Tensor:
    """A depth tensor as model columns: [T, L*4] float64.

    Prices become signed distances to the mid (best bid + best ask) / 2, in ticks, or in basis points of the mid;
    quantities become log(1 + lots), or stay lots. Where the row is missing prices are NaN (imputed later) and
    quantities 0.

    Args:
        depth: [T, L, 4] float64 in ticks and lots.
        present: [T] bool.
        price: `ticks` or `bps`.
        quantity: `log` or `lots`.
    """
    mid = ((depth[:, 0, 0] + depth[:, 0, 2]) / 2)[:, None]
    made = torch.empty_like(depth)
    for channel in (0, 2):
        distance = depth[:, :, channel] - mid
        made[:, :, channel] = (distance / mid * 1e4 if price == "bps" else distance).masked_fill(
            ~present[:, None], float("nan")
        )
    for channel in (1, 3):
        lots = depth[:, :, channel].masked_fill(~present[:, None], 0.0)
        made[:, :, channel] = elementwise.log(1.0 + lots) if quantity == "log" else lots
    return made.flatten(1)


def has_touch(part: Depth) -> Tensor:
    """[T] bool: the cells that are not missing and have a best bid and a best ask."""
    touch = (part.depth[:, 0, 1] > 0) & (part.depth[:, 0, 3] > 0)
    return part.valid & touch


def _offsets(parts: Sequence[Features] | Sequence[Depth]) -> tuple[int, ...]:
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + len(part))
    return tuple(ends)


def _first_true(mask: Tensor, start: int, stop: int) -> int:
    found = mask[start:stop].nonzero()
    return start + int(found[0]) if len(found) else stop


def _require_same_columns(name: str, parts: Sequence[Features]) -> None:
    for part in parts[1:]:
        if part.names != parts[0].names:
            odd = sorted(set(part.names) ^ set(parts[0].names))[:3]
            raise InputError(
                f"dataset.streams.{name}: {part.symbol.name} and {parts[0].symbol.name} differ in their columns "
                f"(value {odd}); symbols that are pooled need the same feature set"
            )


def checked(rows: Rows) -> Rows:
    """The rows as they are.

    Raises:
        InputError: `known_ns` steps back within a symbol.
    """
    step = rows.known_ns.diff() < 0
    borders = [offset - 1 for offset in rows.offsets[1:-1] if 0 < offset < len(rows)]
    step[borders] = False
    if bool(step.any()):
        row = int(step.nonzero()[0]) + 1
        raise InputError(
            f"dataset.streams.{rows.name}, row {row:,}: known_ns steps back (value {int(rows.known_ns[row])}); "
            "rows of a symbol must be in the order in which they become known"
        )
    return rows
