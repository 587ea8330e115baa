"""Which messages of a depth feed apply."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench._inputs import size, words
from bench._measure import Case
from kernels.book_sequence import book_sequence

TESTS = "tests/kernels/test_book_sequence.py"
SNAPSHOT_EVERY = 10_000


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """A feed that chains, with a snapshot now and then; a day of one instrument has about a million messages."""
    count = size(device, tiny, cpu=1_000_000, cuda=1_000_000, small=10_000)
    final = torch.arange(count, device=device) * 1_000 + torch.randint(0, 900, (count,), device=device)
    previous = torch.cat((final[:1] - 1, final[:-1]))
    first = previous + 1
    is_snapshot = torch.arange(count, device=device) % SNAPSHOT_EVERY == 0
    state, moved = torch.zeros(2, dtype=torch.int64, device=device), 33 * count

    def ours() -> object:
        return book_sequence(first, final, previous, is_snapshot, "futures", state)

    yield Case("book_sequence", "ours", f"{words(count)} messages", count, "messages", ours, moved)
