"""Sums of short bars to those of medium ones, ten to one, beside a plain loop with power sums in floats; and back."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import torch

from bench._inputs import fitting, size, trades, words
from bench._measure import Case
from kernels.bar_sums import COUNT, K, bar_sums
from kernels.centred_moments import MOMENTS, centred_moments
from kernels.pool_sums import pool_sums
from kernels.uncentred_moments import POWERS, uncentred_moments

TESTS = "tests/kernels/test_pool_sums.py tests/kernels/test_uncentred_moments.py"
TRADES, BARS = 20, 10


@numba.njit(nogil=True)
def plain(bars, powers, ends, out, out_powers):
    """What one writes first: one loop over rows [B, 16] and float power sums [B, 4], moved to the first bar's open."""
    begin = 0
    for pool in range(len(ends)):
        end = ends[pool]
        mine, mine_powers = out[pool], out_powers[pool]
        mine[:], mine_powers[:] = bars[begin], powers[begin]
        for bar in range(begin + 1, end):
            row, p = bars[bar], powers[bar]
            n, c = float(row[8]), float(row[4] - mine[4])
            p1, p2, p3, p4 = p[0], p[1], p[2], p[3]
            mine_powers[0] += p1 + c * n
            mine_powers[1] += p2 + 2 * c * p1 + c**2 * n
            mine_powers[2] += p3 + 3 * c * p2 + 3 * c**2 * p1 + c**3 * n
            mine_powers[3] += p4 + 4 * c * p3 + 6 * c**2 * p2 + 4 * c**3 * p1 + c**4 * n
            step = np.sign(row[4] - mine[7])
            for move in (step, row[14]):
                if move and mine[15] and move != mine[15]:
                    mine[13] += 1
                if move and not mine[14]:
                    mine[14] = move
                mine[15] = move if move else mine[15]
            mine[12] += row[12] + abs(step)
            mine[13] += row[13]
            mine[15] = row[15] if row[15] else mine[15]
            mine[1], mine[3], mine[7] = row[1], row[3], row[7]
            mine[5], mine[6] = max(mine[5], row[5]), min(mine[6], row[6])
            for column in range(8, 12):
                mine[column] += row[column]
        begin = end


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Sums of bars of twenty trades, ten of them to a longer bar."""
    bars = fitting(size(device, tiny, cpu=500_000, cuda=20_000_000, small=5_000), 8 * K * 12 // 10, device)
    sums = _sums(bars, device)
    ends = torch.arange(BARS, bars + 1, BARS, device=device)
    shape, moved = f"{words(bars)} bars", 8 * K * (bars + len(ends)) + ends.nbytes
    yield Case("pool_sums", "ours", shape, bars, "bars", lambda: pool_sums(sums, ends), moved)
    if device.type == "cpu":
        integers = np.ascontiguousarray(np.delete(sums.numpy(), range(12, 19), 0).T)
        powers = np.ascontiguousarray(sums.numpy()[[12, 14, 16, 18]].T.astype(np.float64))
        out = np.empty((len(ends), 16), np.int64), np.empty((len(ends), 4))
        peer = "plain numba loop, 1 thread"
        yield Case("pool_sums", peer, shape, bars, "bars", lambda: plain(integers, powers, ends.numpy(), *out), moved)
    count, moments = sums[COUNT].contiguous(), centred_moments(sums)
    moved = 8 * (1 + len(MOMENTS) + len(POWERS)) * bars
    yield Case("uncentred_moments", "ours", shape, bars, "bars", lambda: uncentred_moments(moments, count), moved)


def _sums(bars: int, device: torch.device) -> torch.Tensor:
    """Bars of TRADES trades each, a million at a time; [K, bars]."""
    parts, nothing = [], torch.zeros(K, dtype=torch.int64, device=device)
    for begin in range(0, bars, 1_000_000):
        count = min(1_000_000, bars - begin)
        ends = torch.arange(TRADES, count * TRADES + 1, TRADES, device=device)
        parts.append(bar_sums(*trades(count * TRADES, device, begin), ends, begin * TRADES, nothing)[0])
    return torch.cat(parts, dim=1)
