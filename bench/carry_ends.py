"""Where bars close under the carry rule."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench._inputs import fitting, size, trades, words
from bench._measure import Case
from kernels.carry_ends import carry_ends

TESTS = "tests/kernels/test_carry_ends.py"


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Notional to ends; a bar has 1,000 trades in the mean."""
    rows = fitting(size(device, tiny, cpu=10_000_000, cuda=1_000_000_000, small=100_000), 60, device)
    columns = trades(rows, device)
    amount, threshold, state = columns.notional, columns.threshold, torch.zeros(1, dtype=torch.int64, device=device)
    del columns
    moved = amount.nbytes + 8 * len(carry_ends(amount, threshold, state)[0])

    def ours() -> object:
        return carry_ends(amount, threshold, state)

    yield Case("carry_ends", "ours", f"{words(rows)} trades", rows, "trades", ours, moved)
