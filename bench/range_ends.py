"""Where range bars close, beside a plain loop."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import torch

from bench._inputs import fitting, size, trades, words
from bench._measure import Case
from kernels.range_ends import new_state, range_ends

TESTS = "tests/kernels/test_range_ends.py"
TICKS = 36


@numba.njit(nogil=True)
def plain(price, ticks, ends):
    """What one writes first: high and low of the bar, afresh after each close."""
    high = low = price[0]
    bars = 0
    for row in range(len(price)):
        high, low = max(high, price[row]), min(low, price[row])
        if high - low >= ticks:
            ends[bars] = row + 1
            bars += 1
            if row + 1 < len(price):
                high = low = price[row + 1]
    return bars


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Prices to ends; a bar has 1,000 trades in the mean."""
    rows = fitting(size(device, tiny, cpu=10_000_000, cuda=1_000_000_000, small=100_000), 80, device)
    price, state = trades(rows, device).price_ticks, new_state(device)
    moved = price.nbytes + 8 * len(range_ends(price, TICKS, state)[0])
    shape = f"{words(rows)} trades"
    yield Case("range_ends", "ours", shape, rows, "trades", lambda: range_ends(price, TICKS, state), moved)
    if device.type == "cpu":
        array, ends = price.numpy(), np.empty(rows, np.int64)
        call = lambda: plain(array, TICKS, ends)  # noqa: E731
        yield Case("range_ends", "plain numba loop, 1 thread", shape, rows, "trades", call, moved)
