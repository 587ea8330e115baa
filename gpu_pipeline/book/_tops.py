"""Best bid and ask after every change of a book, and whole books now and then."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpu_pipeline.book._pieces import cut_events, join_events
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookEvents, BookSnapshots, Tensor
from kernels.book_replay import CLEAR, new_state, replay
from kernels.book_replay import State as Book

SAMPLE_NS = 10_000_000_000


@dataclass(frozen=True)
class Tops:
    """The best levels of M books in time order; a side that is missing has `has_bid` or `has_ask` False.

    Attributes:
        time_ns: [M] int64.
        update_id: [M] int64, -1 where the venue has none.
        bid_ticks, bid_lots, ask_ticks, ask_lots: [M] int64, 0 where the side is missing.
        has_bid, has_ask: [M] bool.
    """

    time_ns: Tensor
    update_id: Tensor
    bid_ticks: Tensor
    bid_lots: Tensor
    ask_ticks: Tensor
    ask_lots: Tensor
    has_bid: Tensor
    has_ask: Tensor

    @property
    def both(self) -> Tensor:
        """[M] bool: both sides are there."""
        return self.has_bid & self.has_ask

    @property
    def crossed(self) -> Tensor:
        """[M] bool: the best bid lies above the best ask."""
        return self.both & (self.bid_ticks > self.ask_ticks)

    @property
    def locked(self) -> Tensor:
        """[M] bool: the best bid is the best ask."""
        return self.both & (self.bid_ticks == self.ask_ticks)


@dataclass(frozen=True)
class State:
    """The book after the messages so far, the events of one that may go on, and when a book was last sampled."""

    book: Book
    events: BookEvents
    slot: int = -1
    applied: int = 0


def of_snapshots(books: BookSnapshots) -> Tops:
    """The first level of each side of every snapshot."""
    none = torch.full_like(books.time_ns, -1)
    return _tops(books.time_ns, none, books.offsets, books.bid_count, books.price_ticks, books.quantity_lots)


def sampled(books: BookSnapshots, slot: int) -> tuple[Tensor, int]:
    """([K] int64 the first snapshot of every ten seconds, the last of those tens)."""
    return _first_of_slots(books.time_ns, slot)


def start(events: BookEvents) -> State:
    """No book yet."""
    return State(new_state(events.time_ns.device), cut_events(events, slice(0, 0)))


def of_events(piece: BookEvents, state: State, *, closed: bool = False) -> tuple[Tops, BookSnapshots, State]:
    """The best levels after every message, and the whole book after the first message of every ten seconds.

    The last message of a piece may go on in the next one: it is told then, or with `closed`.

    Raises:
        InputError: an event that is none.
    """
    events = join_events(state.events, piece)
    ends = _message_ends(events)
    ends = ends if closed else ends[:-1]
    done = int(ends[-1]) if len(ends) else 0
    applied, last = cut_events(events, slice(0, done)), ends - 1
    time_ns = applied.time_ns[last]
    *shown, book = _replay(applied, ends, 1, state)
    tops = _tops(time_ns, applied.update_id[last], *shown)
    which, slot = _first_of_slots(time_ns, state.slot)
    offsets, bid_count, price, lots, _ = _replay(applied, ends[which], 0, state)
    books = BookSnapshots(events.symbol, time_ns[which], time_ns[which], offsets, bid_count, price, lots)
    rest = cut_events(events, slice(done, None))
    return tops, books, State(book, rest, slot, state.applied + done)


def _replay(events: BookEvents, ends: Tensor, levels: int, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor, Book]:
    try:
        return replay(events.side, events.price_ticks, events.quantity_lots, ends, levels, state.book)
    except ValueError as error:
        where = f"book events of {events.symbol.name} after the first {state.applied:,}"
        raise InputError(f"{where}: {error}") from error


def _message_ends(events: BookEvents) -> Tensor:
    """Where each message ends: times or id change, or the book is emptied for the next one."""
    if not len(events):
        return torch.arange(0, device=events.time_ns.device)
    begins = events.side[1:] == CLEAR
    for column in (events.time_ns, events.known_ns, events.update_id):
        begins |= column.diff() != 0
    inner = torch.nonzero(begins)[:, 0] + 1
    return torch.cat((inner, inner.new_full((1,), len(events))))


def _first_of_slots(time_ns: Tensor, slot: int) -> tuple[Tensor, int]:
    slots = torch.cat((time_ns.new_full((1,), slot), time_ns // SAMPLE_NS)).cummax(0).values
    return torch.nonzero(slots.diff() > 0)[:, 0], int(slots[-1])


def _tops(time_ns: Tensor, update_id: Tensor, offsets: Tensor, bid_count: Tensor, price: Tensor, lots: Tensor) -> Tops:
    has_bid, has_ask = bid_count > 0, bid_count < offsets.diff()
    bid, ask = offsets[:-1], offsets[:-1] + bid_count
    # One row more: an empty book at the end points behind the last level.
    price, lots = (torch.cat((column, column.new_zeros(1))) for column in (price, lots))
    best = [torch.where(has, column[at], 0) for has, at in ((has_bid, bid), (has_ask, ask)) for column in (price, lots)]
    return Tops(time_ns, update_id, best[0], best[1], best[2], best[3], has_bid, has_ask)
