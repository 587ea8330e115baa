"""Where cusum bars close, beside a plain loop in floats."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numba
import numpy as np
import torch

from bench._inputs import fitting, size, trades, words
from bench._measure import Case
from kernels.cusum_ends import cusum_ends, new_state

TESTS = "tests/kernels/test_cusum_ends.py tests/kernels/test_log.py"
# Bars of about 1,000 trades; bars of 2, the worst case, where almost every trade needs its logarithm.
THRESHOLDS = {"1,000 a bar": 35_000, "2 a bar": 1_000}


@numba.njit(nogil=True)
def plain(price, threshold, ends):
    """The filter as printed (AFML, snippet 2.4), its threshold in log price."""
    up, down, bars = 0.0, 0.0, 0
    before = math.log(price[0])
    for row in range(1, len(price)):
        now = math.log(price[row])
        up, down = max(0.0, up + now - before), min(0.0, down + now - before)
        before = now
        if up >= threshold or down <= -threshold:
            up, down = (0.0, down) if up >= threshold else (up, 0.0)
            ends[bars] = row + 1
            bars += 1
    return bars


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Prices to ends."""
    rows = fitting(size(device, tiny, cpu=10_000_000, cuda=1_000_000_000, small=100_000), 110, device)
    price = trades(rows, device).price_ticks
    for name, threshold in THRESHOLDS.items():
        yield from _pair(price, threshold, f"{words(rows)} trades, {name}")


def _pair(price: torch.Tensor, threshold: int, shape: str) -> Iterator[Case]:
    state, rows = new_state(price.device), len(price)
    moved = price.nbytes + 8 * len(cusum_ends(price, threshold, state)[0])
    yield Case("cusum_ends", "ours", shape, rows, "trades", lambda: cusum_ends(price, threshold, state), moved)
    if price.device.type == "cpu":
        array, ends = price.numpy(), np.empty(rows, np.int64)
        call = lambda: plain(array, threshold * 1e-9, ends)  # noqa: E731
        yield Case("cusum_ends", "plain numba loop, 1 thread", shape, rows, "trades", call, moved)
