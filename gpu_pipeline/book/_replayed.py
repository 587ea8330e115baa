"""A book that is replayed from its events as far as cells see them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from gpu_pipeline.book._grid import Grid, Seen
from gpu_pipeline.book._pieces import cut_events, join_events
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookEvents, Tensor
from kernels.book_replay import State as Book
from kernels.book_replay import new_state, replay

ROWS_EACH = 1 << 22
LEVELS_AT_LEAST = 2048


@dataclass(frozen=True)
class Replayed:
    """A book, and the events that are behind it.

    Attributes:
        book: the book after all events that every later cell sees.
        events: those that came after it.
        time_ns: time of the book's last change, -1 before the first.
        known_ns: when that was known.
        applied: events that were applied so far.
    """

    book: Book
    events: BookEvents
    time_ns: int = -1
    known_ns: int = -1
    applied: int = 0

    @classmethod
    def start(cls, events: BookEvents) -> Replayed:
        """Nothing yet."""
        return cls(new_state(events.time_ns.device), cut_events(events, slice(0, 0)))

    @property
    def device(self) -> torch.device:
        """Where the book lives."""
        return self.events.time_ns.device

    @property
    def batch(self) -> int:
        """Cells that may be seen in one call: their books are in memory at once, with all their levels."""
        return max(1, ROWS_EACH // max(LEVELS_AT_LEAST, len(self.book[0]) + len(self.book[2])))

    def add(self, piece: BookEvents) -> Replayed:
        """With the next events behind those that wait.

        Raises:
            InputError: times or known times that fall.
        """
        events = join_events(self.events, piece)
        for name in ("time_ns", "known_ns"):
            column = getattr(events, name)
            falls = torch.cat((column.new_full((1,), getattr(self, name)), column)).diff() < 0
            if bool(falls.any()):
                row = self.applied + int(falls.int().argmax())
                where = f"book events of {events.symbol.name}"
                raise InputError.at(where, f"{name} must not fall", row=row, fix="run the stage ingest again")
        return replace(self, events=events)

    def see(self, moments: Tensor, next_moment: int, grid: Grid) -> tuple[Seen, Replayed]:
        """What cells [T] see, and the book as every cell from `next_moment` on sees it.

        Raises:
            InputError: an event that is none.
        """
        events = self.events
        counts = _visible(events, moments)
        done = int(_visible(events, moments.new_full((1,), next_moment)))
        dated = torch.cat((events.time_ns.new_full((1,), self.time_ns), events.time_ns))
        time_ns = dated[counts]
        shown = (time_ns >= 0) & (moments - time_ns <= grid.max_gap_ns)
        ends, place = torch.unique_consecutive(counts[shown], return_inverse=True)
        offsets, bid_count, price, quantity, book = self._replay(done, ends)
        rows = torch.full_like(counts, -1)
        rows[shown] = torch.where(offsets.diff()[place] > 0, place, -1)
        rest = cut_events(events, slice(done, None))
        known_ns = int(events.known_ns[done - 1]) if done else self.known_ns
        after = Replayed(book, rest, int(dated[done]), known_ns, self.applied + done)
        return Seen(price, quantity, offsets, bid_count, rows, time_ns), after

    def _replay(self, count: int, ends: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Book]:
        events = cut_events(self.events, slice(0, count))
        try:
            return replay(events.side, events.price_ticks, events.quantity_lots, ends, 0, self.book)
        except ValueError as error:
            where = f"book events of {events.symbol.name} after the first {self.applied:,}"
            raise InputError(f"{where}: {error}") from error


def _visible(events: BookEvents, moments: Tensor) -> Tensor:
    """[T] events whose time and known time are both at or before each moment; both never fall, so they come first."""
    counts = [torch.searchsorted(column, moments, right=True) for column in (events.time_ns, events.known_ns)]
    return torch.minimum(*counts)
