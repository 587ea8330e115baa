"""Sum, mean, variance, standard deviation, minimum and maximum over the last `window` rows of every column.

Blocks of `window` rows, aligned to the absolute row number, are summed up from their first row on (prefix) and from
their last row back (suffix); a window is the suffix of one block merged with the prefix of the next (van Herk 1992; Gil
and Werman 1993). About three operations a value, no running difference, and the same bits for any cutting into calls.

NaN until `window` rows were seen; a NaN gives NaN while it is inside the window, and nothing afterwards.
var and std: every window that ends in a block holds the block's first row, so the sums S1, S2 of d = x - first row give
M2 = S2 - S1^2 / window without cancellation (what is subtracted is at most (window - 1) / window of S2), merge by plain
addition, and are exactly 0 where all rows are equal. var = M2 / (window - ddof).

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

OPS = ("sum", "mean", "var", "std", "min", "max")
SUM, MEAN, VAR, STD, MIN, MAX = range(6)
GPU_WINDOW_LIMIT = 1 << 14
VALUES_EACH = 1 << 15
TILE_ROWS = 1 << 10


def initial_state(window: int, columns: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Return (tail [window-1, C], seen [1]) before the first row."""
    tail = torch.full((window - 1, columns), math.nan, dtype=torch.float64, device=device)
    return tail, torch.zeros(1, dtype=torch.int64)


