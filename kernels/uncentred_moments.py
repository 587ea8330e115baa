"""The inverse of centred_moments: power sums about a bar's open from those about (nearly) its mean, modulo 2^128."""

from __future__ import annotations

import numpy as np
import torch
from numba import cuda

from kernels._op import SIMULATED, jit, launch, new_rows, require, require_one_device
from kernels._powers import recentred
from kernels.centred_moments import MOMENTS

POWERS = ("s1", "s2_hi", "s2_lo", "s3_hi", "s3_lo", "s4_hi", "s4_lo")
THREADS = 4 if SIMULATED else 128


def uncentred_moments(
    moments: torch.Tensor,  # [8, B] int64, the rows of MOMENTS
    count: torch.Tensor,  # [B] int64 trades
) -> torch.Tensor:
    """Return [7, B] int64, the rows of POWERS as `bar_sums` has them: ticks^k, the last six in 128-bit words."""
    moments = require("uncentred_moments", "moments", moments, torch.int64, len(MOMENTS), None)
    count = require("uncentred_moments", "count", count, torch.int64, moments.shape[1])
    require_one_device("uncentred_moments", moments=moments, count=count)
    return _uncentred_moments(moments, count)


@jit
def spec(moments, count, bar, out):
    """Write the power sums of one bar to out[:, bar]."""
    out[0, bar], out[1, bar], out[2, bar], out[3, bar], out[4, bar], out[5, bar], out[6, bar] = recentred(
        count[bar],
        moments[1, bar],
        moments[2, bar],
        moments[3, bar],
        moments[4, bar],
        moments[5, bar],
        moments[6, bar],
        moments[7, bar],
        moments[0, bar],
    )


@jit
def _all_bars(moments, count, out):
    for bar in range(moments.shape[1]):
        spec(moments, count, bar, out)


@torch.library.custom_op("gpu_pipeline::uncentred_moments", mutates_args=(), device_types="cpu")
def _uncentred_moments(moments: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    out = np.empty((len(POWERS), moments.shape[1]), np.int64)
    _all_bars(moments.numpy(), count.numpy(), out)
    return torch.from_numpy(out)


@_uncentred_moments.register_kernel("cuda")
def _(moments, count):
    return launch_uncentred_moments(moments, count)


@_uncentred_moments.register_fake
def _(moments, count):
    return moments.new_empty(len(POWERS), moments.shape[1])


def launch_uncentred_moments(moments, count):
    """Run the kernel on torch's current stream, or in the simulator on numpy arrays; return [7, B]."""
    out = new_rows(moments, len(POWERS), moments.shape[1])
    launch(_powers_kernel, -(-moments.shape[1] // THREADS), THREADS, moments, count, out)
    return out


@cuda.jit
def _powers_kernel(moments, count, out):
    """One thread per bar."""
    bar = cuda.grid(1)
    if bar < moments.shape[1]:
        spec(moments, count, bar, out)
