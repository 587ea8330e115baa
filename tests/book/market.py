"""Small random order books for tests."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import torch

from gpu_pipeline.core.schema import BookSnapshots, Symbol

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
