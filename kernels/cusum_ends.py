"""Where cusum bars close: at the first trade at which the log price has risen or fallen far enough.

The symmetric CUSUM filter of de Prado (Advances in Financial Machine Learning, snippet 2.4) on y = 1e9 ln(price):

    S+ = max(0, S+ + dy)    S- = min(0, S- + dy)    close where S+ >= threshold or S- <= -threshold

and only the side that closed the bar starts again at 0. S+ is y minus the lowest y since that side began, S- is y minus
the highest, so these two are the state. They never lie a threshold apart: the trade that brings them there closes the
bar. One that closes it upwards is thus the highest y and S- is 0 as well; one that closes it downwards is the lowest.
So a bar ends where y, that of the last close included, spans the threshold. The fast forms use this; `spec` does not.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import cuda

from kernels._blocks import NO_ROW
from kernels._chain import launch_chain_ends
from kernels._log import log_price
from kernels._op import SIMULATED, jit, launch, new_filled, new_rows, require, require_one_device
from kernels._spans import SPAN_LIMIT, launch_spans, new_state

__all__ = ["SPAN_LIMIT", "NotPositive", "cusum_ends", "launch_cusum_ends", "new_state"]

THREADS = 4 if SIMULATED else 128


class NotPositive(ValueError):
    """A price without a logarithm; `row` is its place in the chunk."""

    def __init__(self, row: int) -> None:
        self.row = row
        super().__init__(f"cusum_ends: a price must be above 0, it is not at row {row} of the chunk; drop or repair it")


def cusum_ends(
    price_ticks: torch.Tensor,  # [N] int64, above 0
    threshold: int,  # in 1e-9 of log price
    state: torch.Tensor,  # [2] int64, highest and lowest y of the two sides; new_state() at the beginning
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (ends [B], state [2]): a bar is the rows [previous end, end), counted from the start of this chunk.

    Any chunking gives the same bars. On CUDA it synchronises once, for B.

    Raises:
        NotPositive: a price of 0 or less.
        ValueError: threshold outside [1, 2^62).
    """
    price_ticks = require("cusum_ends", "price_ticks", price_ticks, torch.int64, None)
    state = require("cusum_ends", "state", state, torch.int64, 2)
    require_one_device("cusum_ends", price_ticks=price_ticks, state=state)
    if not 0 < threshold < SPAN_LIMIT:
        raise ValueError(f"cusum_ends: threshold must be in [1, 2^62) steps of 1e-9, got {threshold}")
    return _cusum_ends(price_ticks, threshold, state)


@jit
def spec(price_ticks, threshold, state, ends):
    """Write the ends; return (their number, highest and lowest y, the first row without a logarithm or NO_ROW)."""
    high, low = state[0], state[1]
    bars = 0
    for row in range(price_ticks.shape[0]):
        if price_ticks[row] <= 0:
            return bars, high, low, row
        y = log_price(price_ticks[row])
        high, low = max(high, y), min(low, y)
        if y - low >= threshold or high - y >= threshold:
            high, low = (high, y) if y - low >= threshold else (y, low)
            ends[bars] = row + 1
            bars += 1
    return bars, high, low, NO_ROW


@jit
def spans_of_logs(price_ticks, threshold, state, ends):
    """Do what `spec` does, with logarithms only of prices outside those of the open bar in this chunk."""
    high, low = state[0], state[1]
    top, bottom = 0, 1
    bars = 0
    for row in range(price_ticks.shape[0]):
        price = price_ticks[row]
        if bottom <= price <= top:
            continue
        if price <= 0:
            return bars, high, low, row
        y = log_price(price)
        high, low = max(high, y), min(low, y)
        top, bottom = (max(top, price), min(bottom, price)) if top > 0 else (price, price)
        if high - low >= threshold:
            high, low, top, bottom = y, y, price, price
            ends[bars] = row + 1
            bars += 1
    return bars, high, low, NO_ROW


@torch.library.custom_op("gpu_pipeline::cusum_ends", mutates_args=(), device_types="cpu")
def _cusum_ends(price_ticks: torch.Tensor, threshold: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    ends = np.empty(price_ticks.shape[0], np.int64)
    bars, high, low, bad = spans_of_logs(price_ticks.numpy(), threshold, state.numpy(), ends)
    _refuse(bad)
    return torch.from_numpy(ends[:bars].copy()), torch.tensor([high, low])


@_cusum_ends.register_kernel("cuda")
def _(price_ticks: torch.Tensor, threshold: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return launch_cusum_ends(price_ticks, threshold, state)


@_cusum_ends.register_fake
def _(price_ticks: torch.Tensor, threshold: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return price_ticks.new_empty(torch.library.get_ctx().new_dynamic_size()), torch.empty_like(state)


def _refuse(row: int) -> None:
    if row != NO_ROW:
        raise NotPositive(row)


def launch_cusum_ends(price_ticks, threshold: int, state):
    """Run the kernels on torch's current stream, or in the simulator on numpy arrays; return (ends, state)."""
    rows = price_ticks.shape[0]
    y, bad, told = new_rows(price_ticks, rows), new_filled(price_ticks, NO_ROW), new_rows(price_ticks, 2)
    launch(_log_kernel, -(-rows // THREADS), THREADS, price_ticks, y, bad)
    chain, found, after = launch_spans(y, threshold, state, from_close=True)
    told[:1], told[1:] = found, bad
    bars, first_bad = told.tolist()
    _refuse(first_bad)
    return launch_chain_ends(chain, bars), after


@cuda.jit
def _log_kernel(price_ticks, y, bad):
    """One thread per row: its log price; 0 where there is none."""
    row = cuda.grid(1)
    if row < price_ticks.shape[0]:
        y[row] = log_price(max(1, price_ticks[row]))
        if price_ticks[row] <= 0:
            cuda.atomic.min(bad, 0, row)
