"""Where range bars close: at the first trade at which the bar's own prices span so many price steps.

The closing trade belongs to its bar, and the next bar knows only its own trades. Where a bar ends depends on where it
began alone, so the CUDA form searches the end of the bar that would begin at every row, then follows the chain.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import cuda

from kernels._chain import NO_END, launch_chain, launch_chain_ends
from kernels._levels import down, launch_levels, node_at, on, size_at
from kernels._op import SIMULATED, jit, launch, new_rows, require, require_one_device

TICKS_LIMIT = 1 << 62
NO_HIGH, NO_LOW = -(1 << 63), (1 << 63) - 1
THREADS = 4 if SIMULATED else 128


def range_ends(
    price_ticks: torch.Tensor,  # [N] int64, any
    ticks: int,
    state: torch.Tensor,  # [2] int64, high and low of the open bar; new_state() at the beginning
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (ends [B], state [2]): a bar is the rows [previous end, end), counted from the start of this chunk.

    Any chunking gives the same bars. On CUDA it synchronises once, for B.

    Raises:
        ValueError: ticks outside [1, 2^62).
    """
    price_ticks = require("range_ends", "price_ticks", price_ticks, torch.int64, None)
    state = require("range_ends", "state", state, torch.int64, 2)
    require_one_device("range_ends", price_ticks=price_ticks, state=state)
    if not 0 < ticks < TICKS_LIMIT:
        raise ValueError(f"range_ends: ticks must be in [1, 2^62), got {ticks}")
    return _range_ends(price_ticks, ticks, state)


def new_state(device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the state of a bar without trades: a high below and a low above every price."""
    return torch.tensor([NO_HIGH, NO_LOW], device=device)


@jit
def spans(high, low, ticks):
    """Return whether high - low >= ticks, for high >= low; of halves, for the difference may need 64 bits."""
    return (high >> 1) - (low >> 1) >= (ticks + (low & 1) - (high & 1) + 1) >> 1


@jit
def spec(price_ticks, ticks, state, ends):
    """Write the ends; return (their number, high and low of the bar left open)."""
    high, low = state[0], state[1]
    bars = 0
    for row in range(price_ticks.shape[0]):
        price = price_ticks[row]
        if low <= price <= high:
            continue
        high, low = max(high, price), min(low, price)
        if spans(high, low, ticks):
            ends[bars] = row + 1
            bars += 1
            high, low = NO_HIGH, NO_LOW
    return bars, high, low


@torch.library.custom_op("gpu_pipeline::range_ends", mutates_args=(), device_types="cpu")
def _range_ends(price_ticks: torch.Tensor, ticks: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    ends = np.empty(price_ticks.shape[0], np.int64)
    bars, high, low = spec(price_ticks.numpy(), ticks, state.numpy(), ends)
    return torch.from_numpy(ends[:bars].copy()), torch.tensor([high, low])


@_range_ends.register_kernel("cuda")
def _(price_ticks: torch.Tensor, ticks: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return launch_range_ends(price_ticks, ticks, state)


@_range_ends.register_fake
def _(price_ticks: torch.Tensor, ticks: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return price_ticks.new_empty(torch.library.get_ctx().new_dynamic_size()), torch.empty_like(state)


def launch_range_ends(price_ticks, ticks: int, state):
    """Run the kernels on torch's current stream, or in the simulator on numpy arrays; return (ends, state)."""
    rows = price_ticks.shape[0]
    follow, after, found = new_rows(price_ticks, rows), new_rows(price_ticks, 2), new_rows(price_ticks, 1)
    nodes, levels = launch_levels(price_ticks)
    launch(_follow_kernel, -(-rows // THREADS), THREADS, price_ticks, nodes, levels, ticks, state, follow)
    chain = launch_chain(follow, found)
    launch(_open_kernel, 1, 1, price_ticks, nodes, levels, ticks, state, chain.last, found, after)
    return launch_chain_ends(chain, int(found[0])), after


@cuda.jit(device=True)
def closing_row(price_ticks, nodes, levels, ticks, row, high, low):
    """Return (the first row from `row` on at which a bar with this high and low closes, or N, its high, its low)."""
    rows = price_ticks.shape[0]
    level, base, node = on(0, 0, row, rows, levels)
    while node < size_at(rows, level):
        node_low, node_high, _ = node_at(price_ticks, nodes, level, base, node)
        if not spans(max(high, node_high), min(low, node_low), ticks):
            high, low = max(high, node_high), min(low, node_low)
            level, base, node = on(level, base, node + 1, rows, levels)
        elif level > 0:
            level, base, node = down(level, base, node, rows)
        else:
            return node, high, low
    return rows, high, low


@cuda.jit
def _follow_kernel(price_ticks, nodes, levels, ticks, state, follow):
    """One thread per row: where the bar that begins there ends; the bar of row 0 is the one carried in."""
    begin, rows = cuda.grid(1), price_ticks.shape[0]
    if begin < rows:
        high, low = (state[0], state[1]) if begin == 0 else (NO_HIGH, NO_LOW)
        row, _, _ = closing_row(price_ticks, nodes, levels, ticks, begin, high, low)
        follow[begin] = row + 1 if row < rows else NO_END


@cuda.jit
def _open_kernel(price_ticks, nodes, levels, ticks, state, last, found, after):
    """One thread: high and low of the bar left open."""
    high, low = (state[0], state[1]) if found[0] == 0 else (NO_HIGH, NO_LOW)
    _, high, low = closing_row(price_ticks, nodes, levels, ticks, last[0], high, low)
    after[0] = high
    after[1] = low
