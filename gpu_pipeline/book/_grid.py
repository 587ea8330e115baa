"""The grid that cells lie on, and the books that they see (DESIGN 4.5).

A cell at grid time g shows what was known at its moment, g + tolerance: changes of the book that the venue dates up to
then and that had arrived by then.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpu_pipeline.core.schema import Tensor


@dataclass(frozen=True)
class Grid:
    """Distance of the cells, how long each waits, the oldest book that may stand for one, and how old ones are filled.

    Attributes:
        cadence_ns: distance of grid times; a book that is older is no longer fresh.
        tolerance_ns: a cell at g waits until g + tolerance.
        max_gap_ns: the oldest book that may stand for a cell.
        linear: filled cells between two snapshots are interpolated (`_linear`).
    """

    cadence_ns: int
    tolerance_ns: int
    max_gap_ns: int
    linear: bool = False

    def first_at(self, time_ns: int) -> int:
        """Number of the first cell whose moment is at or after a time."""
        return -(-(time_ns - self.tolerance_ns) // self.cadence_ns)

    def moment(self, cell: int) -> int:
        """The moment of a cell."""
        return cell * self.cadence_ns + self.tolerance_ns

    def moments(self, first: int, until_ns: int, device: torch.device, *, closed: bool) -> Tensor:
        """[T] moments of the cells from number `first` on that lie before a time, or at it too where `closed`."""
        stop = self.first_at(until_ns + int(closed))
        return torch.arange(first, max(stop, first), device=device) * self.cadence_ns + self.tolerance_ns


@dataclass(frozen=True)
class Between:
    """K cells that stand between two snapshots.

    Attributes:
        cells: [K] int64, which of the cells they are.
        before: [K] int64, the snapshot at or before the cell's grid time.
        after: [K] int64, the one after it.
        share: [K] float64 in [0, 1), how far the grid time lies from the one to the other.
    """

    cells: Tensor
    before: Tensor
    after: Tensor
    share: Tensor


@dataclass(frozen=True)
class Seen:
    """Books, and which of them each of T cells sees.

    Attributes:
        price_ticks: [R] int64.
        quantity_lots: [R] int64.
        offsets: [S+1] int64.
        bid_count: [S] int64.
        rows: [T] int64, the book of a cell; -1 where none is known or the one that is known has no level.
        time_ns: [T] int64, the time of the book's last change; -1 where nothing is known yet.
        between: cells that are interpolated; None where that is not asked for.
    """

    price_ticks: Tensor
    quantity_lots: Tensor
    offsets: Tensor
    bid_count: Tensor
    rows: Tensor
    time_ns: Tensor
    between: Between | None = None

    @property
    def crossed(self) -> Tensor:
        """[S] bool: the best bid is at or above the best ask."""
        made = torch.zeros(len(self.bid_count), dtype=torch.bool, device=self.bid_count.device)
        both = torch.nonzero((self.bid_count > 0) & (self.bid_count < self.offsets.diff()))[:, 0]
        bid = self.offsets[both]
        made[both] = self.price_ticks[bid] >= self.price_ticks[bid + self.bid_count[both]]
        return made
