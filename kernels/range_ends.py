"""Where range bars close: at the first trade at which the bar's own prices span so many price steps.

The closing trade belongs to its bar, and the next bar knows only its own trades. Where a bar ends depends on where it
began alone, so the CUDA form searches the end of the bar that would begin at every row, then follows the chain.
"""

from __future__ import annotations

import numpy as np
import torch

from kernels._chain import launch_chain_ends
from kernels._op import jit, require, require_one_device
from kernels._spans import NO_HIGH, NO_LOW, SPAN_LIMIT, launch_spans, new_state, spans

__all__ = ["SPAN_LIMIT", "launch_range_ends", "new_state", "range_ends"]


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
    if not 0 < ticks < SPAN_LIMIT:
        raise ValueError(f"range_ends: ticks must be in [1, 2^62), got {ticks}")
    return _range_ends(price_ticks, ticks, state)


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
    chain, found, after = launch_spans(price_ticks, ticks, state, from_close=False)
    return launch_chain_ends(chain, int(found[0])), after
