"""Exponential and Wilder smoothing of columns, with TA-Lib's definition.

NaN until `window` finite inputs were seen; the first value is their mean (summed in row order, then divided); then
    ema     y = (x - y) * k + y                with k = 2 / (window + 1), TA-Lib's order of operations
    wilder  y = y * (1 - k) + x * k            with k = 1 / window; TA-Lib divides: equal within rounding
A row that is not finite gives NaN and leaves the state as it was. The state is float64 [3, C]: the number of finite
inputs so far (at most `window`), the sum of those, the current value (0 before the first).

Axes: B rows, C columns.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from kernels._op import jit, require, require_one_device
from kernels._spread import spread
from kernels._triton import blocks_of, kernel, power_of_two, tl

KINDS = ("ema", "wilder")
COLUMNS_EACH = 8  # a cache line: threads that write into one slow each other down
VALUES_EACH = 1 << 15


def initial_state(columns: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the state [3, C] before the first row."""
    return torch.zeros(3, columns, dtype=torch.float64, device=device)


def smooth(x: Tensor, window: int, kind: str, state: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth float64 `x` [B, C] from `state` [3, C]; return y [B, C] and the state after the last row.

    On the CPU any cutting of the rows into calls gives the same bits; CUDA agrees within rounding.
    """
    if kind not in KINDS:
        raise ValueError(f"smooth: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if window < 1:
        raise ValueError(f"smooth: window must be at least 1, got {window}")
    x = require("smooth", "x", x, torch.float64, None, None)
    state = require("smooth", "state", state, torch.float64, 3, x.shape[1])
    require_one_device("smooth", x=x, state=state)
    return _smooth(x, window, kind == "wilder", state)


@jit
def _seed(x, window, state, y, column):
    """Take rows of one column until `window` finite ones were seen; return the first row after them."""
    count, total, row = state[0, column], state[1, column], 0
    while row < x.shape[0] and count < window:
        y[row, column] = math.nan
        if math.isfinite(x[row, column]):
            count += 1.0
            total += x[row, column]
            if count == window:
                state[2, column] = y[row, column] = total / window
        row += 1
    state[0, column], state[1, column] = count, total
    return row


@jit
def _step(value, new, rest, k, wilder):
    return value * rest + new * k if wilder else (new - value) * k + value


@jit
def _factor(window, wilder):
    return 1.0 / window if wilder else 2.0 / (window + 1)


@jit
def spec(x, window, wilder, state, y, first_column, last_column):
    """Smooth columns [first_column, last_column) of x into y and move their state on, one column after the other."""
    k = _factor(window, wilder)
    for column in range(first_column, last_column):
        row = _seed(x, window, state, y, column)
        value = state[2, column]
        while row < x.shape[0]:
            while row < x.shape[0] and math.isfinite(x[row, column]):
                value = _step(value, x[row, column], 1.0 - k, k, wilder)
                y[row, column] = value
                row += 1
            if row < x.shape[0]:
                y[row, column] = math.nan
                row += 1
        state[2, column] = value


@jit
def _abreast(x, window, wilder, state, y, first_column, last_column):
    """The same with the columns side by side: a step waits for the one before, other columns fill the wait."""
    k, begin, value = _factor(window, wilder), np.empty(x.shape[1], np.int64), np.empty(x.shape[1])
    for column in range(first_column, last_column):
        begin[column] = _seed(x, window, state, y, column)
        value[column] = state[2, column]
    for row in range(x.shape[0]):
        for column in range(first_column, last_column):
            if row < begin[column]:
                continue
            if math.isfinite(x[row, column]):
                value[column] = _step(value[column], x[row, column], 1.0 - k, k, wilder)
                y[row, column] = value[column]
            else:
                y[row, column] = math.nan
    state[2, first_column:last_column] = value[first_column:last_column]


@torch.library.custom_op("gpu_pipeline::smooth", mutates_args=(), device_types="cpu")
def _smooth(x: Tensor, window: int, wilder: bool, state: Tensor) -> tuple[Tensor, Tensor]:
    y, after = torch.empty_like(x), state.clone()
    arrays = x.numpy(), window, wilder, after.numpy(), y.numpy()
    loop = spec if x.shape[1] < 3 else _abreast
    spread(
        lambda start, stop: loop(*arrays, start, stop), x.shape[1], max(COLUMNS_EACH, VALUES_EACH // max(x.shape[0], 1))
    )
    return y, after


@_smooth.register_fake
def _(x: Tensor, window: int, wilder: bool, state: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(state)


@_smooth.register_kernel("cuda")
def _(x: Tensor, window: int, wilder: bool, state: Tensor) -> tuple[Tensor, Tensor]:
    y, after = torch.empty_like(x), torch.empty_like(state)
    with torch.cuda.device(x.device):
        launch(x, window, wilder, state, y, after)
    return y, after


def launch(x: Tensor, window: int, wilder: bool, state: Tensor, y: Tensor, after: Tensor, tile: int = 2048) -> None:
    """Run the four kernels: find the seed, compose every chunk, carry over the chunks, write.

    A row is the affine map y -> a * y + b; maps compose associatively, so chunks of `tile` values are scanned apart.
    """
    rows, columns = x.shape
    if columns == 0:
        return
    wide = min(power_of_two(columns), 16)
    tall = max(tile // wide, 2)
    chunks, tiles = blocks_of(rows, tall), blocks_of(columns, wide)
    seed_row = torch.empty(columns, dtype=torch.int64, device=x.device)
    maps = x.new_empty(2, max(chunks, 1), columns)
    carry = x.new_empty(max(chunks, 1), columns)
    shape = {"WILDER": wilder, "TALL": tall, "WIDE": wide}
    _seed_kernel[(columns,)](x, state, seed_row, after, rows, columns, window, BLOCK=min(tile, 1024))
    if chunks:
        _chunk_kernel[(chunks, tiles)](x, seed_row, after, maps, rows, columns, window, **shape)
    _carry_kernel[(tiles,)](maps, state, carry, after, chunks, columns, WIDE=wide, TALL=tall)
    if chunks:
        _write_kernel[(chunks, tiles)](x, seed_row, after, carry, y, rows, columns, window, **shape)


@kernel
def _finite(x):
    return (x - x) == 0.0


@kernel
def _seed_kernel(x, state, seed_row, after, rows, columns, window, BLOCK: tl.constexpr):
    """Per column: the row that completes the first `window` finite inputs (-1: an earlier call, rows: none yet)."""
    column = tl.program_id(0)
    count = tl.load(state + column).to(tl.int64)
    total = tl.load(state + columns + column)
    seed = tl.where(count >= window, -1, rows).to(tl.int64)
    start = tl.zeros((), tl.int64)
    while (count < window) & (start < rows):
        row = start + tl.arange(0, BLOCK)
        value = tl.load(x + row * columns + column, mask=row < rows, other=float("nan"))
        finite = _finite(value)
        seen = count + tl.cumsum(finite.to(tl.int64), 0)
        used = finite & (seen <= window)
        total += tl.sum(tl.where(used, value, 0.0), 0)
        seed = tl.minimum(seed, tl.min(tl.where(used & (seen == window), row, rows), 0))
        count = tl.minimum(count + tl.sum(finite.to(tl.int64), 0), window)
        start += BLOCK
    tl.store(seed_row + column, seed)
    tl.store(after + column, count.to(tl.float64))
    tl.store(after + columns + column, total)


@kernel
def _compose(a, b, later_a, later_b):
    return a * later_a, later_a * b + later_b


@kernel
def _tile_maps(x, seed_row, after, rows, columns, window, WILDER: tl.constexpr, TALL: tl.constexpr, WIDE: tl.constexpr):
    """Scan one tile of maps down its rows: identity before the seed and where the input is not finite."""
    row = tl.program_id(0).to(tl.int64) * TALL + tl.arange(0, TALL)[:, None]
    column = tl.program_id(1) * WIDE + tl.arange(0, WIDE)[None, :]
    inside = (row < rows) & (column < columns)
    place = row * columns + column
    value = tl.load(x + place, mask=inside, other=float("nan"))
    seed = tl.load(seed_row + column, mask=column < columns, other=0)
    width = tl.zeros((1, 1), tl.float64) + window
    mean = tl.load(after + columns + column, mask=column < columns, other=0.0) / width
    live = _finite(value) & (row > seed)
    k = 1.0 / width if WILDER else 2.0 / (width + 1.0)
    a = tl.where(live, 1.0 - k, tl.where(row == seed, 0.0, 1.0))
    b = tl.where(live, value * k, tl.where(row == seed, mean, 0.0))
    a, b = tl.associative_scan((a, b), 0, _compose)
    shown = _finite(value) & (row >= seed)
    return a, b, shown, place, inside, row, column


@kernel
def _chunk_kernel(
    x, seed_row, after, maps, rows, columns, window, WILDER: tl.constexpr, TALL: tl.constexpr, WIDE: tl.constexpr
):
    """maps[:, chunk] = all rows of the chunk composed into one map."""
    a, b, _shown, _place, inside, row, column = _tile_maps(
        x, seed_row, after, rows, columns, window, WILDER, TALL, WIDE
    )
    chunk = tl.program_id(0).to(tl.int64)
    last = inside & (row == tl.minimum((chunk + 1) * TALL, rows) - 1)
    place = chunk * columns + column + row * 0
    tl.store(maps + place, a, mask=last)
    tl.store(maps + tl.num_programs(0) * columns + place, b, mask=last)


@kernel
def _carry_kernel(maps, state, carry, after, chunks, columns, WIDE: tl.constexpr, TALL: tl.constexpr):
    """carry[chunk] = the value with which the chunk begins; after[2] = the value with which the last one ends."""
    column = tl.program_id(0) * WIDE + tl.arange(0, WIDE)[None, :]
    known = column < columns
    value = tl.load(state + 2 * columns + column, mask=known, other=0.0)
    for start in range(0, chunks, TALL):
        chunk = start + tl.arange(0, TALL)[:, None].to(tl.int64)
        inside = known & (chunk < chunks)
        place = chunk * columns + column
        a = tl.load(maps + place, mask=inside, other=1.0)
        b = tl.load(maps + chunks * columns + place, mask=inside, other=0.0)
        a, b = tl.associative_scan((a, b), 0, _compose)
        ends = a * value + b
        tl.store(carry + place, tl.broadcast_to(value, (TALL, WIDE)), mask=inside & (chunk == start))
        tl.store(carry + place + columns, ends, mask=inside & (chunk + 1 < chunks) & (chunk + 1 < start + TALL))
        value = tl.sum(tl.where(chunk == start + TALL - 1, ends, 0.0), 0)[None, :]
    tl.store(after + 2 * columns + column, value, mask=known)


@kernel
def _write_kernel(
    x, seed_row, after, carry, y, rows, columns, window, WILDER: tl.constexpr, TALL: tl.constexpr, WIDE: tl.constexpr
):
    """Write y: the chunk's maps applied to the value with which it begins."""
    a, b, shown, place, inside, _row, column = _tile_maps(x, seed_row, after, rows, columns, window, WILDER, TALL, WIDE)
    start = tl.load(carry + tl.program_id(0).to(tl.int64) * columns + column, mask=column < columns, other=0.0)
    tl.store(y + place, tl.where(shown, a * start + b, float("nan")), mask=inside)
