"""Depth of an order book on a time grid: best levels kept, deeper ones binned, from snapshots of any length.

Channels bid_price, bid_quantity, ask_price, ask_quantity, best level first, in ticks and lots. The first `near_levels`
levels of a side stand as they are; then each bin takes the next `bin_sizes[i]` levels (fewer at the end of the side):
its quantity is their exact int64 sum, its price their quantity-weighted mean, first + sum((price - first) x quantity) /
sum(quantity), summed in 128 bits and divided once. What lies deeper is only summed, so that per side
kept + binned + beyond = total. A missing level, and a bin without quantity, has quantity 0 and the price of the last
level before its end; a side without any level has price NaN; so has a grid time without a snapshot.

Axes: S snapshots, R their levels, T grid times, L = near_levels + number of bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from numba import cuda
from torch import Tensor

from kernels._int128 import add, multiply
from kernels._op import SIMULATED, jit, require, require_one_device
from kernels._op import launch as start
from kernels._spread import spread

EXACT = 1 << 53  # below it float64 holds every integer
THREADS = 4 if SIMULATED else 64
TIMES_EACH = 256


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
        ValueError: offsets, counts or rows that do not fit together, a negative quantity, a tick or lot (or a bin's
            sum) of 2^53 or more, no level asked for, a bin without levels. On CUDA the checks wait for the device.
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
    _require_levels(near_levels, bin_sizes)
    _require_rows(one, levels, snapshots)
    bins = torch.tensor(list(bin_sizes), dtype=torch.int64, device=price_ticks.device)
    depth, beyond = _depth(*one.values(), near_levels, bins)
    _refuse("quantity of a bin", depth[:, near_levels:, 1::2].flatten() >= EXACT, "be below 2^53; use a coarser lot")
    return depth, beyond


def _require_levels(near_levels: int, bin_sizes: Sequence[int]) -> None:
    if near_levels < 0 or near_levels + len(bin_sizes) == 0:
        raise ValueError(f"depth_tensor: at least one level or bin must be asked for, got near_levels {near_levels}")
    if any(size < 1 for size in bin_sizes):
        raise ValueError(f"depth_tensor: every bin must hold at least 1 level, got bin_sizes {list(bin_sizes)}")


def _require_rows(one: dict[str, Tensor], levels: int, snapshots: int) -> None:
    offsets, counts = one["offsets"], one["bid_count"]
    if int(offsets[0]) != 0 or int(offsets[-1]) != levels:
        raise ValueError(
            f"depth_tensor: offsets must run from 0 to the {levels} rows, got {int(offsets[0])} to {int(offsets[-1])}"
        )
    sizes = offsets.diff()
    _refuse("offsets", sizes < 0, "never fall")
    _refuse("bid_count", (counts < 0) | (counts > sizes), "be between 0 and the snapshot's rows")
    _refuse("rows", (one["rows"] < -1) | (one["rows"] >= snapshots), f"be -1 or one of the {snapshots} snapshots")
    _refuse("price_ticks", (one["price_ticks"] >= EXACT) | (one["price_ticks"] <= -EXACT), "be below 2^53")
    quantity = one["quantity_lots"]
    _refuse("quantity_lots", (quantity < 0) | (quantity >= EXACT), "be in [0, 2^53); use a coarser lot")


def _refuse(name: str, bad: Tensor, rule: str) -> None:
    if bool(bad.any()):
        raise ValueError(f"depth_tensor: {name} must {rule}; broken at index {int(bad.int().argmax())}")


@jit
def mean_price(price, quantity, begin, stop, total):
    """Return the quantity-weighted mean price of rows [begin, stop), whose quantities sum up to `total` > 0."""
    first = price[begin]
    high, low = 0, 0
    for row in range(begin + 1, stop):
        one_high, one_low = multiply(price[row] - first, quantity[row])
        high, low = add(high, low, one_high, one_low)
    weighted = float(low)
    # Beyond 64 bits the high word times 2^64 is exact, so that a fused multiply-add gives the same bits.
    if high != low >> 63:
        weighted = float(high) * 18446744073709551616.0 + (weighted + 18446744073709551616.0 if low < 0 else weighted)
    return first + weighted / total


@jit
def one_side(price, quantity, begin, stop, near_levels, bins, depth, beyond, time, side):
    """Write one side of one grid time: levels [begin, stop), best first."""
    row, last = begin, math.nan
    for level in range(near_levels + bins.shape[0]):
        end = min(stop, row + (1 if level < near_levels else bins[level - near_levels]))
        total = 0
        for at in range(row, end):
            total += quantity[at]
        if end > row:
            last = float(price[end - 1])
        binned = total > 0 and end > row + 1
        depth[time, level, 2 * side] = mean_price(price, quantity, row, end, total) if binned else last
        depth[time, level, 2 * side + 1] = total
        row = end
    rest = 0
    for at in range(row, stop):
        rest += quantity[at]
    beyond[time, side] = rest


@jit
def one_time(price, quantity, offsets, bid_count, rows, near_levels, bins, depth, beyond, time, side):
    """Find the levels of one side at one grid time and write it; without a snapshot there are none."""
    snapshot = rows[time]
    begin, stop = 0, 0
    if snapshot >= 0:
        begin, stop = offsets[snapshot], offsets[snapshot + 1]
        middle = begin + bid_count[snapshot]
        if side == 0:
            stop = middle
        else:
            begin = middle
    one_side(price, quantity, begin, stop, near_levels, bins, depth, beyond, time, side)


@jit
def spec(price, quantity, offsets, bid_count, rows, near_levels, bins, depth, beyond, begin, stop):
    """Write grid times [begin, stop), bids then asks."""
    for time in range(begin, stop):
        for side in range(2):
            one_time(price, quantity, offsets, bid_count, rows, near_levels, bins, depth, beyond, time, side)


@torch.library.custom_op("gpu_pipeline::depth_tensor", mutates_args=(), device_types="cpu")
def _depth(
    price_ticks: Tensor,
    quantity_lots: Tensor,
    offsets: Tensor,
    bid_count: Tensor,
    rows: Tensor,
    near_levels: int,
    bins: Tensor,
) -> tuple[Tensor, Tensor]:
    depth, beyond = _allocate(rows, near_levels, bins)
    read = [x.numpy() for x in (price_ticks, quantity_lots, offsets, bid_count, rows)]
    written = depth.numpy(), beyond.numpy()
    spread(lambda a, b: spec(*read, near_levels, bins.numpy(), *written, a, b), rows.shape[0], TIMES_EACH)
    return depth, beyond


def _allocate(rows: Tensor, near_levels: int, bins: Tensor) -> tuple[Tensor, Tensor]:
    depth = rows.new_empty(rows.shape[0], near_levels + bins.shape[0], 4, dtype=torch.float64)
    return depth, rows.new_empty(rows.shape[0], 2)


@_depth.register_fake
def _(
    price_ticks: Tensor,
    quantity_lots: Tensor,
    offsets: Tensor,
    bid_count: Tensor,
    rows: Tensor,
    near_levels: int,
    bins: Tensor,
) -> tuple[Tensor, Tensor]:
    return _allocate(rows, near_levels, bins)


@_depth.register_kernel("cuda")
def _(
    price_ticks: Tensor,
    quantity_lots: Tensor,
    offsets: Tensor,
    bid_count: Tensor,
    rows: Tensor,
    near_levels: int,
    bins: Tensor,
) -> tuple[Tensor, Tensor]:
    depth, beyond = _allocate(rows, near_levels, bins)
    launch((price_ticks, quantity_lots, offsets, bid_count, rows), near_levels, bins, depth, beyond)
    return depth, beyond


def launch(book, near_levels: int, bins, depth, beyond) -> None:
    """One thread per grid time and side, on torch's current stream, or in the simulator on numpy arrays."""
    blocks = -(-2 * depth.shape[0] // THREADS)
    start(_depth_kernel, blocks, THREADS, *book, near_levels, bins, depth, beyond)


@cuda.jit
def _depth_kernel(price, quantity, offsets, bid_count, rows, near_levels, bins, depth, beyond):
    thread = cuda.grid(1)
    if thread < 2 * rows.shape[0]:
        time, side = thread // 2, thread % 2
        one_time(price, quantity, offsets, bid_count, rows, near_levels, bins, depth, beyond, time, side)
