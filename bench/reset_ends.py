"""Where bars close under the reset rule, beside a plain loop."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import torch

from bench._inputs import fitting, size, trades, words
from bench._measure import Case
from kernels.reset_ends import reset_ends

TESTS = "tests/kernels/test_reset_ends.py"


@numba.njit(nogil=True)
def plain(amount, threshold, ends):
    """What one writes first: sum up, close, start at zero."""
    total, bars = 0, 0
    for row in range(len(amount)):
        total += amount[row]
        if total >= threshold:
            ends[bars] = row + 1
            bars += 1
            total = 0
    return bars


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Notional to ends; a bar has 1,000 trades in the mean."""
    rows = fitting(size(device, tiny, cpu=10_000_000, cuda=1_000_000_000, small=100_000), 60, device)
    columns = trades(rows, device)
    amount, threshold, state = columns.notional, columns.threshold, torch.zeros(1, dtype=torch.int64, device=device)
    del columns
    moved = amount.nbytes + 8 * len(reset_ends(amount, threshold, state)[0])
    shape = f"{words(rows)} trades"
    yield Case("reset_ends", "ours", shape, rows, "trades", lambda: reset_ends(amount, threshold, state), moved)
    if device.type == "cpu":
        array, ends = amount.numpy(), np.empty(rows, np.int64)
        call = lambda: plain(array, threshold, ends)  # noqa: E731
        yield Case("reset_ends", "plain numba loop, 1 thread", shape, rows, "trades", call, moved)
