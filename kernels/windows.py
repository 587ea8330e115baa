"""Moments, rank and quantile of the last w = p[0] rows of one column, each window computed from its own rows.

The plain loops define them and are the CPU form; what a loop remembers are the last w rows, so on CUDA a Triton kernel
computes all windows at once, each from its own rows in the same order, and leaves the state that the loop would leave.
CUDA agrees within rounding, ranks and quantiles of w >= 1 rows exactly but for the interpolation.

Axes: n rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kernels._triton import blocks_of, kernel, tl
from kernels.loops import helper, row_loop

MOMENTS, RANK, QUANTILE = range(3)
BLOCK = 128


@helper
def push(state, window, count, value):  # type: ignore[no-untyped-def]
    """Take in row number `count`; where the window that ends with it begins."""
    at = count % window
    state[at] = state[at + window] = value
    return at + 1


@helper
def mean_of(state, begin, window, first):  # type: ignore[no-untyped-def]
    """Mean of the window's deviations from `first`."""
    # Four sums, since an addition waits for the one before it.
    a = b = c = d = 0.0
    fours = begin + window // 4 * 4
    for index in range(begin, fours, 4):
        a += state[index] - first
        b += state[index + 1] - first
        c += state[index + 2] - first
        d += state[index + 3] - first
    for index in range(fours, begin + window):
        a += state[index] - first
    return ((a + b) + (c + d)) / window


