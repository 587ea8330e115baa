"""Bars that close when their values span a distance, on the GPU: searches for every possible bar, then their chain.

A bar knows its highest and lowest value, which are the state. It closes at the first row at which they lie `span` or
more apart. The next bar begins without values, or with the one that closed the bar before (`from_close`).
"""

from __future__ import annotations

from typing import Any

import torch
from numba import cuda

from kernels._chain import NO_END, Chain, launch_chain
from kernels._levels import down, launch_levels, node_at, on, size_at
from kernels._op import SIMULATED, jit, launch, new_rows

SPAN_LIMIT = 1 << 62
NO_HIGH, NO_LOW = -(1 << 63), (1 << 63) - 1
THREADS = 4 if SIMULATED else 128


def new_state(device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the state of a bar without values: a high below and a low above every value."""
    return torch.tensor([NO_HIGH, NO_LOW], device=device)


@jit
def spans(high, low, span):
    """Return whether high - low >= span, for high >= low; of halves, for the difference may need 64 bits."""
    return (high >> 1) - (low >> 1) >= (span + (low & 1) - (high & 1) + 1) >> 1


def launch_spans(values, span: int, state, *, from_close: bool) -> tuple[Chain, Any, Any]:
    """Return (the chain of bars over values [N], their number [1], the state after [2]), all on the device."""
    rows = values.shape[0]
    follow, after, found = new_rows(values, rows), new_rows(values, 2), new_rows(values, 1)
    nodes, levels = launch_levels(values)
    launch(_follow_kernel, -(-rows // THREADS), THREADS, values, nodes, levels, span, state, int(from_close), follow)
    chain = launch_chain(follow, found)
    launch(_open_kernel, 1, 1, values, nodes, levels, span, state, int(from_close), chain.last, after)
    return chain, found, after


@cuda.jit(device=True)
def begin_of(begin, values, state, from_close):
    """Return high and low with which the bar at row `begin` begins; the bar of row 0 is the one carried in."""
    if begin == 0:
        return state[0], state[1]
    if from_close:
        return values[begin - 1], values[begin - 1]
    return NO_HIGH, NO_LOW


@cuda.jit(device=True)
def closing_row(values, nodes, levels, span, row, high, low):
    """Return (the first row from `row` on at which a bar with this high and low closes, or N, its high, its low)."""
    rows = values.shape[0]
    level, base, node = on(0, 0, row, rows, levels)
    while node < size_at(rows, level):
        node_high, node_low = node_at(values, nodes, level, base, node)
        if not spans(max(high, node_high), min(low, node_low), span):
            high, low = max(high, node_high), min(low, node_low)
            level, base, node = on(level, base, node + 1, rows, levels)
        elif level > 0:
            level, base, node = down(level, base, node, rows)
        else:
            return node, high, low
    return rows, high, low


@cuda.jit
def _follow_kernel(values, nodes, levels, span, state, from_close, follow):
    """One thread per row: where the bar that begins there ends."""
    begin, rows = cuda.grid(1), values.shape[0]
    if begin < rows:
        high, low = begin_of(begin, values, state, from_close)
        row, _, _ = closing_row(values, nodes, levels, span, begin, high, low)
        follow[begin] = row + 1 if row < rows else NO_END


@cuda.jit
def _open_kernel(values, nodes, levels, span, state, from_close, last, after):
    """One thread: high and low of the bar left open."""
    high, low = begin_of(last[0], values, state, from_close)
    _, high, low = closing_row(values, nodes, levels, span, last[0], high, low)
    after[0] = high
    after[1] = low
