"""What is wrong with order-book snapshots, each level read once: for refusing them, and for counting.

Of a snapshot, a bit for each kind in KINDS:

    counts     its rows or its number of bids do not fit into the table; nothing else is looked at
    negative   a quantity below 0
    unsorted   a side is not best first, or has a price twice
    no_bids, no_asks   the side has no level
    locked     best bid = best ask
    crossed    best bid > best ask

Axes: S snapshots, R their levels.
"""

from __future__ import annotations

import torch
from numba import cuda
from torch import Tensor

from kernels._blocks import NO_ROW
from kernels._op import SIMULATED, jit, launch, new_rows, require, require_one_device
from kernels._spread import spread

KINDS = ("counts", "negative", "unsorted", "no_bids", "no_asks", "locked", "crossed")
COUNTS, NEGATIVE, UNSORTED, NO_BIDS, NO_ASKS, LOCKED, CROSSED = (1 << bit for bit in range(len(KINDS)))
SNAPSHOTS_EACH = 64
THREADS = 4 if SIMULATED else 128


def book_faults(
    price_ticks: Tensor,  # [R] int64
    quantity_lots: Tensor,  # [R] int64
    offsets: Tensor,  # [S+1] int64, rows of a snapshot
    bid_count: Tensor,  # [S] int64, its first rows are bids, best first; the rest asks, best first
) -> tuple[Tensor, Tensor]:
    """Return (kinds [S] int64, a sum of the bits above; level [S] int64, the first row at fault, -1 = none).

    The best level of a side is the one that stands first. Any split of the snapshots gives the same. Nothing waits.
    """
    levels, snapshots = price_ticks.shape[0], bid_count.shape[0]
    book = {"price_ticks": price_ticks, "quantity_lots": quantity_lots, "offsets": offsets, "bid_count": bid_count}
    sizes = (levels, levels, snapshots + 1, snapshots)
    book = {
        name: require("book_faults", name, x, torch.int64, size)
        for (name, x), size in zip(book.items(), sizes, strict=True)
    }
    require_one_device("book_faults", **book)
    return _book_faults(*book.values())


@jit
def top_faults(price, offsets, bid_count, snapshot):
    """Return the kinds that the counts and the best levels of a snapshot show."""
    begin, stop, bids = offsets[snapshot], offsets[snapshot + 1], bid_count[snapshot]
    if not (0 <= begin <= stop <= price.shape[0] and 0 <= bids <= stop - begin):
        return COUNTS
    kinds = (NO_BIDS if bids == 0 else 0) | (NO_ASKS if begin + bids == stop else 0)
    if kinds == 0:
        bid, ask = price[begin], price[begin + bids]
        kinds |= (LOCKED if bid == ask else 0) | (CROSSED if bid > ask else 0)
    return kinds


@jit
def side_faults(price, quantity, first, begin, stop, step, is_bid):
    """Return (kinds, first row at fault or NO_ROW) of rows begin, begin + step ... below stop of one side."""
    kinds, level = 0, NO_ROW
    for row in range(begin, stop, step):
        before, now = price[max(row - 1, first)], price[row]
        unsorted = row > first and (now >= before if is_bid else now <= before)
        if unsorted or quantity[row] < 0:
            kinds |= (UNSORTED if unsorted else 0) | (NEGATIVE if quantity[row] < 0 else 0)
            level = min(level, row)
    return kinds, level


@jit
def spec(price, quantity, offsets, bid_count, kinds, level, begin, stop):
    """Write kinds and first level at fault of snapshots [begin, stop)."""
    for snapshot in range(begin, stop):
        kinds[snapshot], level[snapshot] = top_faults(price, offsets, bid_count, snapshot), -1
        if kinds[snapshot] != COUNTS:
            first, last = offsets[snapshot], offsets[snapshot + 1]
            middle = first + bid_count[snapshot]
            of_bids, bid = side_faults(price, quantity, first, first, middle, 1, True)
            of_asks, ask = side_faults(price, quantity, middle, middle, last, 1, False)
            kinds[snapshot] |= of_bids | of_asks
            level[snapshot] = min(bid, ask) if min(bid, ask) != NO_ROW else -1


@torch.library.custom_op("gpu_pipeline::book_faults", mutates_args=(), device_types="cpu")
def _book_faults(
    price_ticks: Tensor, quantity_lots: Tensor, offsets: Tensor, bid_count: Tensor
) -> tuple[Tensor, Tensor]:
    made = torch.empty_like(bid_count), torch.empty_like(bid_count)
    arrays = [x.numpy() for x in (price_ticks, quantity_lots, offsets, bid_count, *made)]
    spread(lambda begin, stop: spec(*arrays, begin, stop), len(bid_count), SNAPSHOTS_EACH)
    return made


@_book_faults.register_kernel("cuda")
def _(price_ticks, quantity_lots, offsets, bid_count):
    return launch_book_faults(price_ticks, quantity_lots, offsets, bid_count)


@_book_faults.register_fake
def _(price_ticks, quantity_lots, offsets, bid_count):
    return torch.empty_like(bid_count), torch.empty_like(bid_count)


def launch_book_faults(price, quantity, offsets, bid_count):
    """Run the kernel on torch's current stream, or in the simulator on numpy arrays; return (kinds, level)."""
    snapshots = bid_count.shape[0]
    kinds, level = new_rows(bid_count, snapshots), new_rows(bid_count, snapshots)
    kinds[:], level[:] = 0, NO_ROW
    launch(_faults_kernel, snapshots, THREADS, price, quantity, offsets, bid_count, kinds, level)
    level[level == NO_ROW] = -1
    return kinds, level


@cuda.jit
def _faults_kernel(price, quantity, offsets, bid_count, kinds, level):
    """One block per snapshot: threads take neighbouring levels; only faults are written."""
    snapshot, thread = cuda.blockIdx.x, cuda.threadIdx.x
    found = top_faults(price, offsets, bid_count, snapshot)
    if found != 0 and thread == 0:
        cuda.atomic.or_(kinds, snapshot, found)
    if found == COUNTS:
        return
    first, last = offsets[snapshot], offsets[snapshot + 1]
    middle = first + bid_count[snapshot]
    of_bids, bid = side_faults(price, quantity, first, first + thread, middle, THREADS, True)
    of_asks, ask = side_faults(price, quantity, middle, middle + thread, last, THREADS, False)
    if of_bids | of_asks:
        cuda.atomic.or_(kinds, snapshot, of_bids | of_asks)
        cuda.atomic.min(level, snapshot, min(bid, ask))
