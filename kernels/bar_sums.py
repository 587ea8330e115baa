"""Everything about a bar that is a sum, an extreme, a first or a last of its trades, in integers, in one pass.

A bar type only decides `ends`; this op is the same for all. d = price_ticks - open of the bar; s1..s4 are the sums of
its powers, s2..s4 in 128 bits (two int64 words). A move is the sign of a non-zero price change between two trades of
one bar. Integer sums do not depend on their order, so every chunking, thread count and device gives the same numbers.
Bounds: |price_ticks| < 2^62, volume and notional of one bar < 2^63; `centred_moments` checks those of the power sums.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import cuda, int64

from kernels._int128 import add, multiply
from kernels._op import SIMULATED, in_threads, jit, launch, new_rows, require, require_one_device

COLUMNS = (
    "first_time",
    "last_time",
    "first_row",
    "last_row",
    "open",
    "high",
    "low",
    "close",
    "count",
    "volume",
    "notional",
    "buy_volume",
    "s1",
    "s2_hi",
    "s2_lo",
    "s3_hi",
    "s3_lo",
    "s4_hi",
    "s4_lo",
    "price_changes",
    "directional_changes",
    "first_move",
    "last_move",
)
K = len(COLUMNS)
FIRST_TIME, LAST_TIME, FIRST_ROW, LAST_ROW, OPEN, HIGH, LOW, CLOSE, COUNT, VOLUME, NOTIONAL, BUYS = range(12)
S1, S2, S3, S4, CHANGES, TURNS, FIRST_MOVE, LAST_MOVE = 12, 13, 15, 17, 19, 20, 21, 22
# Rows per tile, and the |d| below which a tile's powers fit 64 bits: 64 x (2^14)^4 = 2^62.
TILE, NARROW = 64, 1 << 14
# Rows that every loop takes before the next: their four columns stay in the first-level cache.
STRETCH = 512
ROWS_PER_THREAD = 1 << 18
THREADS = 4 if SIMULATED else 32


def bar_sums(
    time_ns: torch.Tensor,  # [N] int64 ns
    price_ticks: torch.Tensor,  # [N] int64
    quantity_lots: torch.Tensor,  # [N] int64
    notional: torch.Tensor,  # [N] int64 ticks x lots
    is_buyer_maker: torch.Tensor,  # [N] bool, true where the taker sold
    ends: torch.Tensor,  # [B] int64, non-decreasing, in [0, N]: a bar is the rows [previous end, end)
    first_row: int,
    state: torch.Tensor,  # [K] int64, sums of the bar carried in; zeros(K) = none
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (sums [K, B], state [K]): the rows of COLUMNS for every closed bar, and for the bar left open.

    An end of 0 closes exactly the bar carried in; an empty bar is all zeros. `first_row` is the absolute row of the
    chunk's first trade. On CUDA nothing waits, and `ends` are not checked.

    Raises:
        ValueError: shapes that do not agree; ends that fall or leave [0, N] (CPU).
    """
    rows = time_ns.shape[0]
    columns = [require("bar_sums", "time_ns", time_ns, torch.int64, None)]
    for name, column in (("price_ticks", price_ticks), ("quantity_lots", quantity_lots), ("notional", notional)):
        columns.append(require("bar_sums", name, column, torch.int64, rows))
    columns.append(require("bar_sums", "is_buyer_maker", is_buyer_maker, torch.bool, rows))
    ends = require("bar_sums", "ends", ends, torch.int64, None)
    state = require("bar_sums", "state", state, torch.int64, K)
    require_one_device("bar_sums", time_ns=time_ns, price_ticks=price_ticks, ends=ends, state=state)
    return _bar_sums(*columns, ends, first_row, state)


