"""A book from its level changes: the top after every message, or 1,000 levels a side on a grid; and a plain loop."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from bench._inputs import size, words
from bench._measure import Case
from kernels.book_replay import ASK, BID, new_state, replay, spec

TESTS = "tests/kernels/test_book_replay.py"
MESSAGE, GRID, DEEP = 64, 1024, 1000


def changes(rows: int, device: torch.device, seed: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Side, price and quantity of E events: a book of about 2,000 levels a side around a mid price that wanders."""
    random = np.random.default_rng(seed)
    side = np.repeat(random.choice([BID, ASK], rows // 16 + 1), 16)[:rows]
    middle = 1_000_000 + np.cumsum(random.integers(-1, 2, rows)) // 8
    price = middle - side * (1 + random.exponential(700, rows).astype(np.int64))
    quantity = random.integers(1, 10_000, rows) * (random.random(rows) < 0.7)
    return tuple(torch.from_numpy(x).to(device) for x in (side, price, quantity))


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Events to the top of the book after every message, and to 1,000 levels a side now and then."""
    rows = size(device, tiny, cpu=1_000_000, cuda=10_000_000, small=20_000)
    events, state = changes(rows, device), new_state(device)
    ends = torch.arange(MESSAGE, rows, MESSAGE, device=device)
    for levels, picked in ((1, ends), (DEEP, ends[:: GRID // MESSAGE])):

        def ours(levels: int = levels, picked: torch.Tensor = picked) -> object:
            return replay(*events, picked, levels, state)

        shown = len(replay(*events, picked, levels, state)[2])
        shape = f"{words(rows)} events, {words(len(picked))} outputs of {levels} a side"
        moved = 24 * rows + 8 * len(picked) + 16 * shown
        yield Case("book_replay", "ours", shape, rows, "events", ours, moved)
        if device.type == "cpu" and levels == 1:
            read = [x.numpy() for x in events]

            def plain(read: list[np.ndarray] = read) -> object:
                books = np.empty((2, 2, rows), np.int64)
                return [spec(mine, *read, 0, rows, *books[half], 0) for half, mine in enumerate((BID, ASK))]

            yield Case("book_replay", "plain sorted arrays, 1 thread, no outputs", shape, rows, "events", plain, moved)