def rolling(
    x: Tensor,  # [B, C] float64
    window: int,  # rows
    op: str,  # one of OPS
    tail: Tensor,  # [window-1, C] float64, the rows before x
    seen: Tensor,  # [1] int64 on the CPU, how many rows came before x
    ddof: int = 0,  # of var and std: 0 population, 1 sample
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (y [B, C], tail, seen): `op` over the rows i - window + 1 .. i of every column.

    Any cutting gives the same bits on the CPU; CUDA agrees within rounding, exactly for min and max. One row costs
    O(window). `seen` stays on the CPU, since it decides addresses, never values.

    Raises:
        ValueError: unknown op, window below 1 (or above 16,384 on CUDA), ddof outside [0, window).
    """
    if op not in OPS:
        raise ValueError(f"rolling: op must be one of {', '.join(OPS)}, got {op!r}")
    if window < 1:
        raise ValueError(f"rolling: window must be at least 1, got {window}")
    if op in ("var", "std") and not 0 <= ddof < window:
        raise ValueError(f"rolling: ddof must be in [0, window), got {ddof} for window {window}")
    x = require("rolling", "x", x, torch.float64, None, None)
    tail = require("rolling", "tail", tail, torch.float64, window - 1, x.shape[1])
    seen = require("rolling", "seen", seen, torch.int64, 1)
    require_one_device("rolling", x=x, tail=tail)
    if x.is_cuda and window > GPU_WINDOW_LIMIT:
        raise ValueError(f"rolling: on a GPU window must be at most {GPU_WINDOW_LIMIT}, got {window}; use device=cpu")
    return _rolling(x, window, OPS.index(op), tail, seen, ddof)


@jit
def spec(x, window, op, ddof):
    """One whole history, every window from scratch: the oracle, not the CPU form."""
    y = np.full(x.shape, math.nan)
    for row in range(window - 1, x.shape[0]):
        for column in range(x.shape[1]):
            rows = x[row - window + 1 : row + 1, column]
            if op in (MIN, MAX):
                y[row, column] = rows.min() if op == MIN else rows.max()
            elif op in (SUM, MEAN):
                y[row, column] = rows.sum() / (window if op == MEAN else 1)
            else:
                moment = ((rows - rows.mean()) ** 2).sum() / (window - ddof)
                y[row, column] = moment if op == VAR else math.sqrt(moment)
    return y


@jit
def _sums(x, origin, window, start, stop, divisor, before, out):
    """out[i - start] = sum of rows i - window + 1 .. i over divisor, absolute rows; x[0] is absolute row origin."""
    for base in range(start // window * window, stop, window):
        begin = max(start, base, window - 1)
        back = begin - window + 1
        total = before[base - back] = 0.0
        for row in range(base - 1, back - 1, -1):
            total += x[row - origin]
            before[row - back] = total
        total = 0.0
        for row in range(base, min(begin, stop)):
            total += x[row - origin]
        for row in range(begin, min(stop, base + window)):
            total += x[row - origin]
            out[row - start] = (before[row - begin] + total) / divisor


@jit
def _moments(x, origin, window, start, stop, divisor, root, before, squares, out):
    """The same for the variance, M2 / divisor, or its square root."""
    inverse = 1.0 / window
    for base in range(start // window * window, stop, window):
        begin = max(start, base, window - 1)
        back, first = begin - window + 1, x[base - origin]
        total = square = before[base - back] = squares[base - back] = 0.0
        for row in range(base - 1, back - 1, -1):
            d = x[row - origin] - first
            total, square = total + d, square + d * d
            before[row - back], squares[row - back] = total, square
        total = square = 0.0
        for row in range(base, min(begin, stop)):
            d = x[row - origin] - first
            total, square = total + d, square + d * d
        for row in range(begin, min(stop, base + window)):
            d = x[row - origin] - first
            total, square = total + d, square + d * d
            s1 = before[row - begin] + total
            m2 = squares[row - begin] + square - s1 * s1 * inverse
            m2 = (0.0 if m2 < 0.0 else m2) / divisor
            out[row - start] = math.sqrt(m2) if root else m2


@jit
def _smaller(a, b):
    return b if b < a or b != b else a


@jit
def _extremes(x, origin, window, start, stop, sign, before, out):
    """The same for the minimum of sign * x, turned back."""
    for base in range(start // window * window, stop, window):
        begin = max(start, base, window - 1)
        back = begin - window + 1
        least = before[base - back] = math.inf
        for row in range(base - 1, back - 1, -1):
            least = _smaller(least, sign * x[row - origin])
            before[row - back] = least
        least = math.inf
        for row in range(base, min(begin, stop)):
            least = _smaller(least, sign * x[row - origin])
        for row in range(begin, min(stop, base + window)):
            least = _smaller(least, sign * x[row - origin])
            out[row - start] = sign * _smaller(before[row - begin], least)


@jit
def _roll(x, origin, window, op, ddof, start, stop, out):
    """Roll absolute rows [start, stop) of every column, in tiles of whole blocks that stay in the cache."""
    before, squares = np.empty(window), np.empty(window)
    out[: max(0, min(stop, window - 1) - start)] = math.nan
    tall = window * max(1, TILE_ROWS // window)
    for base in range(start // tall * tall, stop, tall):
        begin, end = max(start, base), min(stop, base + tall)
        for column in range(x.shape[1]):
            values, y = x[:, column], out[begin - start : end - start, column]
            if op in (SUM, MEAN):
                _sums(values, origin, window, begin, end, window if op == MEAN else 1, before, y)
            elif op in (VAR, STD):
                _moments(values, origin, window, begin, end, window - ddof, op == STD, before, squares, y)
            else:
                _extremes(values, origin, window, begin, end, 1.0 if op == MIN else -1.0, before, y)


def _fill(x: np.ndarray, tail: np.ndarray, seen: int, window: int, op: int, ddof: int, out: np.ndarray) -> None:
    """The first rows from the tail joined to their chunk; from the first block whose window needs no tail, x alone."""
    head = min(blocks_of(seen, window) * window + window - seen, x.shape[0])
    joined = np.concatenate([tail, x[:head]])
    _roll(joined, seen - window + 1, window, op, ddof, seen, seen + head, out[:head])
    blocks = blocks_of(x.shape[0] - head, window)

    def work(first: int, last: int) -> None:
        start, stop = head + first * window, min(head + last * window, x.shape[0])
        _roll(x, seen, window, op, ddof, seen + start, seen + stop, out[start:stop])

    spread(work, blocks, max(1, VALUES_EACH // (window * max(x.shape[1], 1))))


def _tail_after(x: Tensor, tail: Tensor) -> Tensor:
    kept = tail.shape[0]
    return torch.cat([tail[min(x.shape[0], kept) :], x[max(x.shape[0] - kept, 0) :]])


@torch.library.custom_op("gpu_pipeline::rolling", mutates_args=(), device_types="cpu")
def _rolling(x: Tensor, window: int, op: int, tail: Tensor, seen: Tensor, ddof: int) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty_like(x)
    _fill(x.numpy(), tail.numpy(), int(seen), window, op, ddof, y.numpy())
    return y, _tail_after(x, tail), seen + x.shape[0]


@_rolling.register_fake
def _(x: Tensor, window: int, op: int, tail: Tensor, seen: Tensor, ddof: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(tail), torch.empty_like(seen)


@_rolling.register_kernel("cuda")
def _(x: Tensor, window: int, op: int, tail: Tensor, seen: Tensor, ddof: int) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty_like(x)
    with torch.cuda.device(x.device):
        launch(x, tail, int(seen), window, op, ddof, y)
    return y, _tail_after(x, tail), seen + x.shape[0]


def launch(x: Tensor, tail: Tensor, seen: int, window: int, op: int, ddof: int, y: Tensor, tile: int = 2048) -> None:
    """Give every program some aligned blocks of some columns: about `tile` values, or one block where it is longer."""
    rows, columns = x.shape
    if x.numel() == 0:
        return
    tall = power_of_two(window)
    wide = min(power_of_two(columns), 16, max(1, 2 * tile // tall))
    group = max(1, tile // (tall * wide))
    blocks = blocks_of(seen + rows, window) - seen // window
    grid = blocks_of(blocks, group), blocks_of(columns, wide)
    warps = 4 if tall * wide * group <= 4096 else 16
    shape = {"OP": op, "TALL": tall, "WIDE": wide, "LANES": group * wide, "num_warps": warps}
    _rolling_kernel[grid](x, tail, y, rows, columns, seen, window, window - ddof, **shape)


@kernel
def _load_row(x, tail, local, column, rows, columns, window, wanted):
    """x[local], or the tail's row where local is negative; NaN where not wanted."""
    before = tl.load(
        tail + (local + window - 1) * columns + column,
        mask=wanted & (local < 0) & (local > -window),
        other=float("nan"),
    )
    here = tl.load(x + local * columns + column, mask=wanted & (local >= 0) & (local < rows), other=float("nan"))
    return tl.where(local < 0, before, here)


@kernel
def _least(a, b):
    return tl.where((b < a) | (b != b), b, a)


@kernel
def _tile_extremes(value, past, inside, earlier, sign):
    least = tl.associative_scan(tl.where(inside, sign * value, float("inf")), 0, _least)
    rest = tl.associative_scan(tl.where(earlier, sign * past, float("inf")), 0, _least, reverse=True)
    return sign * _least(rest, least)


@kernel
def _tile_moments(d, e, width, divisor):
    """Return the variance of the suffixes of e merged with the prefixes of d."""
    s1 = tl.cumsum(e, 0, reverse=True) + tl.cumsum(d, 0)
    s2 = tl.cumsum(e * e, 0, reverse=True) + tl.cumsum(d * d, 0)
    m2 = s2 - s1 * s1 / width
    return tl.where(m2 < 0.0, 0.0, m2) / divisor


@kernel
def _rolling_kernel(
    x,
    tail,
    y,
    rows,
    columns,
    seen,
    window,
    divisor,
    OP: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
    LANES: tl.constexpr,
):
    """One lane per (block, column): the prefix of the block, the suffix of the one before moved up by a row, merged."""
    lane = tl.arange(0, LANES)[None, :]
    step = tl.arange(0, TALL)[:, None]
    column = tl.program_id(1) * WIDE + lane % WIDE
    block = seen // window + tl.program_id(0) * (LANES // WIDE) + lane // WIDE
    base = block.to(tl.int64) * window - seen
    known = column < columns
    width = tl.zeros((1, 1), tl.float64) + window
    over = tl.zeros((1, 1), tl.float64) + divisor
    local = base + step
    inside = known & (step < window) & (local < rows)
    earlier = known & (step < window - 1) & (block > 0)
    value = _load_row(x, tail, local, column, rows, columns, window, inside)
    past = _load_row(x, tail, local - window + 1, column, rows, columns, window, earlier)
    if OP >= 4:
        out = _tile_extremes(value, past, inside, earlier, 1.0 if OP == 4 else -1.0)
    elif OP >= 2:
        first = _load_row(x, tail, base, column, rows, columns, window, known)
        out = _tile_moments(tl.where(inside, value - first, 0.0), tl.where(earlier, past - first, 0.0), width, over)
        out = tl.sqrt(out) if OP == 3 else out
    else:
        out = tl.cumsum(tl.where(earlier, past, 0.0), 0, reverse=True) + tl.cumsum(tl.where(inside, value, 0.0), 0)
        out = out / width if OP == 1 else out
    out = tl.where(base + seen + step < window - 1, float("nan"), out)
    tl.store(y + local * columns + column, out, mask=inside & (local >= 0))