@jit
def wide_powers(price, origin):
    """Return (s1, s2_hi, s2_lo, s3_hi, s3_lo, s4_hi, s4_lo) of d = price - origin."""
    s1, s2h, s2l, s3h, s3l, s4h, s4l = 0, 0, 0, 0, 0, 0, 0
    for row in range(price.shape[0]):
        d = price[row] - origin
        square = d * d
        s1 += d
        s2h, s2l = add(s2h, s2l, 0, square)
        high, low = multiply(square, d)
        s3h, s3l = add(s3h, s3l, high, low)
        high, low = multiply(square, square)
        s4h, s4l = add(s4h, s4l, high, low)
    return s1, s2h, s2l, s3h, s3l, s4h, s4l


@jit
def narrow_powers(price, origin):
    """Return what wide_powers does, for at most TILE rows with |d| < NARROW: every sum fits 64 bits."""
    s1, s2, s3, s4 = 0, 0, 0, 0
    for row in range(price.shape[0]):
        d = price[row] - origin
        square = d * d
        s1 += d
        s2 += square
        s3 += square * d
        s4 += square * square
    return s1, s2 >> 63, s2, s3 >> 63, s3, s4 >> 63, s4


@jit
def add_prices(price, origin, out, bar):
    """Add extremes and power sums to out[:, bar], tile by tile."""
    low, high = out[LOW, bar], out[HIGH, bar]
    s1, s2h, s2l = out[S1, bar], out[S2, bar], out[S2 + 1, bar]
    s3h, s3l, s4h, s4l = out[S3, bar], out[S3 + 1, bar], out[S4, bar], out[S4 + 1, bar]
    for begin in range(0, price.shape[0], TILE):
        tile = price[begin : begin + TILE]
        least, most = tile[0], tile[0]
        for row in range(tile.shape[0]):
            least, most = min(least, tile[row]), max(most, tile[row])
        low, high = min(low, least), max(high, most)
        if least - origin > -NARROW and most - origin < NARROW:
            t1, t2h, t2l, t3h, t3l, t4h, t4l = narrow_powers(tile, origin)
        else:
            t1, t2h, t2l, t3h, t3l, t4h, t4l = wide_powers(tile, origin)
        s1 += t1
        s2h, s2l = add(s2h, s2l, t2h, t2l)
        s3h, s3l = add(s3h, s3l, t3h, t3l)
        s4h, s4l = add(s4h, s4l, t4h, t4l)
    out[LOW, bar], out[HIGH, bar] = low, high
    out[S1, bar], out[S2, bar], out[S2 + 1, bar] = s1, s2h, s2l
    out[S3, bar], out[S3 + 1, bar], out[S4, bar], out[S4 + 1, bar] = s3h, s3l, s4h, s4l


@jit
def add_moves(price, previous, out, bar):
    """Add the price changes to out[:, bar]; `previous` is the price of the trade before."""
    changes, turns, first, last = out[CHANGES, bar], out[TURNS, bar], out[FIRST_MOVE, bar], out[LAST_MOVE, bar]
    for row in range(price.shape[0]):
        now = price[row]
        if now != previous:
            move = 1 if now > previous else -1
            changes += 1
            turns += 1 if move + last == 0 else 0
            first = move if first == 0 else first
            last = move
        previous = now
    out[CHANGES, bar], out[TURNS, bar], out[FIRST_MOVE, bar], out[LAST_MOVE, bar] = changes, turns, first, last


@jit
def add_amounts(quantity, notional, is_buyer_maker, out, bar):
    """Add volume, notional and the volume that takers bought to out[:, bar]."""
    volume, value, buys = out[VOLUME, bar], out[NOTIONAL, bar], out[BUYS, bar]
    for row in range(quantity.shape[0]):
        volume += quantity[row]
        value += notional[row]
        buys += 0 if is_buyer_maker[row] else quantity[row]
    out[VOLUME, bar], out[NOTIONAL, bar], out[BUYS, bar] = volume, value, buys


