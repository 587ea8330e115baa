"""Which of two price barriers a market touches first, and at what price it is left.

Event e is tested on rows first .. first + horizon - 1: the upper barrier where high >= upper, the lower where
low <= lower. A bar that touches both counts as both, even where it opened beyond the upper one. The exit price is the
barrier, or the open where the bar opened beyond it; of a bar that touches both it is the lower one's (the stop of a
long position), and of an event that touches neither the close of its last row. A NaN high or low touches nothing.

Code 1 upper, -1 lower, 2 both in one bar, 0 neither, -2 unknown: a barrier is NaN, or the horizon ends beyond the last
row, even if a barrier was touched before (else events near the end would be kept only where they end early).

The search goes row by row, and skips whole blocks of rows whose extremes reach no barrier.

Axes: B bars, E events.
"""

from __future__ import annotations

import math

import torch
from numba import cuda
from torch import Tensor

from kernels._op import SIMULATED, jit, require, require_one_device
from kernels._op import launch as start
from kernels._spread import spread

UPPER, LOWER, BOTH, NEITHER, UNKNOWN = 1, -1, 2, 0, -2
BLOCK = 4 if SIMULATED else 32
THREADS = 4 if SIMULATED else 128
EVENTS_EACH = 1 << 12


def first_touch(
    open_: Tensor,  # [B] float64
    high: Tensor,  # [B] float64
    low: Tensor,  # [B] float64
    close: Tensor,  # [B] float64
    upper: Tensor,  # [E] float64
    lower: Tensor,  # [E] float64
    first: Tensor,  # [E] int64, first tested row
    horizon: int,  # rows tested
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (code [E] int64, row [E] int64 that decides, price [E] float64 of the exit); row -1 and NaN for code -2.

    Raises:
        ValueError: horizon below 1; a first row below 0 (on CUDA this check waits for the device).
    """
    prices = {"open_": open_, "high": high, "low": low, "close": close}
    bars = open_.shape[0]
    events = first.shape[0]
    prices = {name: require("first_touch", name, x, torch.float64, bars) for name, x in prices.items()}
    upper = require("first_touch", "upper", upper, torch.float64, events)
    lower = require("first_touch", "lower", lower, torch.float64, events)
    first = require("first_touch", "first", first, torch.int64, events)
    require_one_device("first_touch", **prices, upper=upper, lower=lower, first=first)
    if horizon < 1:
        raise ValueError(f"first_touch: horizon must be at least 1, got {horizon}")
    if events and int(first.min()) < 0:
        raise ValueError(
            f"first_touch: first must not be negative, got {int(first.min())}; drop the events before row 0"
        )
    return _first_touch(*prices.values(), upper, lower, first, horizon)


@jit
def touched(high, low, upper, lower):
    """Return which barriers a bar (or the extremes of many) touches."""
    above, below = high >= upper, low <= lower
    if above and below:
        return BOTH
    if above:
        return UPPER
    return LOWER if below else NEITHER


@jit
def exit_price(code, open_, close, upper, lower):
    """Return the price at which a bar with this code is left."""
    if code == NEITHER:
        return close
    if code == UPPER:
        return open_ if open_ > upper else upper
    return open_ if open_ < lower else lower


@jit
def spec(open_, high, low, close, upper, lower, first, horizon, code, row, price):
    """Test every row of every event in turn: the oracle, and the rule itself."""
    for event in range(first.shape[0]):
        code[event], row[event], price[event] = UNKNOWN, -1, math.nan
        last = first[event] + horizon - 1
        if last >= high.shape[0] or math.isnan(upper[event]) or math.isnan(lower[event]):
            continue
        code[event] = NEITHER
        for at in range(first[event], last + 1):
            row[event] = at
            code[event] = touched(high[at], low[at], upper[event], lower[event])
            if code[event] != NEITHER:
                break
        at = row[event]
        price[event] = exit_price(code[event], open_[at], close[at], upper[event], lower[event])


@jit
def block_extremes(high, low, highest, lowest, begin, stop):
    """Fill the extremes of blocks [begin, stop) of BLOCK rows; a NaN counts as no price."""
    for block in range(begin, stop):
        top, bottom = -math.inf, math.inf
        for row in range(block * BLOCK, min((block + 1) * BLOCK, high.shape[0])):
            top = high[row] if high[row] > top else top
            bottom = low[row] if low[row] < bottom else bottom
        highest[block], lowest[block] = top, bottom


@jit
def search(high, low, highest, lowest, upper, lower, first, last):
    """Return the first row in [first, last] that touches a barrier, else `last`."""
    row = first
    while row < last:
        whole = highest.shape[0] > 0 and row % BLOCK == 0 and last - row >= BLOCK
        if whole and touched(highest[row // BLOCK], lowest[row // BLOCK], upper, lower) == NEITHER:
            row += BLOCK
        elif touched(high[row], low[row], upper, lower) == NEITHER:
            row += 1
        else:
            return row
    return last


@jit
def decide(open_, high, low, close, highest, lowest, upper, lower, first, horizon, code, row, price, event):
    """Write the code, row and price of one event."""
    up, down, last = upper[event], lower[event], first[event] + horizon - 1
    if last >= high.shape[0] or math.isnan(up) or math.isnan(down):
        code[event], row[event], price[event] = UNKNOWN, -1, math.nan
        return
    at = search(high, low, highest, lowest, up, down, first[event], last)
    kind = touched(high[at], low[at], up, down)
    code[event], row[event], price[event] = kind, at, exit_price(kind, open_[at], close[at], up, down)


@jit
def _decide_events(
    open_, high, low, close, highest, lowest, upper, lower, first, horizon, code, row, price, begin, stop
):
    for event in range(begin, stop):
        decide(open_, high, low, close, highest, lowest, upper, lower, first, horizon, code, row, price, event)


def _allocate(high: Tensor, first: Tensor, horizon: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Return ((highest, lowest) per block, none for a horizon too short to skip any, (code, row, price))."""
    blocks = -(-high.shape[0] // BLOCK) if horizon > 2 * BLOCK else 0
    extremes = high.new_empty(blocks), high.new_empty(blocks)
    return extremes, (torch.empty_like(first), torch.empty_like(first), high.new_empty(first.shape[0]))


@torch.library.custom_op("gpu_pipeline::first_touch", mutates_args=(), device_types="cpu")
def _first_touch(
    open_: Tensor, high: Tensor, low: Tensor, close: Tensor, upper: Tensor, lower: Tensor, first: Tensor, horizon: int
) -> tuple[Tensor, Tensor, Tensor]:
    extremes, out = _allocate(high, first, horizon)
    bars = [x.numpy() for x in (open_, high, low, close)]
    blocks = [x.numpy() for x in extremes]
    spread(lambda a, b: block_extremes(bars[1], bars[2], *blocks, a, b), blocks[0].size, EVENTS_EACH)
    events = [x.numpy() for x in (upper, lower, first)]
    written = [x.numpy() for x in out]
    spread(lambda a, b: _decide_events(*bars, *blocks, *events, horizon, *written, a, b), first.shape[0], EVENTS_EACH)
    return out


@_first_touch.register_fake
def _(
    open_: Tensor, high: Tensor, low: Tensor, close: Tensor, upper: Tensor, lower: Tensor, first: Tensor, horizon: int
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(first), torch.empty_like(first), torch.empty_like(upper)


@_first_touch.register_kernel("cuda")
def _(
    open_: Tensor, high: Tensor, low: Tensor, close: Tensor, upper: Tensor, lower: Tensor, first: Tensor, horizon: int
) -> tuple[Tensor, Tensor, Tensor]:
    extremes, out = _allocate(high, first, horizon)
    launch((open_, high, low, close), extremes, (upper, lower, first), horizon, out)
    return out


def launch(bars, extremes, events, horizon, out) -> None:
    """Run the two kernels on torch's current stream, or in the simulator on numpy arrays."""
    start(_extremes_kernel, -(-extremes[0].shape[0] // THREADS), THREADS, bars[1], bars[2], *extremes)
    start(_decide_kernel, -(-out[0].shape[0] // THREADS), THREADS, *bars, *extremes, *events, horizon, *out)


@cuda.jit
def _extremes_kernel(high, low, highest, lowest):
    block = cuda.grid(1)
    if block < highest.shape[0]:
        block_extremes(high, low, highest, lowest, block, block + 1)


@cuda.jit
def _decide_kernel(open_, high, low, close, highest, lowest, upper, lower, first, horizon, code, row, price):
    event = cuda.grid(1)
    if event < code.shape[0]:
        decide(open_, high, low, close, highest, lowest, upper, lower, first, horizon, code, row, price, event)
