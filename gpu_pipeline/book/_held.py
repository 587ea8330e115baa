"""Snapshots that cells still to come can see."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpu_pipeline.book._grid import Grid, Seen
from gpu_pipeline.book._linear import find_between, needed_between
from gpu_pipeline.book._pieces import join_books, select
from gpu_pipeline.book._seen import last_known, needed
from gpu_pipeline.core.schema import BookSnapshots, Tensor


@dataclass(frozen=True)
class Held:
    """Some snapshots in their order.

    Known times may fall (feeds are delayed differently): of what has arrived by a moment, the last one in snapshot
    order counts, not the last to arrive.
    """

    books: BookSnapshots

    @classmethod
    def start(cls, books: BookSnapshots) -> Held:
        """Nothing yet."""
        return cls(select(books, torch.arange(0, device=books.time_ns.device)))

    @property
    def device(self) -> torch.device:
        """Where the snapshots live."""
        return self.books.time_ns.device

    @property
    def batch(self) -> int:
        """Cells that may be seen in one call."""
        return 1 << 62

    def add(self, piece: BookSnapshots) -> Held:
        """With the next snapshots behind those that are held."""
        return Held(join_books(self.books, piece) if len(self.books) else piece)

    def see(self, moments: Tensor, next_moment: int, grid: Grid) -> tuple[Seen, Held]:
        """What cells [T] see, and what is held for the cells from `next_moment` on."""
        books = self.books
        rows = last_known(books, moments)
        at = rows.clamp(min=0)
        time_ns = torch.where(rows >= 0, books.time_ns[at], -1) if len(books) else rows
        shown = (rows >= 0) & (moments - time_ns <= grid.max_gap_ns)
        if len(books):
            shown &= books.offsets.diff()[at] > 0
        rows = torch.where(shown, rows, -1)
        between = find_between(books, moments, rows, grid) if grid.linear else None
        seen = Seen(books.price_ticks, books.quantity_lots, books.offsets, books.bid_count, rows, time_ns, between)
        kept = needed(books, next_moment)
        if grid.linear:
            kept |= needed_between(books, next_moment, grid)
        return seen, Held(select(books, torch.nonzero(kept)[:, 0]))
