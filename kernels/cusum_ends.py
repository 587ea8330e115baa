"""Where cusum bars close: at the first trade at which the log price has risen or fallen far enough.

The symmetric CUSUM filter of de Prado (Advances in Financial Machine Learning, snippet 2.4) on y = 1e9 ln(price):

    S+ = max(0, S+ + dy)    S- = min(0, S- + dy)    close where S+ >= threshold or S- <= -threshold

and only the side that closed the bar starts again at 0. S+ is y minus the lowest y since it started, S- is y minus the
highest, so these two values are the state. The two sides never close at one trade, for y cannot rise and fall at once.
On the GPU each side is a chain of its own; the fall of y is the rise of -y.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import cuda

from kernels._blocks import NO_ROW
from kernels._chain import NO_END, Chain, launch_chain, launch_chain_ends
from kernels._levels import down, launch_levels, node_at, on, size_at
from kernels._log import log_price
from kernels._op import SIMULATED, jit, launch, new_filled, new_rows, require, require_one_device

THRESHOLD_LIMIT = 1 << 62
NO_LOW, NO_HIGH = 1 << 62, -(1 << 62)
THREADS = 4 if SIMULATED else 128


class NotPositive(ValueError):
    """A price without a logarithm; `row` is its place in the chunk."""

    def __init__(self, row: int) -> None:
        self.row = row
        super().__init__(f"cusum_ends: a price must be above 0, it is not at row {row} of the chunk; drop or repair it")


def cusum_ends(
    price_ticks: torch.Tensor,  # [N] int64, above 0
    threshold: int,  # in 1e-9 of log price
    state: torch.Tensor,  # [2] int64, lowest and highest y of the two sides; new_state() at the beginning
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
    if not 0 < threshold < THRESHOLD_LIMIT:
        raise ValueError(f"cusum_ends: threshold must be in [1, 2^62) steps of 1e-9, got {threshold}")
    return _cusum_ends(price_ticks, threshold, state)


def new_state(device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the state before the first trade: a lowest y above and a highest below every one."""
    return torch.tensor([NO_LOW, NO_HIGH], device=device)


@jit
def spec(price_ticks, threshold, state, ends):
    """Write the ends; return (their number, lowest and highest y, the first row without a logarithm or NO_ROW)."""
    low, high = state[0], state[1]
    bars = 0
    for row in range(price_ticks.shape[0]):
        if price_ticks[row] <= 0:
            return bars, low, high, row
        y = log_price(price_ticks[row])
        low, high = min(low, y), max(high, y)
        if y - low >= threshold or high - y >= threshold:
            low, high = (y, high) if y - low >= threshold else (low, y)
            ends[bars] = row + 1
            bars += 1
    return bars, low, high, NO_ROW


@jit
def quiet_spec(price_ticks, threshold, state, ends):
    """Do what `spec` does, without logarithms of the prices in [bottom, top], which are known to change nothing.

    The logarithm never falls as the price rises, so of two prices that change nothing all between them do as little.
    """
    low, high = state[0], state[1]
    bottom, top = 1, 0
    bars = 0
    for row in range(price_ticks.shape[0]):
        price = price_ticks[row]
        if bottom <= price <= top:
            continue
        if price <= 0:
            return bars, low, high, row
        y = log_price(price)
        if low <= y <= high and top > 0:
            bottom, top = min(bottom, price), max(top, price)
        else:
            bottom, top = price, price
        low, high = min(low, y), max(high, y)
        if y - low >= threshold or high - y >= threshold:
            low, high = (y, high) if y - low >= threshold else (low, y)
            bottom, top = price, price
            ends[bars] = row + 1
            bars += 1
    return bars, low, high, NO_ROW