@row_loop
def moments(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Skewness and excess kurtosis of the population; 0 where all rows are equal."""
    window = int(p[0])
    for row in range(x.shape[1]):
        begin = push(state, window, seen + row, x[0, row])
        first = state[begin]
        mean = mean_of(state, begin, window, first)
        second = third = fourth = 0.0
        for index in range(begin, begin + window):
            d = (state[index] - first) - mean
            square = d * d
            second += square
            third += square * d
            fourth += square * square
        second /= window
        y[0, row] = y[1, row] = 0.0
        if second != 0:
            y[0, row] = third / window / (second * math.sqrt(second))
            y[1, row] = fourth / window / (second * second) - 3.0


@row_loop
def rank(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Share of the window below its last row, those equal to it counted half."""
    window = int(p[0])
    for row in range(x.shape[1]):
        begin = push(state, window, seen + row, x[0, row])
        last, below, equal = x[0, row], 0, 0
        for index in range(begin, begin + window):
            below += state[index] < last
            equal += state[index] == last
        y[0, row] = (below + 0.5 * equal) / window


@helper
def position_of(values, begin, count, value):  # type: ignore[no-untyped-def]
    """Where in `count` sorted values from `begin` on the first one not below `value` stands."""
    low, high = begin, begin + count
    while low < high:
        middle = (low + high) // 2
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@row_loop
def quantile(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Quantile p[1], linear between neighbours; state: rows taken in, the last w rows, the same sorted."""
    window = int(p[0])
    place = p[1] * (window - 1)
    below = int(place)
    above, part, begin = min(below + 1, window - 1), place - below, window + 1
    for row in range(x.shape[1]):
        value, y[0, row] = x[0, row], math.nan
        if value != value:
            continue
        count = int(state[0])
        held, at = min(count, window), 1 + count % window
        if held == window:
            held -= 1
            for index in range(position_of(state, begin, window, state[at]), begin + held):
                state[index] = state[index + 1]
        where = position_of(state, begin, held, value)
        for index in range(begin + held, where, -1):
            state[index] = state[index - 1]
        state[where] = state[at] = value
        state[0] = count + 1.0
        if held + 1 == window:
            low = state[begin + below]
            y[0, row] = low + (state[begin + above] - low) * part


def launch(
    x: Tensor, tail: Tensor, y: Tensor, window: int, op: int, missing: int = 0, probability: float = 0.0
) -> None:
    """Write y [O, n] for rows x [n] behind the rows tail [w-1]; NaN in the first `missing` rows of a quantile."""
    rows = x.shape[0]
    if rows == 0:
        return
    place = probability * (window - 1)
    below = int(place)
    part = torch.tensor([place - below], dtype=torch.float64, device=x.device)
    sizes = rows, window, window // 4 * 4, below, min(below + 1, window - 1), missing
    _window_kernel[(blocks_of(rows, BLOCK),)](x, tail, y, part, *sizes, OP=op, BLOCK=BLOCK)


def _on_gpu(op: int) -> Callable[..., tuple[Tensor, Tensor]]:
    def run(x: Tensor, outputs: int, state: Tensor, seen: int, p: Tensor) -> tuple[Tensor, Tensor]:
        """As `kernels.loops.run`."""
        window, known = int(p[0]), x[0]
        y, after = x.new_full((outputs, x.shape[1]), math.nan), state.clone()
        tail = state[(torch.arange(window - 1, device=x.device) + seen + 1) % window]
        launch(known.contiguous(), tail, y, window, op)
        last = known[-window:]
        at = (torch.arange(len(last), device=x.device) + seen + x.shape[1] - len(last)) % window
        after[at], after[at + window] = last, last
        return y, after

    return run


def _quantile_on_gpu(x: Tensor, outputs: int, state: Tensor, seen: int, p: Tensor) -> tuple[Tensor, Tensor]:
    """As `kernels.loops.run`; rows without a value are passed over, as the loop does."""
    window, count = int(p[0]), int(state[0])
    y, after, has = x.new_full((outputs, x.shape[1]), math.nan), state.clone(), ~torch.isnan(x[0])
    known = x[0][has].contiguous()
    tail = state[1 + (torch.arange(window - 1, device=x.device) + count + 1) % window]
    made = x.new_empty(1, len(known))
    launch(known, tail, made, window, QUANTILE, max(0, window - 1 - count), float(p[1]))
    y[0, has] = made[0]
    last = known[-window:]
    total = count + len(known)
    after[1 + (torch.arange(len(last), device=x.device) + total - len(last)) % window] = last
    after[0] = total
    held = min(total, window)
    after[1 + window : 1 + window + held] = after[1 : 1 + held].sort().values
    return y, after


moments.parallel, rank.parallel, quantile.parallel = _on_gpu(MOMENTS), _on_gpu(RANK), _quantile_on_gpu


@kernel
def _at(x, tail, local, rows, window):
    before = tl.load(tail + local + window - 1, mask=(local < 0) & (local > -window), other=0.0)
    here = tl.load(x + local, mask=(local >= 0) & (local < rows), other=0.0)
    return tl.where(local < 0, before, here)


@kernel
def _moments_of(x, tail, begin, rows, window, fours, width):
    first = _at(x, tail, begin, rows, window)
    a, b, c, d = first * 0.0, first * 0.0, first * 0.0, first * 0.0
    for k in range(0, fours, 4):
        a += _at(x, tail, begin + k, rows, window) - first
        b += _at(x, tail, begin + k + 1, rows, window) - first
        c += _at(x, tail, begin + k + 2, rows, window) - first
        d += _at(x, tail, begin + k + 3, rows, window) - first
    for k in range(fours, window):
        a += _at(x, tail, begin + k, rows, window) - first
    mean = ((a + b) + (c + d)) / width
    second, third, fourth = first * 0.0, first * 0.0, first * 0.0
    for k in range(0, window):
        e = (_at(x, tail, begin + k, rows, window) - first) - mean
        square = e * e
        second += square
        third += square * e
        fourth += square * square
    second = second / width
    some = tl.where(second == 0.0, 1.0, second)
    skewness = tl.where(second == 0.0, 0.0, third / width / (some * tl.sqrt(some)))
    return skewness, tl.where(second == 0.0, 0.0, fourth / width / (some * some) - 3.0)


@kernel
def _rank_of(x, tail, begin, rows, window, width):
    last = _at(x, tail, begin + window - 1, rows, window)
    below, equal = last * 0.0, last * 0.0
    for k in range(0, window):
        value = _at(x, tail, begin + k, rows, window)
        below += tl.where(value < last, 1.0, 0.0)
        equal += tl.where(value == last, 1.0, 0.0)
    return (below + 0.5 * equal) / width


@kernel
def _quantile_of(x, tail, begin, rows, window, below, above, part):
    """The values with `below` and `above` others before them in order, found by counting."""
    low = _at(x, tail, begin, rows, window)
    high = low
    for j in range(0, window):
        value = _at(x, tail, begin + j, rows, window)
        less, equal = (begin * 0).to(tl.int32), (begin * 0).to(tl.int32)
        for k in range(0, window):
            other = _at(x, tail, begin + k, rows, window)
            less += (other < value).to(tl.int32)
            equal += (other == value).to(tl.int32)
        low = tl.where((less <= below) & (below < less + equal), value, low)
        high = tl.where((less <= above) & (above < less + equal), value, high)
    return low + (high - low) * part


@kernel
def _window_kernel(x, tail, y, part, rows, window, fours, below, above, missing, OP: tl.constexpr, BLOCK: tl.constexpr):
    """One row per lane, its window read from the oldest row on; neighbours read neighbouring rows."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = row < rows
    begin = row - window + 1
    width = tl.zeros((1,), tl.float64) + window
    if OP == 0:
        skewness, kurtosis = _moments_of(x, tail, begin, rows, window, fours, width)
        tl.store(y + row, skewness, mask=inside)
        tl.store(y + rows + row, kurtosis, mask=inside)
    elif OP == 1:
        tl.store(y + row, _rank_of(x, tail, begin, rows, window, width), mask=inside)
    else:
        made = _quantile_of(x, tail, begin, rows, window, below, above, tl.load(part))
        tl.store(y + row, tl.where(row < missing, float("nan"), made), mask=inside)
