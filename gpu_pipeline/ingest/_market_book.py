"""Order-book snapshots of the simulated market: the touch that the trades met, and levels behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpu_pipeline.ingest._market import ONE_BITS, Integers, Piece, Rules, bits, compiled, exponential, word
from gpu_pipeline.ingest._market_rules import key_of

SNAPSHOTS_AT_ONCE = 4096
# Share of price steps behind the touch that hold no order, in 1/256.
EMPTY_LEVELS = 26
# Half of a level's quantity stays for so many snapshots.
RESTING = 6


@dataclass(frozen=True)
class BookSpec:
    """Which snapshots are taken.

    Attributes:
        seed, symbol: as of the market.
        step_ns: a snapshot at every multiple of it from the first trade to the last.
        levels: levels of each side, fewer where prices would reach zero.
        lots: mean quantity of a level.
    """

    seed: int
    symbol: str
    step_ns: int
    levels: int
    lots: int


@dataclass(frozen=True)
class Books:
    """Snapshots as values + offsets.

    Attributes:
        time_ns: [S] int64.
        offsets: [S+1] int64.
        bid_count: [S] int64.
        price_ticks: [R] int64.
        quantity_lots: [R] int64.
    """

    time_ns: Integers
    offsets: Integers
    bid_count: Integers
    price_ticks: Integers
    quantity_lots: Integers


def snapshots(market: Iterable[Piece], rules: Rules, spec: BookSpec) -> Iterator[Books]:
    """The book at every grid time: the touch of the last trade at or before it, levels behind."""
    for time_ns, bid, ask in _touches(market, spec.step_ns):
        for start in range(0, len(time_ns), SNAPSHOTS_AT_ONCE):
            cut = slice(start, start + SNAPSHOTS_AT_ONCE)
            yield _fill(rules, spec, time_ns[cut], bid[cut], ask[cut])


def _touches(market: Iterable[Piece], step_ns: int) -> Iterator[tuple[Integers, Integers, Integers]]:
    """Grid times and the touch then. A time is settled once a later trade is seen, or the market has ended."""
    held: Integers | None = None
    grid = 0
    for piece in market:
        columns = piece.columns if held is None else np.concatenate((held, piece.columns), axis=1)
        if held is None:
            grid = -(-int(columns[0, 0]) // step_ns) * step_ns
        times = np.arange(grid, int(columns[0, -1]), step_ns, dtype=np.int64)
        yield _touch_at(columns, times)
        grid += step_ns * len(times)
        held = columns[:, -1:]
    if held is not None and grid == int(held[0, 0]):
        yield _touch_at(held, np.array([grid], np.int64))


def _touch_at(columns: Integers, times: Integers) -> tuple[Integers, Integers, Integers]:
    last = np.searchsorted(columns[0], times, side="right") - 1
    return times, columns[4, last], columns[5, last]


def _fill(rules: Rules, spec: BookSpec, time_ns: Integers, bid: Integers, ask: Integers) -> Books:
    bid_count, ask_count = np.empty_like(time_ns), np.empty_like(time_ns)
    price = np.empty(2 * spec.levels * len(time_ns), np.int64)
    quantity = np.empty_like(price)
    key = key_of(spec.seed, spec.symbol, "book")
    book = time_ns // spec.step_ns
    rows = levels(key, rules.exponential, spec.levels, spec.lots, book, bid, ask, bid_count, ask_count, price, quantity)
    offsets = np.concatenate(([0], np.cumsum(bid_count + ask_count)))
    return Books(time_ns, offsets, bid_count, price[:rows].copy(), quantity[:rows].copy())


@compiled
def _level_lots(key: np.uint64, table: Integers, lots: int, book: int, price: int) -> Any:
    """Quantity at a price: half of it rests for a while, half is new."""
    rests = exponential(table, word(word(key, 2 * (book // RESTING)), price))
    comes = exponential(table, word(word(key, 2 * book + 1), price))
    return max(1, (lots * (rests + comes)) >> (ONE_BITS + 1))


@compiled
def _side(
    key: np.uint64,
    table: Integers,
    depth: int,
    lots: int,
    book: int,
    best: int,
    step: int,
    price: Integers,
    quantity: Integers,
    row: int,
) -> int:
    """Writes one side from the touch outwards; returns the next free row."""
    tick, found = best, 0
    while found < depth and tick > 0:
        empty = bits(word(word(key, 2 * (book // RESTING)), tick), 0, 8) < EMPTY_LEVELS
        if found == 0 or not empty:
            price[row], quantity[row] = tick, _level_lots(key, table, lots, book, tick)
            row += 1
            found += 1
        tick += step
    return row


@compiled
def levels(
    key: np.uint64,
    table: Integers,
    depth: int,
    lots: int,
    books: Integers,
    bid: Integers,
    ask: Integers,
    bid_count: Integers,
    ask_count: Integers,
    price: Integers,
    quantity: Integers,
) -> int:
    """Fills the level rows of all snapshots, bids best first, then asks best first; returns how many."""
    row = 0
    for place in range(len(books)):
        bids_end = _side(key, table, depth, lots, books[place], bid[place], -1, price, quantity, row)
        asks_end = _side(key, table, depth, lots, books[place], ask[place], 1, price, quantity, bids_end)
        bid_count[place], ask_count[place] = bids_end - row, asks_end - bids_end
        row = asks_end
    return row
