"""Resident trades to complete dollar bars: ends, sums, all columns; beside one plain loop that closes and sums."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import torch

from bench._inputs import fitting, size, trades, words
from bench._measure import Case
from bench._tables import SYMBOL
from bench.bar_sums import plain as plain_sums
from bench.reset_ends import plain as plain_ends
from gpu_pipeline.bars._aggregate import to_bars
from kernels.bar_sums import K, bar_sums
from kernels.reset_ends import reset_ends

TESTS = (
    "tests/bars/test_dollar.py tests/bars/test_aggregate.py "
    "tests/kernels/test_reset_ends.py tests/kernels/test_bar_sums.py tests/bars/test_device.py"
)
COLUMN_BYTES = 25 * 8


@numba.njit(nogil=True)
def plain(time, price, quantity, notional, sold, threshold, ends, sums, out):
    """What one writes first, on one thread: ends, then sums, then the columns of each bar."""
    bars = plain_ends(notional, threshold, ends)
    plain_sums(time, price, quantity, notional, sold, ends[:bars], sums)
    for bar in range(bars):
        count, volume, value, bought = sums[bar, 8], sums[bar, 9], sums[bar, 10], sums[bar, 11]
        mean, p2, p3, p4 = sums[bar, 12] / count, sums[bar, 13] / count, sums[bar, 14] / count, sums[bar, 15] / count
        m2 = p2 - mean**2
        m3 = p3 - 3 * mean * p2 + 2 * mean**3
        m4 = p4 - 4 * mean * p3 + 6 * mean**2 * p2 - 3 * mean**4
        out[bar, 0], out[bar, 1], out[bar, 2], out[bar, 3] = volume, value, bought, volume - bought
        out[bar, 4] = value / volume if volume else np.nan
        out[bar, 5] = (2 * bought - volume) / volume if volume else 0.0
        out[bar, 6] = bought / (volume - bought) if volume > bought else np.nan
        out[bar, 7], out[bar, 8] = sums[bar, 4] + mean, np.sqrt(m2)
        out[bar, 9], out[bar, 10] = (m3 / m2**1.5, m4 / m2**2 - 3) if m2 > 0 else (0.0, 0.0)
    return bars


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Dollar bars of 1,000 trades in the mean, `reset` rule."""
    rows = fitting(size(device, tiny, cpu=10_000_000, cuda=1_000_000_000, small=100_000), 60, device)
    columns = trades(rows, device)
    threshold, nothing = columns.threshold, torch.zeros(K, dtype=torch.int64, device=device)

    def ours() -> object:
        ends, _ = reset_ends(columns.notional, threshold, nothing[:1])
        sums, _ = bar_sums(*columns, ends, 0, nothing)
        return to_bars(sums, SYMBOL, "dollar")

    bars = len(ours().columns["close"])
    shape, moved = f"{words(rows)} trades, {words(bars)} bars", columns.nbytes + COLUMN_BYTES * bars
    yield Case("dollar bars", "ours", shape, rows, "trades", ours, moved)
    if device.type == "cpu":
        arrays = [column.numpy() for column in columns]
        out = np.empty(rows, np.int64), np.empty((bars, 20)), np.empty((bars, 11))
        peer = "plain numba loops, 1 thread"
        yield Case("dollar bars", peer, shape, rows, "trades", lambda: plain(*arrays, threshold, *out), moved)
