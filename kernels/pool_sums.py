"""Longer bars from shorter ones when their trades are no longer at hand: the integer sums of runs of successive bars.

Power sums move from each bar's open to the open of the first one by the binomial theorem, modulo 2^128. The change from
the last price of one bar to the first price of the next is a move like any other. So the pool of bars has the bits that
`bar_sums` gives for their trades, in every row. Bars without trades pool as nothing.
Bounds: those of `bar_sums`, and the sum of (price_ticks - open) over a bar < 2^63 in absolute value.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import cuda, int64

from kernels._bar_columns import (
    CHANGES,
    CLOSE,
    COUNT,
    FIRST_MOVE,
    HIGH,
    LAST_MOVE,
    LOW,
    OPEN,
    S1,
    S2,
    S3,
    S4,
    TURNS,
    K,
    merge,
)
from kernels._op import SIMULATED, in_threads, jit, launch, new_rows, require, require_one_device
from kernels._powers import recentred

# A bar of less span and fewer trades has power sums of 64 bits: 2^14 x (2^12)^4 = 2^62.
NARROW, FEW = 1 << 12, 1 << 14
BARS_PER_THREAD = 1 << 14
THREADS = 4 if SIMULATED else 32
# Two columns of a block's table per thread: what it joined so far, and the bar that comes next.
WIDTH = 2 * THREADS


def pool_sums(
    sums: torch.Tensor,  # [K, B] int64, from bar_sums: bars that follow each other
    ends: torch.Tensor,  # [P] int64, non-decreasing, in [0, B]: a pool is the bars [previous end, end)
) -> torch.Tensor:
    """Return [K, P] int64, the rows of bar_sums.COLUMNS; a pool without trades is all zeros.

    Bars from the last end on are left out. On CUDA nothing waits, and `ends` are not checked.

    Raises:
        ValueError: shapes that do not agree; ends that fall or leave [0, B] (CPU).
    """
    sums = require("pool_sums", "sums", sums, torch.int64, K, None)
    ends = require("pool_sums", "ends", ends, torch.int64, None)
    require_one_device("pool_sums", sums=sums, ends=ends)
    return _pool_sums(sums, ends)


@jit
def narrow_recentred(n, s1, s2, s3, s4, c):
    """Return what recentred does, where n x (the largest |d| and |d + c|)^4 < 2^62: every sum fits 64 bits."""
    t2 = s2 + c * (2 * s1 + c * n)
    t3 = s3 + c * (3 * s2 + c * (3 * s1 + c * n))
    t4 = s4 + c * (4 * s3 + c * (6 * s2 + c * (4 * s1 + c * n)))
    return s1 + n * c, t2 >> 63, t2, t3 >> 63, t3, t4 >> 63, t4


@jit
def recentre(parts, bar, origin):
    """Move the power sums of parts[:, bar] from its open to `origin`."""
    n, c = parts[COUNT, bar], parts[OPEN, bar] - origin
    low, high = min(parts[LOW, bar], origin), max(parts[HIGH, bar], origin)
    s1, s2h, s2l, s3h, s3l = parts[S1, bar], parts[S2, bar], parts[S2 + 1, bar], parts[S3, bar], parts[S3 + 1, bar]
    s4h, s4l = parts[S4, bar], parts[S4 + 1, bar]
    if high - low < NARROW and n < FEW:
        s1, s2h, s2l, s3h, s3l, s4h, s4l = narrow_recentred(n, s1, s2l, s3l, s4l, c)
    else:
        s1, s2h, s2l, s3h, s3l, s4h, s4l = recentred(n, s1, s2h, s2l, s3h, s3l, s4h, s4l, c)
    parts[S1, bar], parts[S2, bar], parts[S2 + 1, bar] = s1, s2h, s2l
    parts[S3, bar], parts[S3 + 1, bar], parts[S4, bar], parts[S4 + 1, bar] = s3h, s3l, s4h, s4l


@jit
def join(parts, left, right):
    """Add parts[:, right] to parts[:, left], the trades just before: power sums about one origin."""
    before, after = parts[CLOSE, left], parts[OPEN, right]
    if parts[COUNT, left] > 0 and parts[COUNT, right] > 0 and before != after:
        move = 1 if after > before else -1
        parts[CHANGES, left] += 1
        parts[TURNS, left] += 1 if parts[LAST_MOVE, left] + move == 0 else 0
        parts[FIRST_MOVE, left] = move if parts[FIRST_MOVE, left] == 0 else parts[FIRST_MOVE, left]
        parts[LAST_MOVE, left] = move
    merge(parts, left, right)


@jit
def first_open(sums, begin, end):
    """Return the open of the first of the bars [begin, end) that has trades; 0 where none has."""
    for bar in range(begin, end):
        if sums[COUNT, bar] > 0:
            return sums[OPEN, bar]
    return 0


@jit
def add_bars(sums, begin, end, origin, parts, left, spare):
    """Join the bars [begin, end) to parts[:, left] one by one, each by way of parts[:, spare]."""
    for bar in range(begin, end):
        if sums[COUNT, bar] > 0:
            for column in range(K):
                parts[column, spare] = sums[column, bar]
            recentre(parts, spare, origin)
            join(parts, left, spare)


@jit
def spec(sums, begin, end, parts):
    """Write to parts[:, 0] the pool of the bars [begin, end); parts[:, 1] is scratch."""
    for column in range(K):
        parts[column, 0] = 0
    add_bars(sums, begin, end, first_open(sums, begin, end), parts, 0, 1)


@jit
def _pools(sums, ends, out, low, high):
    # One pool is made in one small array: the rows of `out` lie far apart in memory.
    parts = np.empty((K, 2), np.int64)
    for pool in range(low, high):
        spec(sums, ends[pool - 1] if pool > 0 else 0, ends[pool], parts)
        for column in range(K):
            out[column, pool] = parts[column, 0]


@torch.library.custom_op("gpu_pipeline::pool_sums", mutates_args=(), device_types="cpu")
def _pool_sums(sums: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    stops, bars = ends.numpy(), sums.numpy()
    _check_ends(stops, sums.shape[1])
    out = np.empty((K, len(stops)), np.int64)
    in_threads(lambda low, high: _pools(bars, stops, out, low, high), _cuts(stops))
    return torch.from_numpy(out)


@_pool_sums.register_kernel("cuda")
def _(sums, ends):
    return launch_pool_sums(sums, ends)


@_pool_sums.register_fake
def _(sums, ends):
    return sums.new_empty(K, ends.shape[0])


def _check_ends(ends: np.ndarray, bars: int) -> None:
    wrong = np.flatnonzero((ends < np.concatenate(([0], ends[:-1]))) | (ends > bars))
    if wrong.size:
        raise ValueError(
            f"pool_sums: ends must not fall and must lie in [0, {bars}], ends[{wrong[0]}] is {ends[wrong[0]]}; "
            "give the ends of these bars"
        )


def _cuts(ends: np.ndarray) -> list[int]:
    """Split the pools among torch's threads so that each gets about as many bars."""
    bars = int(ends[-1]) if len(ends) else 0
    threads = max(1, min(torch.get_num_threads(), bars // BARS_PER_THREAD))
    inner = np.searchsorted(ends, [bars * part // threads for part in range(1, threads)]).tolist()
    return [0, *inner, len(ends)]


def launch_pool_sums(sums, ends):
    """Run the kernel on torch's current stream, or in the simulator on numpy arrays; return [K, P]."""
    out = new_rows(sums, K, ends.shape[0])
    launch(_pool_kernel, ends.shape[0], THREADS, sums, ends, out)
    return out


@cuda.jit
def _pool_kernel(sums, ends, out):
    """One block per pool: every thread joins a share of its bars, then shares join in pairs."""
    parts = cuda.shared.array((K, WIDTH), int64)
    pool, thread = cuda.blockIdx.x, cuda.threadIdx.x
    begin, end = ends[pool - 1] if pool > 0 else 0, ends[pool]
    for column in range(K):
        parts[column, thread] = 0
    low = begin + (end - begin) * thread // THREADS
    high = begin + (end - begin) * (thread + 1) // THREADS
    if low < high:
        add_bars(sums, low, high, first_open(sums, begin, end), parts, thread, THREADS + thread)
    step = 1
    while step < THREADS:
        cuda.syncthreads()
        if thread % (2 * step) == 0:
            join(parts, thread, thread + step)
        step *= 2
    cuda.syncthreads()
    for column in range(thread, K, THREADS):
        out[column, pool] = parts[column, 0]
