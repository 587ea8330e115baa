"""Square root, logarithm, exponential, sine and cosine, element by element, with bits that depend on the value alone.

A vectorised library picks another formula for the last few elements of an array, so that the same value gives other
bits in another chunk. Here each element is computed by one scalar call of the C library. On CUDA torch's own kernels
run: they treat every element alike. The square root is the nearest float64, which torch's on the CPU is not always.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels._op import jit
from kernels._spread import spread

LOG, SIN, COS, EXP, SQRT = range(5)
_TORCH = {LOG: torch.log, SIN: torch.sin, COS: torch.cos, EXP: torch.exp, SQRT: torch.sqrt}


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm of float64 `x`, any shape: -inf at 0, NaN below."""
    return _map(_require("log", x), LOG)


def exp(x: Tensor) -> Tensor:
    """Return e to the power of float64 `x`, any shape; infinity where that is beyond float64."""
    return _map(_require("exp", x), EXP)


def sqrt(x: Tensor) -> Tensor:
    """Return the square root of float64 `x`, any shape: NaN below 0."""
    return _map(_require("sqrt", x), SQRT)


def sin(x: Tensor) -> Tensor:
    """Return the sine of float64 `x` in radians, any shape; NaN at infinity."""
    return _map(_require("sin", x), SIN)


def cos(x: Tensor) -> Tensor:
    """Return the cosine of float64 `x` in radians, any shape; NaN at infinity."""
    return _map(_require("cos", x), COS)


def _require(op: str, x: Tensor) -> Tensor:
    if x.dtype != torch.float64:
        raise TypeError(f"{op}: x must be a tensor of torch.float64, got {x.dtype}; convert it first")
    return x.contiguous()


@jit
def spec(x, function, out, start, stop):
    """out[i] = function(x[i]) for start <= i < stop, one scalar call each."""
    for i in range(start, stop):
        if function == LOG:
            out[i] = math.log(x[i])
        elif function == EXP:
            out[i] = math.exp(x[i])
        elif function == SQRT:
            out[i] = math.sqrt(x[i]) if x[i] >= 0.0 else math.nan
        elif function == SIN:
            out[i] = math.sin(x[i])
        else:
            out[i] = math.cos(x[i])


@torch.library.custom_op("gpu_pipeline::elementwise", mutates_args=(), device_types="cpu")
def _map(x: Tensor, function: int) -> Tensor:
    out = torch.empty_like(x)
    source, target = x.view(-1).numpy(), out.view(-1).numpy()
    spread(lambda start, stop: spec(source, function, target, start, stop), source.size, 1 << 15)
    return out


@_map.register_fake
def _(x: Tensor, function: int) -> Tensor:
    return torch.empty_like(x)


@_map.register_kernel("cuda")
def _(x: Tensor, function: int) -> Tensor:
    return _TORCH[function](x)
