"""Depth of an order book on a time grid: best levels kept, deeper ones binned, from snapshots of any length.

Channels bid_price, bid_quantity, ask_price, ask_quantity, best level first, in ticks and lots. The first `near_levels`
levels of a side stand as they are; then each bin takes the next `bin_sizes[i]` levels (fewer at the end of the side):
its quantity is their exact int64 sum, its price their quantity-weighted mean, first + sum((price - first) x quantity) /
sum(quantity), summed in integers and divided once. What lies deeper is only summed, so that per side
kept + binned + beyond = total. A missing level, and a bin without quantity, has quantity 0 and the price of the last
level before its end; a side without any level has price NaN; so has a grid time without a snapshot.

Only snapshots on the grid are read. Each of their levels is read once, and checked in passing: sums, largest distances
and first faults do not depend on their order, so every device and number of threads gives the same bits.

Axes: S snapshots, R their levels, T grid times, L = near_levels + number of bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import cuda, int64
from torch import Tensor

from kernels._blocks import NO_ROW
from kernels._depth_cells import EXACT, add_levels, bin_cell, level_cell
from kernels._op import SIMULATED, jit, new_rows, require, require_one_device
from kernels._op import launch as start
from kernels._spread import spread

MOST_BEYOND = 1 << 62
FAULTS = (
    ("rows", "be -1 or the number of a snapshot", "index"),
    ("offsets", "never fall and stay within the rows", "index"),
    ("bid_count", "be between 0 and the snapshot's rows", "index"),
    ("quantity_lots", "be in [0, 2^53); use a coarser lot", "index"),
    ("quantity of a bin", "be below 2^53; use a coarser lot", "grid time"),
    ("quantity beyond the bins", "be below 2^62; use a coarser lot", "grid time"),
)
KINDS = len(FAULTS)
ROWS, OFFSETS, COUNT, LEVEL, BIN, BEYOND = range(KINDS)
TIMES_EACH = 64
LANES = 4 if SIMULATED else 32
THREADS = 2 * LANES
LEVELS_PER_LANE = 4


def depth_tensor(
    price_ticks: Tensor,  # [R] int64
    quantity_lots: Tensor,  # [R] int64
    offsets: Tensor,  # [S+1] int64, rows of a snapshot
    bid_count: Tensor,  # [S] int64, its first rows are bids, best first; the rest asks, best first
    rows: Tensor,  # [T] int64, the snapshot of each grid time, -1 = missing
    near_levels: int,
    bin_sizes: Sequence[int],  # levels per deep bin
) -> tuple[Tensor, Tensor]:
    """Return (depth [T, L, 4] float64, beyond [T, 2] int64: lots deeper than the last bin, bids and asks).

    Raises:
        ValueError: no level asked for, a bin without levels; or on the grid offsets, counts or rows that do not fit
            together, a negative quantity, a tick or lot (or a bin's sum) of 2^53 or more. On CUDA it waits for the
            device, once.
    """
    one = {"price_ticks": price_ticks, "quantity_lots": quantity_lots, "offsets": offsets}
    one |= {"bid_count": bid_count, "rows": rows}
    levels, snapshots = price_ticks.shape[0], bid_count.shape[0]
    sizes = (levels, levels, snapshots + 1, snapshots, None)
    one = {
        name: require("depth_tensor", name, x, torch.int64, size)
        for (name, x), size in zip(one.items(), sizes, strict=True)
    }
    require_one_device("depth_tensor", **one)
    if near_levels < 0 or near_levels + len(bin_sizes) == 0:
        raise ValueError(f"depth_tensor: at least one level or bin must be asked for, got near_levels {near_levels}")
    if any(size < 1 for size in bin_sizes):
        raise ValueError(f"depth_tensor: every bin must hold at least 1 level, got bin_sizes {list(bin_sizes)}")
    return _depth(*one.values(), near_levels, list(bin_sizes))


@jit
def fault_of(rows, offsets, bid_count, levels, time):
    """Return (which of rows, offsets and counts is wrong at a grid time, where), or (-1, -1)."""
    snapshot = rows[time]
    if snapshot < -1 or snapshot >= bid_count.shape[0]:
        return ROWS, time
    if snapshot >= 0:
        begin, stop = offsets[snapshot], offsets[snapshot + 1]
        if not 0 <= begin <= stop <= levels:
            return OFFSETS, snapshot
        if not 0 <= bid_count[snapshot] <= stop - begin:
            return COUNT, snapshot
    return -1, -1


@jit
def rows_of(rows, offsets, bid_count, time, side):
    """Return (begin, stop) of the levels of one side at a grid time; without a snapshot there are none."""
    snapshot = rows[time]
    if snapshot < 0:
        return 0, 0
    middle = offsets[snapshot] + bid_count[snapshot]
    return (offsets[snapshot], middle) if side == 0 else (middle, offsets[snapshot + 1])


@jit
def note(bad, kind, where):
    """Keep the first place of a kind of fault."""
    bad[kind] = min(bad[kind], where)


@jit
def one_side(price, quantity, begin, stop, edges, depth, beyond, time, side, bad):
    """Write one side of one grid time: levels [begin, stop), best first."""
    near, bins = edges[0], edges.shape[0] - 1
    for level in range(near):
        note(bad, LEVEL, level_cell(price, quantity, begin, stop, level, depth, time, side))
    low = min(begin + near, stop)
    for which in range(bins):
        high = min(begin + edges[which + 1], stop)
        first = price[low] if low < high else 0
        lots, dot, reach, unsound = add_levels(price, quantity, first, low, high, 1, EXACT)
        bin_cell(price, quantity, begin, stop, low, high, (lots, dot, reach), depth, time, near + which, side)
        note(bad, LEVEL, unsound)
        if lots == EXACT:
            note(bad, BIN, time)
        low = high
    rest, _, _, unsound = add_levels(price, quantity, 0, low, stop, 1, MOST_BEYOND)
    note(bad, LEVEL, unsound)
    if rest == MOST_BEYOND:
        note(bad, BEYOND, time)
    beyond[time, side] = rest


@jit
def spec(price, quantity, offsets, bid_count, rows, edges, depth, beyond, begin, stop):
    """Write grid times [begin, stop), bids then asks; return the first place of each kind of fault, or NO_ROW."""
    bad = np.full(KINDS, NO_ROW)
    for time in range(begin, stop):
        kind, where = fault_of(rows, offsets, bid_count, price.shape[0], time)
        if kind >= 0:
            note(bad, kind, where)
            continue
        for side in range(2):
            first, last = rows_of(rows, offsets, bid_count, time, side)
            one_side(price, quantity, first, last, edges, depth, beyond, time, side, bad)
    return bad


def _edges(near_levels: int, bin_sizes: Sequence[int], levels: int) -> list[int]:
    """Level at which each bin begins, and the last one ends; none lies further than there are levels at all."""
    edges = [near_levels]
    for size in bin_sizes:
        edges.append(min(edges[-1] + size, near_levels + levels))
    return edges


@torch.library.custom_op("gpu_pipeline::depth_tensor", mutates_args=(), device_types="cpu")
def _depth(
    price_ticks: Tensor,
    quantity_lots: Tensor,
    offsets: Tensor,
    bid_count: Tensor,
    rows: Tensor,
    near_levels: int,
    bin_sizes: Sequence[int],
) -> tuple[Tensor, Tensor]:
    depth, beyond = _allocate(rows, near_levels, bin_sizes)
    book = [x.numpy() for x in (price_ticks, quantity_lots, offsets, bid_count, rows)]
    edges = np.array(_edges(near_levels, bin_sizes, len(price_ticks)))
    made, bad = (depth.numpy(), beyond.numpy()), [np.full(KINDS, NO_ROW)]
    spread(lambda a, b: bad.append(spec(*book, edges, *made, a, b)), len(rows), TIMES_EACH)
    _refuse(np.minimum.reduce(bad).tolist(), price_ticks)
    return depth, beyond


def _allocate(rows: Tensor, near_levels: int, bin_sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    depth = rows.new_empty(rows.shape[0], near_levels + len(bin_sizes), 4, dtype=torch.float64)
    return depth, rows.new_empty(rows.shape[0], 2)


def _refuse(bad: list[int], price_ticks: Tensor) -> None:
    """Raise where a fault of any kind has a place."""
    kind = next((kind for kind, where in enumerate(bad) if where != NO_ROW), None)
    if kind is None:
        return
    name, rule, place = FAULTS[kind]
    if kind == LEVEL and abs(int(price_ticks[bad[kind]])) >= EXACT:
        name, rule = "price_ticks", "be below 2^53 in absolute value; use a coarser tick"
    raise ValueError(f"depth_tensor: {name} must {rule}; broken at {place} {bad[kind]}")


@_depth.register_fake
def _(price_ticks, quantity_lots, offsets, bid_count, rows, near_levels, bin_sizes):
    return _allocate(rows, near_levels, bin_sizes)


@_depth.register_kernel("cuda")
def _(price_ticks, quantity_lots, offsets, bid_count, rows, near_levels, bin_sizes):
    depth, beyond = _allocate(rows, near_levels, bin_sizes)
    edges = torch.tensor(_edges(near_levels, bin_sizes, len(price_ticks)), device=rows.device)
    bad = launch((price_ticks, quantity_lots, offsets, bid_count, rows), edges, lanes_of(bin_sizes), depth, beyond)
    _refuse(bad.tolist(), price_ticks)
    return depth, beyond


def lanes_of(bin_sizes: Sequence[int]) -> int:
    """How many threads share a bin: a power of two that leaves each LEVELS_PER_LANE levels or more in the mean."""
    mean = sum(bin_sizes) // max(len(bin_sizes), 1)
    return min(LANES, 1 << max(mean // LEVELS_PER_LANE, 1).bit_length() - 1)


def launch(book, edges, lanes: int, depth, beyond):
    """Run the kernel on torch's current stream, or in the simulator on numpy arrays; return the faults [KINDS]."""
    bad = new_rows(beyond, KINDS)
    bad[:] = NO_ROW
    start(_depth_kernel, depth.shape[0], THREADS, *book, edges, lanes, depth, beyond, bad)
    return bad


@cuda.jit(device=True)
def sum_lanes(lots, dot, reach, most, lanes, parts):
    """Return lots, dot and reach over the aligned groups of `lanes` threads, to the first thread of each."""
    thread, step = cuda.threadIdx.x, 1
    parts[0, thread], parts[1, thread], parts[2, thread] = lots, dot, reach
    while step < lanes:
        cuda.syncthreads()
        if thread % (2 * step) == 0:
            other = thread + step
            parts[0, thread] = min(parts[0, thread] + parts[0, other], most)
            parts[1, thread] += parts[1, other]
            parts[2, thread] = max(parts[2, thread], parts[2, other])
        step *= 2
    cuda.syncthreads()
    return parts[0, thread], parts[1, thread], parts[2, thread]


@cuda.jit
def _depth_kernel(price, quantity, offsets, bid_count, rows, edges, lanes, depth, beyond, bad):
    """One block per grid time, LANES threads per side: neighbours read neighbouring levels, groups share a bin."""
    parts = cuda.shared.array((3, THREADS), int64)
    time, side, lane = cuda.blockIdx.x, cuda.threadIdx.x // LANES, cuda.threadIdx.x % LANES
    kind, where = fault_of(rows, offsets, bid_count, price.shape[0], time)
    if kind >= 0:
        cuda.atomic.min(bad, kind, where)
        return
    begin, stop = rows_of(rows, offsets, bid_count, time, side)
    near, bins = edges[0], edges.shape[0] - 1
    unsound = NO_ROW
    for level in range(lane, near, LANES):
        unsound = min(unsound, level_cell(price, quantity, begin, stop, level, depth, time, side))
    for base in range(0, bins, LANES // lanes):
        which, low, high = base + lane // lanes, stop, stop
        if which < bins:
            low, high = min(begin + edges[which], stop), min(begin + edges[which + 1], stop)
        first = price[low] if low < high else 0
        lots, dot, reach, wrong = add_levels(price, quantity, first, low + lane % lanes, high, lanes, EXACT)
        sums = sum_lanes(lots, dot, reach, EXACT, lanes, parts)
        unsound = min(unsound, wrong)
        if which < bins and lane % lanes == 0:
            bin_cell(price, quantity, begin, stop, low, high, sums, depth, time, near + which, side)
            if sums[0] == EXACT:
                cuda.atomic.min(bad, BIN, time)
    low = min(begin + edges[bins], stop)
    lots, dot, reach, wrong = add_levels(price, quantity, 0, low + lane, stop, LANES, MOST_BEYOND)
    rest = sum_lanes(lots, dot, reach, MOST_BEYOND, LANES, parts)[0]
    if lane == 0:
        beyond[time, side] = rest
        if rest == MOST_BEYOND:
            cuda.atomic.min(bad, BEYOND, time)
    if min(unsound, wrong) != NO_ROW:
        cuda.atomic.min(bad, LEVEL, min(unsound, wrong))
