"""Exact integer power sums of a bar's prices about (nearly) their mean, so that float central moments do not cancel.

With d = price_ticks - open and n trades, shift = floor((2 s1 + n) / (2 n)), the mean of d rounded to the nearest tick
(halves up), and t_k = sum of (d - shift)^k by the binomial theorem, modulo 2^128. Exact where n x (high - low)^4 is
below 2^126, which is checked: a million trades over 90 million ticks, or 2^31 trades over 14 million.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import cuda

from kernels._bar_columns import COUNT, HIGH, LOW, S1, S2, S3, S4, K
from kernels._blocks import NO_ROW
from kernels._int128 import multiply, scale
from kernels._op import SIMULATED, jit, launch, new_filled, new_rows, require
from kernels._powers import narrow_recentred, recentred
from kernels._spread import spread

MOMENTS = ("shift", "t1", "t2_hi", "t2_lo", "t3_hi", "t3_lo", "t4_hi", "t4_lo")
# The largest span whose square is below 2^63.
WIDEST_SPAN = 3_037_000_499
# A bar of less span and fewer trades has power sums of 64 bits, about its open and its mean: 2^14 x (2^12)^4 = 2^62.
NARROW, FEW = 1 << 12, 1 << 14
BARS_PER_THREAD = 1 << 14
THREADS = 4 if SIMULATED else 128


def centred_moments(
    sums: torch.Tensor,  # [K, B] int64, from bar_sums
) -> torch.Tensor:
    """Return [8, B] int64, the rows of MOMENTS: ticks, and sums of ticks^k, the last six in 128-bit words (high, low).

    An empty bar is all zeros. On CUDA the check of the bounds waits for the device.

    Raises:
        ValueError: a bar whose count x (high - low)^4 is 2^126 or more.
    """
    return _centred_moments(require("centred_moments", "sums", sums, torch.int64, K, None))


def refuse_wide(sums, bar: int) -> None:
    """Raise where a pass over the bars met one whose moments are not exact, NO_ROW meaning none."""
    if bar != NO_ROW:
        raise ValueError(
            f"centred_moments: bar {bar} spans {int(sums[HIGH, bar] - sums[LOW, bar])} ticks over "
            f"{int(sums[COUNT, bar])} trades; count x span^4 must stay below 2^126: use a coarser price tick or "
            "shorter bars"
        )


@jit
def too_wide(n, span):
    """Return whether n x span^4 is 2^126 or more."""
    if span > WIDEST_SPAN:
        return n > 0
    high, low = multiply(span * span, span * span)
    over, rest = multiply(high, n)
    total, _ = scale(high, low, n)
    return over != 0 or rest < 0 or total < 0 or total >= 1 << 62


@jit
def spec(sums, bar, out, at):
    """Write the moments of one bar to out[:, at]; return False where they would not be exact."""
    for row in range(8):
        out[row, at] = 0
    n, s1, span = sums[COUNT, bar], sums[S1, bar], sums[HIGH, bar] - sums[LOW, bar]
    if n == 0:
        return True
    c = (2 * s1 + n) // (2 * n)
    out[0, at] = c
    s2h, s2l, s3h, s3l = sums[S2, bar], sums[S2 + 1, bar], sums[S3, bar], sums[S3 + 1, bar]
    s4h, s4l = sums[S4, bar], sums[S4 + 1, bar]
    if span < NARROW and n < FEW:
        t1, t2h, t2l, t3h, t3l, t4h, t4l = narrow_recentred(n, s1, s2l, s3l, s4l, -c)
    else:
        t1, t2h, t2l, t3h, t3l, t4h, t4l = recentred(n, s1, s2h, s2l, s3h, s3l, s4h, s4l, -c)
    out[1, at], out[2, at], out[3, at], out[4, at] = t1, t2h, t2l, t3h
    out[5, at], out[6, at], out[7, at] = t3l, t4h, t4l
    return span < NARROW or not too_wide(n, span)


@jit
def fill(sums, low, high, out, at):
    """Write the moments of the bars [low, high) from out[:, at] on; return the first that is not exact, or NO_ROW."""
    wide = NO_ROW
    for bar in range(low, high):
        if not spec(sums, bar, out, at + bar - low):
            wide = min(wide, bar)
    return wide


@torch.library.custom_op("gpu_pipeline::centred_moments", mutates_args=(), device_types="cpu")
def _centred_moments(sums: torch.Tensor) -> torch.Tensor:
    table, wide = sums.numpy(), [NO_ROW]
    out = np.empty((8, table.shape[1]), np.int64)
    spread(lambda low, high: wide.append(fill(table, low, high, out, low)), table.shape[1], BARS_PER_THREAD)
    refuse_wide(table, min(wide))
    return torch.from_numpy(out)


@_centred_moments.register_kernel("cuda")
def _(sums):
    return launch_centred_moments(sums)


@_centred_moments.register_fake
def _(sums):
    return sums.new_empty(8, sums.shape[1])


def launch_centred_moments(sums):
    """Run the kernel on torch's current stream, or in the simulator on numpy arrays; return [8, B]."""
    out, wide = new_rows(sums, 8, sums.shape[1]), new_filled(sums, NO_ROW)
    launch(_moments_kernel, -(-sums.shape[1] // THREADS), THREADS, sums, out, wide)
    refuse_wide(sums, int(wide[0]))
    return out


@cuda.jit
def _moments_kernel(sums, out, wide):
    """One thread per bar."""
    bar = cuda.grid(1)
    if bar < sums.shape[1] and not spec(sums, bar, out, bar):
        cuda.atomic.min(wide, 0, bar)
