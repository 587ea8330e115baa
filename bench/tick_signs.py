"""The tick rule, beside a plain loop."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import torch

from bench._inputs import fitting, size, trades, words
from bench._measure import Case
from kernels.tick_signs import initial_state, tick_signs

TESTS = "tests/kernels/test_tick_signs.py"


@numba.njit(nogil=True)
def plain(price, sign):
    """What one writes first: compare with the trade before, else keep the sign."""
    last = 0
    for row in range(1, len(price)):
        if price[row] > price[row - 1]:
            last = 1
        elif price[row] < price[row - 1]:
            last = -1
        sign[row] = last


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Prices to signs; two of three trades move the price."""
    rows = fitting(size(device, tiny, cpu=10_000_000, cuda=1_000_000_000, small=100_000), 60, device)
    price, state, shape = trades(rows, device).price_ticks, initial_state(device), f"{words(rows)} trades"
    moved = price.nbytes + rows
    yield Case("tick_signs", "ours", shape, rows, "trades", lambda: tick_signs(price, state), moved)
    if device.type == "cpu":
        array, sign = price.numpy(), np.zeros(rows, np.int8)
        call = lambda: plain(array, sign)  # noqa: E731
        yield Case("tick_signs", "plain numba loop, 1 thread", shape, rows, "trades", call, moved)