@jit
def add_rows(time, price, quantity, notional, is_buyer_maker, begin, end, first_row, origin, previous, out, bar):
    """Add the rows [begin, end), one at least, to out[:, bar]: the rows of the same bar before them, or zeros.

    `origin` is the bar's open, `previous` the price of the trade before `begin` in the bar (or of `begin` itself).
    """
    if out[COUNT, bar] == 0:
        out[FIRST_TIME, bar], out[FIRST_ROW, bar] = time[begin], first_row + begin
        out[OPEN, bar] = out[HIGH, bar] = out[LOW, bar] = price[begin]
    for low in range(begin, end, STRETCH):
        high = min(low + STRETCH, end)
        add_prices(price[low:high], origin, out, bar)
        add_moves(price[low:high], previous, out, bar)
        add_amounts(quantity[low:high], notional[low:high], is_buyer_maker[low:high], out, bar)
        previous = price[high - 1]
    out[LAST_TIME, bar], out[LAST_ROW, bar] = time[end - 1], first_row + end - 1
    out[CLOSE, bar] = previous
    out[COUNT, bar] += end - begin


@jit
def spec(time, price, quantity, notional, is_buyer_maker, begin, end, first_row, state, out):
    """Write to out[:, 0] the sums of one bar: what `state` holds of it, then the rows [begin, end) in order."""
    for column in range(K):
        out[column, 0] = state[column]
    if end <= begin:
        return
    carried = state[COUNT] > 0
    origin, previous = (state[OPEN], state[CLOSE]) if carried else (price[begin], price[begin])
    add_rows(time, price, quantity, notional, is_buyer_maker, begin, end, first_row, origin, previous, out, 0)


@jit
def _closed_bars(time, price, quantity, notional, is_buyer_maker, ends, first_row, state, nothing, out, low, high):
    # One bar is summed in one small array: the rows of `out` lie far apart in memory.
    mine = np.empty((K, 1), np.int64)
    for bar in range(low, high):
        begin = ends[bar - 1] if bar > 0 else 0
        carried = state if bar == 0 else nothing
        spec(time, price, quantity, notional, is_buyer_maker, begin, ends[bar], first_row, carried, mine)
        for column in range(K):
            out[column, bar] = mine[column, 0]


