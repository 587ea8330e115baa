"""Exact integer power sums of a bar's prices about (nearly) their mean, so that float central moments do not cancel.

With d = price_ticks - open and n trades, shift = floor((2 s1 + n) / (2 n)), the mean of d rounded to the nearest tick
(halves up), and t_k = sum of (d - shift)^k by the binomial theorem, modulo 2^128. Exact where n x (high - low)^4 is
below 2^126, which is checked: a million trades over 90 million ticks, or 2^31 trades over 14 million.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import cuda

from kernels._int128 import add, scale
from kernels._op import SIMULATED, jit, launch, new_rows, require
from kernels.bar_sums import COUNT, HIGH, LOW, S1, S2, S3, S4, K

MOMENTS = ("shift", "t1", "t2_hi", "t2_lo", "t3_hi", "t3_lo", "t4_hi", "t4_lo")
WIDEST = 2.0**126
THREADS = 4 if SIMULATED else 128


def centred_moments(
    sums: torch.Tensor,  # [K, B] int64, from bar_sums
) -> torch.Tensor:
    """Return [8, B] int64, the rows of MOMENTS: ticks, and sums of ticks^k, the last six in 128-bit words (high, low).

    An empty bar is all zeros. On CUDA the check of the bounds waits for the device.

    Raises:
        ValueError: a bar whose count x (high - low)^4 is 2^126 or more.
    """
    sums = require("centred_moments", "sums", sums, torch.int64, K, None)
    _check_bounds(sums)
    return _centred_moments(sums)


def _check_bounds(sums: torch.Tensor) -> None:
    span = (sums[HIGH] - sums[LOW]).double()
    wide = torch.nonzero(sums[COUNT] * (span * span) * (span * span) >= WIDEST)
    if len(wide):
        bar = int(wide[0])
        raise ValueError(
            f"centred_moments: bar {bar} spans {int(span[bar])} ticks over {int(sums[COUNT, bar])} trades; "
            "count x span^4 must stay below 2^126: use a coarser price tick or shorter bars"
        )


@jit
def add_scaled(high, low, word_high, word_low, factor):
    """Return (high, low) + word x factor."""
    more_high, more_low = scale(word_high, word_low, factor)
    return add(high, low, more_high, more_low)


@jit
def recentred(n, s1, s2h, s2l, s3h, s3l, s4h, s4l, c):
    """Return (s1, s2_hi, s2_lo, ..., s4_lo) of d + c, given n and those of d."""
    s1h, nh = s1 >> 63, 0
    # Horner in c: t2 = s2 + c (2 s1 + c n), and so on; each step is one 128-bit multiply and add.
    h, w = add_scaled(*scale(s1h, s1, 2), nh, n, c)
    t2h, t2l = add_scaled(s2h, s2l, h, w, c)
    h, w = add_scaled(*scale(s1h, s1, 3), nh, n, c)
    h, w = add_scaled(*scale(s2h, s2l, 3), h, w, c)
    t3h, t3l = add_scaled(s3h, s3l, h, w, c)
    h, w = add_scaled(*scale(s1h, s1, 4), nh, n, c)
    h, w = add_scaled(*scale(s2h, s2l, 6), h, w, c)
    h, w = add_scaled(*scale(s3h, s3l, 4), h, w, c)
    t4h, t4l = add_scaled(s4h, s4l, h, w, c)
    return s1 + n * c, t2h, t2l, t3h, t3l, t4h, t4l


@jit
def spec(sums, bar, out):
    """Write the moments of one bar to out[:, bar]."""
    for row in range(8):
        out[row, bar] = 0
    n, s1 = sums[COUNT, bar], sums[S1, bar]
    if n == 0:
        return
    s2h, s2l, s3h, s3l = sums[S2, bar], sums[S2 + 1, bar], sums[S3, bar], sums[S3 + 1, bar]
    c = (2 * s1 + n) // (2 * n)
    out[0, bar] = c
    out[1, bar], out[2, bar], out[3, bar], out[4, bar], out[5, bar], out[6, bar], out[7, bar] = recentred(
        n, s1, s2h, s2l, s3h, s3l, sums[S4, bar], sums[S4 + 1, bar], -c
    )


@jit
def _all_bars(sums, out):
    for bar in range(sums.shape[1]):
        spec(sums, bar, out)


@torch.library.custom_op("gpu_pipeline::centred_moments", mutates_args=(), device_types="cpu")
def _centred_moments(sums: torch.Tensor) -> torch.Tensor:
    out = np.empty((8, sums.shape[1]), np.int64)
    _all_bars(sums.numpy(), out)
    return torch.from_numpy(out)


@_centred_moments.register_kernel("cuda")
def _(sums):
    return launch_centred_moments(sums)


@_centred_moments.register_fake
def _(sums):
    return sums.new_empty(8, sums.shape[1])


def launch_centred_moments(sums):
    """Run the kernel on torch's current stream, or in the simulator on numpy arrays; return [8, B]."""
    out = new_rows(sums, 8, sums.shape[1])
    launch(_moments_kernel, -(-sums.shape[1] // THREADS), THREADS, sums, out)
    return out


@cuda.jit
def _moments_kernel(sums, out):
    """One thread per bar."""
    bar = cuda.grid(1)
    if bar < sums.shape[1]:
        spec(sums, bar, out)