@torch.library.custom_op("gpu_pipeline::cusum_ends", mutates_args=(), device_types="cpu")
def _cusum_ends(price_ticks: torch.Tensor, threshold: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    ends = np.empty(price_ticks.shape[0], np.int64)
    bars, low, high, bad = quiet_spec(price_ticks.numpy(), threshold, state.numpy(), ends)
    _refuse(bad)
    return torch.from_numpy(ends[:bars].copy()), torch.tensor([low, high])


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
    y, after, counts = new_rows(price_ticks, rows), new_rows(price_ticks, 2), new_rows(price_ticks, 3)
    bad = new_filled(price_ticks, NO_ROW)
    launch(_log_kernel, -(-rows // THREADS), THREADS, price_ticks, y, bad)
    rises = _launch_side(y, 1, threshold, state[:1], counts[:1], after[:1])
    falls = _launch_side(-y, -1, threshold, state[1:], counts[1:2], after[1:])
    counts[2:] = bad
    rose, fell, first_bad = counts.tolist()
    _refuse(first_bad)
    ends = new_rows(price_ticks, rose + fell)
    pairs = launch_chain_ends(rises, rose), launch_chain_ends(falls, fell)
    launch(_merge_kernel, -(-(rose + fell) // THREADS), THREADS, *pairs, ends)
    return ends, after


def _launch_side(y, sign: int, threshold: int, start, found, after) -> Chain:
    """One side of the filter on y or -y: its chain; writes how many bars it closes and its lowest y, sign restored."""
    rows = y.shape[0]
    follow: Any = new_rows(y, rows)
    nodes, levels = launch_levels(y)
    launch(_follow_kernel, -(-rows // THREADS), THREADS, y, nodes, levels, sign, threshold, start, follow)
    chain = launch_chain(follow, found)
    launch(_open_kernel, 1, 1, y, nodes, levels, sign, threshold, start, chain.last, found, after)
    return chain


@cuda.jit
def _log_kernel(price_ticks, y, bad):
    """One thread per row: its log price; 0 where there is none."""
    row = cuda.grid(1)
    if row < price_ticks.shape[0]:
        y[row] = log_price(max(1, price_ticks[row]))
        if price_ticks[row] <= 0:
            cuda.atomic.min(bad, 0, row)


@cuda.jit(device=True)
def closing_row(y, nodes, levels, threshold, row, low):
    """Return (the first row from `row` on at which y is `threshold` above its lowest, or N, and that lowest)."""
    rows = y.shape[0]
    level, base, node = on(0, 0, row, rows, levels)
    while node < size_at(rows, level):
        node_low, node_high, rise = node_at(y, nodes, level, base, node)
        if rise < threshold and node_high - low < threshold:
            low = min(low, node_low)
            level, base, node = on(level, base, node + 1, rows, levels)
        elif level > 0:
            level, base, node = down(level, base, node, rows)
        else:
            return node, low
    return rows, low


@cuda.jit
def _follow_kernel(y, nodes, levels, sign, threshold, start, follow):
    """One thread per row: where this side closes a bar after it started anew at the row before."""
    begin, rows = cuda.grid(1), y.shape[0]
    if begin < rows:
        low = sign * start[0] if begin == 0 else y[begin - 1]
        row, _ = closing_row(y, nodes, levels, threshold, begin, low)
        follow[begin] = row + 1 if row < rows else NO_END


@cuda.jit
def _open_kernel(y, nodes, levels, sign, threshold, start, last, found, after):
    """One thread: the lowest y since this side started anew."""
    low = sign * start[0] if found[0] == 0 else y[last[0] - 1]
    _, low = closing_row(y, nodes, levels, threshold, last[0], low)
    after[0] = sign * low


@cuda.jit
def _merge_kernel(rises, falls, ends):
    """One thread per end: to its place among the ends of both sides, which have none in common."""
    place = cuda.grid(1)
    if place >= ends.shape[0]:
        return
    mine, other, at = (rises, falls, place) if place < rises.shape[0] else (falls, rises, place - rises.shape[0])
    low, high = 0, other.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if other[middle] < mine[at]:
            low = middle + 1
        else:
            high = middle
    ends[at + low] = mine[at]
