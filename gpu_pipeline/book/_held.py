"""Snapshots that cells still to come can see."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpu_pipeline.book._grid import Seen
from gpu_pipeline.book._pieces import join_books, select
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

    def see(self, moments: Tensor, next_moment: int, max_gap_ns: int) -> tuple[Seen, Held]:
        """What cells [T] see, and what is held for the cells from `next_moment` on."""
        books = self.books
        rows = _last_known(books, moments)
        at = rows.clamp(min=0)
        time_ns = torch.where(rows >= 0, books.time_ns[at], -1) if len(books) else rows
        shown = (rows >= 0) & (moments - time_ns <= max_gap_ns)
        if len(books):
            shown &= books.offsets.diff()[at] > 0
        rows = torch.where(shown, rows, -1)
        seen = Seen(books.price_ticks, books.quantity_lots, books.offsets, books.bid_count, rows, time_ns)
        return seen, Held(select(books, _needed(books, next_moment)))


def _seen_ns(books: BookSnapshots) -> Tensor:
    return torch.maximum(books.time_ns, books.known_ns)


def _last_known(books: BookSnapshots, moments: Tensor) -> Tensor:
    """The last snapshot whose time and known time are both at or before each moment; -1 where there is none."""
    if not len(books):
        return torch.full_like(moments, -1)
    seen_ns, order = _seen_ns(books).sort(stable=True)
    latest = order.cummax(0).values
    count = torch.searchsorted(seen_ns, moments, right=True)
    return torch.where(count > 0, latest[(count - 1).clamp(min=0)], -1)


def _needed(books: BookSnapshots, moment: int) -> Tensor:
    """Snapshots that a cell at or after a moment can see: none that a later one hides from then on."""
    if not len(books):
        return torch.arange(0, device=books.time_ns.device)
    seen_ns = _seen_ns(books).clamp(min=moment)
    later = seen_ns.flip(0).cummin(0).values.flip(0)
    needed = torch.ones_like(seen_ns, dtype=torch.bool)
    needed[:-1] = seen_ns[:-1] < later[1:]
    return torch.nonzero(needed)[:, 0]
