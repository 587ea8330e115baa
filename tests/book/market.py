"""Small random order books for tests."""

from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal

import numpy as np
import torch

from gpu_pipeline.core.schema import BookEvents, BookSnapshots, Symbol

SYMBOL = Symbol("BTCUSDT", Decimal("0.01"), Decimal("0.001"))
SECOND = 10**9


def book_of(time_ns, sides, known_ns=None) -> BookSnapshots:
    """Snapshots from `sides`: per snapshot (bids, asks), each a list of (ticks, lots), best first."""
    levels = [level for bids, asks in sides for level in [*bids, *asks]]
    sizes = [len(bids) + len(asks) for bids, asks in sides]
    table = torch.tensor(levels, dtype=torch.int64).reshape(-1, 2)
    times = torch.tensor(list(time_ns), dtype=torch.int64)
    return BookSnapshots(
        symbol=SYMBOL,
        time_ns=times,
        known_ns=times.clone() if known_ns is None else torch.tensor(list(known_ns), dtype=torch.int64),
        offsets=torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int64),
        bid_count=torch.tensor([len(bids) for bids, _ in sides], dtype=torch.int64),
        price_ticks=table[:, 0].clone(),
        quantity_lots=table[:, 1].clone(),
    )


def random_sides(seed: int, count: int, deepest: int = 12):
    draw = np.random.default_rng(seed)
    sides = []
    for _ in range(count):
        mid = 10_000 + int(draw.integers(-50, 50))
        bids = mid - 1 - np.cumsum(draw.integers(1, 4, draw.integers(1, deepest)))
        asks = mid + 1 + np.cumsum(draw.integers(1, 4, draw.integers(1, deepest)))
        lots = [draw.integers(0, 1_000, len(side)).tolist() for side in (bids, asks)]
        sides.append((list(zip(bids.tolist(), lots[0], strict=True)), list(zip(asks.tolist(), lots[1], strict=True))))
    return sides


def random_book(seed: int, count: int = 60, *, mean_gap_s: float = 7.0, delay_s: float = 0.0) -> BookSnapshots:
    draw = np.random.default_rng(seed + 1_000)
    gaps = np.maximum(1, (draw.exponential(mean_gap_s, count) * SECOND)).astype(np.int64)
    time_ns = 1_582_329_600 * SECOND + np.cumsum(gaps)
    delay = (draw.exponential(delay_s, count) * SECOND).astype(np.int64) if delay_s else np.zeros(count, np.int64)
    return book_of(time_ns.tolist(), random_sides(seed, count), (time_ns + delay).tolist())


EVENT_COLUMNS = ("time_ns", "known_ns", "side", "price_ticks", "quantity_lots", "update_id")
DEPTH_COLUMNS = ("depth", "beyond", "time_ns", "known_ns", "age_ns", "valid", "filled")


def events_of(rows, symbol=SYMBOL) -> BookEvents:
    """Events from rows (time_ns, known_ns, side, price_ticks, quantity_lots, update_id)."""
    table = torch.tensor(list(rows), dtype=torch.int64).reshape(-1, 6)
    return BookEvents(symbol, **{name: table[:, at].clone() for at, name in enumerate(EVENT_COLUMNS)})


def random_events(seed: int, messages: int = 60, *, mean_gap_s: float = 3.0, delay_s: float = 0.0) -> BookEvents:
    """A snapshot, changes around a touch that never crosses, and now and then a gap with a new snapshot after it."""
    draw = np.random.default_rng(seed + 2_000)
    time_ns = 1_582_329_600 * SECOND + int(draw.integers(0, 20 * SECOND))
    known_ns, mid, rows = 0, 10_000, []
    for update in range(messages):
        time_ns += int(draw.exponential(mean_gap_s) * SECOND)
        known_ns = max(known_ns, time_ns + int(draw.exponential(delay_s) * SECOND if delay_s else 0))
        kind = "snapshot" if update == 0 else draw.choice(["change", "snapshot", "gap"], p=[0.9, 0.06, 0.04])
        changes = []
        if kind != "change":
            changes.append((0, 0, 0))
        if kind == "snapshot":
            changes += [(1, mid - 1 - i, 1 + int(draw.integers(9))) for i in range(6)]
            changes += [(-1, mid + 1 + i, 1 + int(draw.integers(9))) for i in range(6)]
        if kind == "change":
            for _ in range(int(draw.integers(1, 5))):
                side = int(draw.choice([1, -1]))
                changes.append((side, mid - side * int(draw.integers(1, 12)), int(draw.integers(0, 6))))
        rows += [(time_ns, known_ns, *change, 100 + update) for change in changes]
    return events_of(rows)


