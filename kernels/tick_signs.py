"""The tick rule: who was the aggressor of a trade, guessed from prices where the source does not say.

The sign of a trade is that of the last price change up to it: +1 after a rise, -1 after a fall, 0 before the first
change (Lee and Ready 1991; de Prado, Advances in Financial Machine Learning, section 2.3.2.1).
"""

from __future__ import annotations

import numpy as np
import torch
from numba import cuda, int64

from kernels._op import SIMULATED, jit, launch, new_rows, require, require_one_device

NO_PRICE = -(1 << 63)
SEGMENT = 4 if SIMULATED else 256
THREADS = 4 if SIMULATED else 128
SCAN_THREADS = 4 if SIMULATED else 512


def tick_signs(
    price_ticks: torch.Tensor,  # [N] int64
    state: torch.Tensor,  # [2] int64, last price and last sign; (NO_PRICE, 0) at the beginning
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (sign [N] int8 in -1, 0, 1; state [2]). Any chunking gives the same signs, on every device."""
    price_ticks = require("tick_signs", "price_ticks", price_ticks, torch.int64, None)
    state = require("tick_signs", "state", state, torch.int64, 2)
    require_one_device("tick_signs", price_ticks=price_ticks, state=state)
    return _tick_signs(price_ticks, state)


def initial_state(device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the state [2] before the first trade."""
    return torch.tensor([NO_PRICE, 0], device=device)


@jit
def price_before(row, price_ticks, state):
    """Return the price of the trade before `row`; the first of all trades has its own."""
    if row > 0:
        return price_ticks[row - 1]
    return price_ticks[0] if state[0] == NO_PRICE and price_ticks.shape[0] > 0 else state[0]


@jit
def turned(sign, price, before):
    """Return the sign after a trade at `price`, the trade before it at `before`."""
    move = int(price > before) - int(price < before)
    return move if move != 0 else sign


@jit
def spec(price_ticks, state, sign):
    """Write the signs; return (last price, last sign)."""
    before, last = price_before(0, price_ticks, state), state[1]
    for row in range(price_ticks.shape[0]):
        last = turned(last, price_ticks[row], before)
        before = price_ticks[row]
        sign[row] = last
    return before, last


@torch.library.custom_op("gpu_pipeline::tick_signs", mutates_args=(), device_types="cpu")
def _tick_signs(price_ticks: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    sign = np.empty(price_ticks.shape[0], np.int8)
    after = spec(price_ticks.numpy(), state.numpy(), sign)
    return torch.from_numpy(sign), torch.tensor(after)


@_tick_signs.register_kernel("cuda")
def _(price_ticks: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    sign = torch.empty_like(price_ticks, dtype=torch.int8)
    return sign, launch_tick_signs(price_ticks, state, sign)


@_tick_signs.register_fake
def _(price_ticks: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(price_ticks, dtype=torch.int8), torch.empty_like(state)


def launch_tick_signs(price_ticks, state, sign):
    """Fill `sign` on torch's current stream, or in the simulator on numpy arrays; return the state after."""
    segments = -(-price_ticks.shape[0] // SEGMENT)
    blocks = -(-segments // THREADS)
    turns, entries, after = new_rows(state, segments), new_rows(state, segments), new_rows(state, 2)
    launch(_turn_kernel, blocks, THREADS, price_ticks, state, turns)
    launch(_carry_kernel, 1, SCAN_THREADS, price_ticks, state, turns, entries, after)
    launch(_write_kernel, blocks, THREADS, price_ticks, state, entries, sign)
    return after


@cuda.jit
def _turn_kernel(price_ticks, state, turns):
    """One thread per segment: the sign of the last price change in it, 0 where there is none."""
    segment = cuda.grid(1)
    if segment >= turns.shape[0]:
        return
    begin = segment * SEGMENT
    before, last = price_before(begin, price_ticks, state), 0
    for row in range(begin, min(begin + SEGMENT, price_ticks.shape[0])):
        last = turned(last, price_ticks[row], before)
        before = price_ticks[row]
    turns[segment] = last


@cuda.jit
def _carry_kernel(price_ticks, state, turns, entries, after):
    """One block: the sign with which each segment begins, and the state after the chunk."""
    shared = cuda.shared.array(SCAN_THREADS, int64)
    thread, last = cuda.threadIdx.x, state[1]
    for base in range(0, turns.shape[0], SCAN_THREADS):
        segment = base + thread
        shared[thread] = turns[segment] if segment < turns.shape[0] else 0
        step = 1
        while step < SCAN_THREADS:
            cuda.syncthreads()
            mine = shared[thread]
            if mine == 0 and thread >= step:
                mine = shared[thread - step]
            cuda.syncthreads()
            shared[thread] = mine
            step *= 2
        cuda.syncthreads()
        mine = shared[thread - 1] if thread > 0 else 0
        if segment < turns.shape[0]:
            entries[segment] = mine if mine != 0 else last
        if shared[SCAN_THREADS - 1] != 0:
            last = shared[SCAN_THREADS - 1]
        cuda.syncthreads()
    if thread == 0:
        after[0] = price_before(price_ticks.shape[0], price_ticks, state)
        after[1] = last


@cuda.jit
def _write_kernel(price_ticks, state, entries, sign):
    """One thread per segment: its signs."""
    segment = cuda.grid(1)
    if segment >= entries.shape[0]:
        return
    begin = segment * SEGMENT
    before, last = price_before(begin, price_ticks, state), entries[segment]
    for row in range(begin, min(begin + SEGMENT, price_ticks.shape[0])):
        last = turned(last, price_ticks[row], before)
        before = price_ticks[row]
        sign[row] = last
