"""Everything about a bar that is a sum, an extreme, a first or a last of its trades, in integers, in one pass.

A bar type only decides `ends`; this op is the same for all. d = price_ticks - open of the bar; s1..s4 are the sums of
its powers, s2..s4 in 128 bits (two int64 words). A move is the sign of a non-zero price change between two trades of
one bar. Integer sums do not depend on their order, so every chunking, thread count and device gives the same numbers.
Bounds: |price_ticks| < 2^62, volume and notional of one bar < 2^63; `centred_moments` checks those of the power sums.
"""

from __future__ import annotations

import numpy as np
import torch

from kernels._bar_columns import (
    BUYS,
    CHANGES,
    CLOSE,
    COUNT,
    FIRST_MOVE,
    FIRST_ROW,
    FIRST_TIME,
    HIGH,
    LAST_MOVE,
    LAST_ROW,
    LAST_TIME,
    LOW,
    NOTIONAL,
    OPEN,
    S1,
    S2,
    S3,
    S4,
    TURNS,
    VOLUME,
    K,
)
from kernels._bar_columns import COLUMNS as COLUMNS
from kernels._bar_rows import stitch, sum_part
from kernels._bar_warps import launch_sums
from kernels._int128 import add, multiply, scale
from kernels._op import in_threads, jit, require, require_one_device

ROWS_PER_THREAD = 1 << 17


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
def add_row(time, price, quantity, notional, is_buyer_maker, row, first_row, out, bar):
    """Add one trade to out[:, bar], which is all zeros before a bar's first."""
    now, lots = price[row], quantity[row]
    if out[COUNT, bar] == 0:
        out[FIRST_TIME, bar], out[FIRST_ROW, bar] = time[row], first_row + row
        out[OPEN, bar] = out[HIGH, bar] = out[LOW, bar] = out[CLOSE, bar] = now
    previous, d = out[CLOSE, bar], now - out[OPEN, bar]
    out[LAST_TIME, bar], out[LAST_ROW, bar], out[CLOSE, bar] = time[row], first_row + row, now
    out[HIGH, bar], out[LOW, bar] = max(out[HIGH, bar], now), min(out[LOW, bar], now)
    out[COUNT, bar] += 1
    out[VOLUME, bar] += lots
    out[NOTIONAL, bar] += notional[row]
    out[BUYS, bar] += 0 if is_buyer_maker[row] else lots
    high, low = multiply(d, d)
    out[S1, bar] += d
    for word in (S2, S3, S4):
        out[word, bar], out[word + 1, bar] = add(out[word, bar], out[word + 1, bar], high, low)
        high, low = scale(high, low, d)
    if now != previous:
        move = 1 if now > previous else -1
        out[CHANGES, bar] += 1
        out[TURNS, bar] += 1 if out[LAST_MOVE, bar] + move == 0 else 0
        out[FIRST_MOVE, bar] = move if out[FIRST_MOVE, bar] == 0 else out[FIRST_MOVE, bar]
        out[LAST_MOVE, bar] = move


@jit
def spec(time, price, quantity, notional, is_buyer_maker, begin, end, first_row, state, out):
    """Write to out[:, 0] the sums of one bar: what `state` holds of it, then the rows [begin, end) in order."""
    for column in range(K):
        out[column, 0] = state[column]
    for row in range(begin, end):
        add_row(time, price, quantity, notional, is_buyer_maker, row, first_row, out, 0)


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
    stops = ends.numpy()
    _check_ends(stops, time_ns.shape[0])
    sums, after = _sum_in_parts(trades, stops, first_row, state.numpy())
    return torch.from_numpy(sums), torch.from_numpy(after)


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


def _sum_in_parts(trades, ends: np.ndarray, first_row: int, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum an equal number of rows in each thread, then join the bars that lie across two parts."""
    rows, price = len(trades[0]), trades[1]
    parts = max(1, min(torch.get_num_threads(), rows // ROWS_PER_THREAD))
    cuts = [rows * part // parts for part in range(parts + 1)]
    firsts = np.searchsorted(ends, cuts, side="right")
    firsts[0], firsts[-1] = 0, len(ends)
    sums, tails = np.empty((K, len(ends)), np.int64), np.empty((parts, K), np.int64)

    def work(part: int, _: int) -> None:
        bar, origin, previous = int(firsts[part]), 0, price[0] if rows else 0
        begin = int(ends[bar - 1]) if bar else 0
        if bar == 0 and state[COUNT] > 0:
            origin, previous = state[OPEN], state[CLOSE]
        elif begin < rows:
            origin = price[begin]
        span = (cuts[part], cuts[part + 1], bar, int(firsts[part + 1]))
        sum_part(*trades, ends, *span, int(origin), int(previous), first_row, sums, tails[part])

    in_threads(work, range(parts + 1))
    return sums, stitch(state, firsts, sums, tails)


def launch_bar_sums(time, price, quantity, notional, is_buyer_maker, ends, first_row: int, state):
    """Run the kernels on torch's current stream, or in the simulator on numpy arrays; return (sums, state)."""
    return launch_sums((time, price, quantity, notional, is_buyer_maker), ends, first_row, state)