def rows_of(events: BookEvents):
    return list(zip(*(getattr(events, name).tolist() for name in EVENT_COLUMNS), strict=True))


def replayed(events: BookEvents, moment_ns: int):
    """(bids, asks, time of the last change or None) at a moment: a plain dictionary per side."""
    sides, last = {1: {}, -1: {}}, None
    for time_ns, known_ns, side, price, quantity, _ in rows_of(events):
        if time_ns > moment_ns or known_ns > moment_ns:
            continue
        last = time_ns
        if side == 0:
            sides = {1: {}, -1: {}}
        elif quantity:
            sides[side][price] = quantity
        else:
            sides[side].pop(price, None)
    return sorted(sides[1].items(), reverse=True), sorted(sides[-1].items()), last


def as_snapshots(events: BookEvents) -> BookSnapshots:
    """The book after every message of a feed whose messages are known one after the other."""
    ids = sorted(set(events.update_id.tolist()))
    times, known, sides = [], [], []
    for update in ids:
        until = int(torch.searchsorted(events.update_id, update, right=True))
        part = cut(events, slice(0, until))
        times.append(int(part.time_ns[-1]))
        known.append(int(part.known_ns[-1]))
        sides.append(replayed(part, 1 << 62)[:2])
    return book_of(times, sides, known)


def as_events(books: BookSnapshots) -> BookEvents:
    """Every snapshot as one message that empties the book and sets all levels."""
    rows = []
    for at in range(len(books)):
        when = (int(books.time_ns[at]), int(books.known_ns[at]))
        rows.append((*when, 0, 0, 0, at))
        begin, stop, bids = int(books.offsets[at]), int(books.offsets[at + 1]), int(books.bid_count[at])
        for row in range(begin, stop):
            side = 1 if row < begin + bids else -1
            rows.append((*when, side, int(books.price_ticks[row]), int(books.quantity_lots[row]), at))
    return events_of(rows)


def cut(piece, rows: slice):
    """Some consecutive events or snapshots."""
    if isinstance(piece, BookEvents):
        return replace(piece, **{name: getattr(piece, name)[rows] for name in EVENT_COLUMNS})
    start, stop, _ = rows.indices(len(piece))
    first, last = int(piece.offsets[start]), int(piece.offsets[stop])
    columns = {name: getattr(piece, name)[start:stop] for name in ("time_ns", "known_ns", "bid_count")}
    levels = {name: getattr(piece, name)[first:last] for name in ("price_ticks", "quantity_lots")}
    return replace(piece, offsets=piece.offsets[start : stop + 1] - first, **columns, **levels)


def in_pieces(piece, cuts):
    edges = [0, *sorted(min(at, len(piece)) for at in cuts), len(piece)]
    return [cut(piece, slice(a, b)) for a, b in itertools.pairwise(edges)]


def folded(form, config, pieces):
    """The depth of pieces, one call after the other."""
    parts, state = [], None
    for piece in pieces:
        depth, state = form.step(piece, config, state)
        parts.append(depth)
    parts.append(form.end(config, state)[0])
    return replace(parts[0], **{name: torch.cat([getattr(part, name) for part in parts]) for name in DEPTH_COLUMNS})


def same(left, right, columns=DEPTH_COLUMNS):
    for name in columns:
        assert getattr(left, name).numpy().tobytes() == getattr(right, name).numpy().tobytes(), name