@torch.library.custom_op("gpu_pipeline::bar_sums", mutates_args=(), device_types="cpu")
def _bar_sums(
    time_ns: torch.Tensor,
    price_ticks: torch.Tensor,
    quantity_lots: torch.Tensor,
    notional: torch.Tensor,
    is_buyer_maker: torch.Tensor,
    ends: torch.Tensor,
    first_row: int,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    trades = [column.numpy() for column in (time_ns, price_ticks, quantity_lots, notional, is_buyer_maker)]
    stops, carried, nothing = ends.numpy(), state.numpy(), np.zeros(K, np.int64)
    rows, bars = time_ns.shape[0], ends.shape[0]
    _check_ends(stops, rows)
    sums, after = np.empty((K, bars), np.int64), np.empty((K, 1), np.int64)
    in_threads(
        lambda low, high: _closed_bars(*trades, stops, first_row, carried, nothing, sums, low, high), _cuts(stops)
    )
    begin = stops[-1] if bars else 0
    spec(*trades, begin, rows, first_row, nothing if bars else carried, after)
    return torch.from_numpy(sums), torch.from_numpy(after[:, 0])


@_bar_sums.register_kernel("cuda")
def _(time_ns, price_ticks, quantity_lots, notional, is_buyer_maker, ends, first_row, state):
    return launch_bar_sums(time_ns, price_ticks, quantity_lots, notional, is_buyer_maker, ends, first_row, state)


@_bar_sums.register_fake
def _(time_ns, price_ticks, quantity_lots, notional, is_buyer_maker, ends, first_row, state):
    return state.new_empty(K, ends.shape[0]), torch.empty_like(state)


def _check_ends(ends: np.ndarray, rows: int) -> None:
    wrong = np.flatnonzero((ends < np.concatenate(([0], ends[:-1]))) | (ends > rows))
    if wrong.size:
        raise ValueError(
            f"bar_sums: ends must not fall and must lie in [0, {rows}], ends[{wrong[0]}] is {ends[wrong[0]]}; "
            "give the ends of this chunk"
        )


def _cuts(ends: np.ndarray) -> list[int]:
    """Split the bars among torch's threads so that each gets about as many trades."""
    rows = int(ends[-1]) if len(ends) else 0
    threads = max(1, min(torch.get_num_threads(), rows // ROWS_PER_THREAD))
    inner = np.searchsorted(ends, [rows * part // threads for part in range(1, threads)]).tolist()
    return [0, *inner, len(ends)]


def launch_bar_sums(time, price, quantity, notional, is_buyer_maker, ends, first_row: int, state):
    """Run the kernel on torch's current stream, or in the simulator on numpy arrays; return (sums, state)."""
    bars = ends.shape[0]
    sums, after = new_rows(state, K, bars), new_rows(state, K)
    trades = (time, price, quantity, notional, is_buyer_maker)
    launch(_bar_kernel, bars + 1, THREADS, *trades, ends, first_row, state, sums, after)
    return sums, after


@jit
def merge(parts, left, right):
    """Add parts[:, right] to parts[:, left]: the same bar's rows just after, power sums about the same origin."""
    if parts[COUNT, right] == 0:
        return
    if parts[COUNT, left] == 0:
        for column in range(K):
            parts[column, left] = parts[column, right]
        return
    for column in (LAST_TIME, LAST_ROW, CLOSE):
        parts[column, left] = parts[column, right]
    for column in (COUNT, VOLUME, NOTIONAL, BUYS, S1, CHANGES, TURNS):
        parts[column, left] += parts[column, right]
    for word in (S2, S3, S4):
        parts[word, left], parts[word + 1, left] = add(
            parts[word, left], parts[word + 1, left], parts[word, right], parts[word + 1, right]
        )
    parts[HIGH, left] = max(parts[HIGH, left], parts[HIGH, right])
    parts[LOW, left] = min(parts[LOW, left], parts[LOW, right])
    parts[TURNS, left] += 1 if parts[LAST_MOVE, left] * parts[FIRST_MOVE, right] < 0 else 0
    parts[FIRST_MOVE, left] = parts[FIRST_MOVE, left] if parts[FIRST_MOVE, left] != 0 else parts[FIRST_MOVE, right]
    parts[LAST_MOVE, left] = parts[LAST_MOVE, right] if parts[LAST_MOVE, right] != 0 else parts[LAST_MOVE, left]


@cuda.jit
def _bar_kernel(time, price, quantity, notional, is_buyer_maker, ends, first_row, state, sums, after):
    """One block per bar, the last for the bar left open: every thread sums a share, then shares merge in pairs."""
    parts = cuda.shared.array((K, THREADS), int64)
    bar, thread = cuda.blockIdx.x, cuda.threadIdx.x
    begin = ends[bar - 1] if bar > 0 else 0
    end = ends[bar] if bar < ends.shape[0] else time.shape[0]
    carried = bar == 0 and state[COUNT] > 0
    for column in range(K):
        parts[column, thread] = state[column] if carried and thread == 0 else 0
    low = begin + (end - begin) * thread // THREADS
    high = begin + (end - begin) * (thread + 1) // THREADS
    if low < high:
        origin = state[OPEN] if carried else price[begin]
        previous = price[max(low - 1, begin)]
        if carried and low == begin:
            previous = state[CLOSE]
        add_rows(time, price, quantity, notional, is_buyer_maker, low, high, first_row, origin, previous, parts, thread)
    step = 1
    while step < THREADS:
        cuda.syncthreads()
        if thread % (2 * step) == 0:
            merge(parts, thread, thread + step)
        step *= 2
    cuda.syncthreads()
    for column in range(thread, K, THREADS):
        if bar < ends.shape[0]:
            sums[column, bar] = parts[column, 0]
        else:
            after[column] = parts[column, 0]
