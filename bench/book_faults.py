"""What is wrong with order-book snapshots."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench._inputs import size, words
from bench._measure import Case
from kernels.book_faults import book_faults

TESTS = "tests/kernels/test_book_faults.py"
DAY, SIDE = 8_640, 1_000


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """A day of snapshots of 1,000 levels a side every 10 s, nothing wrong with them."""
    snapshots = size(device, tiny, cpu=DAY, cuda=DAY, small=20)
    level = torch.arange(SIDE, device=device)
    price = torch.cat((100_000 - level, 100_001 + level)).repeat(snapshots)
    lots = torch.randint(1, 10_000, (len(price),), device=device)
    offsets = torch.arange(snapshots + 1, device=device) * 2 * SIDE
    count = torch.full((snapshots,), SIDE, device=device)
    moved = 2 * price.nbytes + 32 * snapshots

    def ours() -> object:
        return book_faults(price, lots, offsets, count)

    shape = f"{words(snapshots)} x 2 x {SIDE} levels"
    yield Case("book_faults", "ours", shape, len(price), "level rows", ours, moved)
