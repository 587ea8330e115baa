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
    """Distance of the cells, how long each waits, and the oldest book that may stand for one."""

    cadence_ns: int
    tolerance_ns: int
    max_gap_ns: int

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
class Seen:
    """Books, and which of them each of T cells sees.

    Attributes:
        price_ticks: [R] int64.
        quantity_lots: [R] int64.
        offsets: [S+1] int64.
        bid_count: [S] int64.
        rows: [T] int64, the book of a cell; -1 where none is known or the one that is known has no level.
        time_ns: [T] int64, the time of the book's last change; -1 where nothing is known yet.
    """

    price_ticks: Tensor
    quantity_lots: Tensor
    offsets: Tensor
    bid_count: Tensor
    rows: Tensor
    time_ns: Tensor

    @property
    def crossed(self) -> Tensor:
        """[S] bool: the best bid is at or above the best ask."""
        made = torch.zeros(len(self.bid_count), dtype=torch.bool, device=self.bid_count.device)
        both = torch.nonzero((self.bid_count > 0) & (self.bid_count < self.offsets.diff()))[:, 0]
        bid = self.offsets[both]
        made[both] = self.price_ticks[bid] >= self.price_ticks[bid + self.bid_count[both]]
        return made
