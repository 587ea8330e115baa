"""Where bars close under the carry rule: wherever floor(cumulative sum / threshold) grows.

The remainder modulo the threshold is carried into the next bar. One trade of many thresholds closes one bar. Only the
remainder is kept, so no sum overflows. Remainders are running sums modulo the threshold, hence a scan on the GPU.
"""

from __future__ import annotations

import functools
import operator

import numpy as np
import torch
from numba import cuda, int64

from kernels._blocks import NO_ROW, inclusive_scan, launch_exclusive_scan, refuse_negative
from kernels._marks import launch_count, launch_rows, new_words
from kernels._op import SIMULATED, in_threads, jit, launch, new_filled, new_rows, require, require_one_device
from kernels._stretches import (
    DENSE,
    FAR,
    PIECE,
    STRETCH,
    close_part,
    fill_sums,
    part_cuts,
    stretches,
    walk_rows,
    walk_stretches,
)
from kernels._warp import WARP, add_modulo, ballot, last, running_sum

THRESHOLD_LIMIT = 1 << 62
THREADS = 4 if SIMULATED else 256
ROWS_EACH = 2 if SIMULATED else 16
BLOCK_ROWS = THREADS * ROWS_EACH


def carry_ends(
    amount: torch.Tensor,  # [N] int64, what is summed: notional, lots or ones; never negative
    threshold: int,
    state: torch.Tensor,  # [1] int64, remainder in [0, threshold); zeros(1) at the beginning
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (ends [B], state [1]): a bar is the rows [previous end, end), counted from the start of this chunk.

    Any chunking gives the same bars; no sum overflows, whatever the amounts. On CUDA it waits for the device, for B.

    Raises:
        ValueError: threshold outside [1, 2^62); a negative amount.
    """
    amount = require("carry_ends", "amount", amount, torch.int64, None)
    state = require("carry_ends", "state", state, torch.int64, 1)
    require_one_device("carry_ends", amount=amount, state=state)
    if not 0 < threshold < THRESHOLD_LIMIT:
        raise ValueError(f"carry_ends: threshold must be in [1, 2^62), got {threshold}; use a coarser lot or tick")
    return _carry_ends(amount, threshold, state)


@jit
def step(remainder, amount, threshold):
    """Return (whether the bar closes at this trade, the remainder after it) for a remainder in [0, threshold)."""
    room = threshold - remainder
    if amount < room:
        return False, remainder + amount
    return True, (amount - room) % threshold


@jit
def spec(amount, threshold, state, ends):
    """Write the ends; return (their number, the remainder, the first row with a negative amount or NO_ROW)."""
    remainder = state[0]
    bars = 0
    for row in range(amount.shape[0]):
        if amount[row] < 0:
            return bars, remainder, row
        closes, remainder = step(remainder, amount[row], threshold)
        if closes:
            ends[bars] = row + 1
            bars += 1
    return bars, remainder, NO_ROW


@jit
def remainder_of(amount, sums, threshold):
    """Return the sum of the amounts modulo the threshold; a stretch that could overflow is summed row by row."""
    total = 0
    for stretch in range(sums.shape[0]):
        if sums[stretch] < FAR:
            total += sums[stretch]
        else:
            for value in amount[stretch * STRETCH : (stretch + 1) * STRETCH]:
                total = total % threshold + value % threshold
        if total >= THRESHOLD_LIMIT:
            total %= threshold
    return total % threshold


@jit
def rewalk_part(amount, begin, end, threshold, room, sums, ends):
    """Close the bars of the rows [begin, end) whose stretches are summed already; return their number."""
    bars, dense = 0, False
    for low in range(begin, end, PIECE):
        high, before = min(low + PIECE, end), bars
        if dense:
            bars, room, _ = walk_rows(amount[low:high], low, threshold, True, room, ends, bars)
        else:
            mine = sums[low // STRETCH : stretches(high)]
            bars, room = walk_stretches(amount[low:high], mine, low, threshold, True, room, ends, bars)
        dense = bars - before > DENSE
    return bars


def _close(amount: np.ndarray, threshold: int, remainder: int) -> tuple[np.ndarray, int, int]:
    """Close all bars in parallel; return (ends, the remainder left, the bits of all amounts).

    One thread closes the first part while the others sum theirs; then remainders are known, and all walk the rest.
    """
    rows, cuts = len(amount), part_cuts(len(amount))
    sums, ends = np.empty(stretches(rows), np.int64), np.empty(rows, np.int64)
    rooms, counts = np.empty(-(-rows // PIECE), np.int64), np.empty(-(-rows // PIECE), np.int64)
    split, bits, found = cuts[1], {}, {}

    def close_or_sum(begin: int, end: int) -> None:
        if begin > 0:
            bits[begin] = fill_sums(amount[begin:end], sums[begin // STRETCH : stretches(end)])
            return
        room = threshold - remainder
        found[0], room, bits[0] = close_part(amount, 0, end, threshold, True, room, sums, rooms, counts, ends)

    def remainder_at(row: int) -> int:
        more = remainder_of(amount[split:row], sums[stretches(split) : stretches(row)], threshold)
        return int(threshold - rooms[(split - 1) // PIECE] + more) % threshold

    def walk(begin: int, end: int) -> None:
        room = threshold - remainder_at(begin)
        found[begin] = rewalk_part(amount, begin, end, threshold, room, sums, ends[begin:end])

    in_threads(close_or_sum, cuts)
    in_threads(walk, [split + cut for cut in part_cuts(rows - split)])
    parts = [ends[begin : begin + bars] for begin, bars in sorted(found.items())]
    return np.concatenate(parts), remainder_at(rows), functools.reduce(operator.or_, bits.values())


@torch.library.custom_op("gpu_pipeline::carry_ends", mutates_args=(), device_types="cpu")
def _carry_ends(amount: torch.Tensor, threshold: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows, before = amount.numpy(), state.numpy()
    if len(rows) > PIECE:
        ends, remainder, bits = _close(rows, threshold, int(before[0]))
        if bits >= 0:
            return torch.from_numpy(ends), torch.tensor([remainder])
    ends = np.empty(len(rows), np.int64)
    bars, remainder, bad = spec(rows, threshold, before, ends)
    refuse_negative("carry_ends", bad)
    return torch.from_numpy(ends[:bars].copy()), torch.tensor([remainder])


@_carry_ends.register_kernel("cuda")
def _(amount: torch.Tensor, threshold: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return launch_carry_ends(amount, threshold, state)


@_carry_ends.register_fake
def _(amount: torch.Tensor, threshold: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return amount.new_empty(torch.library.get_ctx().new_dynamic_size()), torch.empty_like(state)


def launch_carry_ends(amount, threshold: int, state):
    """Run the kernels on torch's current stream, or in the simulator on numpy arrays; return (ends, state)."""
    blocks = -(-amount.shape[0] // BLOCK_ROWS)
    sums, bad, words = new_rows(amount, blocks), new_filled(amount, NO_ROW), new_words(amount, amount.shape[0])
    launch(_sum_kernel, blocks, THREADS, amount, threshold, sums, bad)
    entries, after = launch_exclusive_scan(sums, state, threshold)
    launch(_mark_kernel, blocks, THREADS, amount, threshold, entries, words)
    offsets, found = launch_count(words)
    refuse_negative("carry_ends", int(bad[0]))
    return launch_rows(words, offsets, 1, int(found[0])), after


@cuda.jit(device=True)
def cut_modulo(amount, threshold):
    """Return the amount modulo the threshold; a division is rare, and 0 stands for an amount that is refused."""
    return max(0, amount) if amount < threshold else amount % threshold


@cuda.jit
def _sum_kernel(amount, threshold, sums, bad):
    """Per block of rows: its sum modulo the threshold."""
    shared = cuda.shared.array(THREADS, int64)
    begin, thread = cuda.blockIdx.x * BLOCK_ROWS, cuda.threadIdx.x
    remainder, negative = 0, NO_ROW
    for row in range(begin + thread, min(begin + BLOCK_ROWS, amount.shape[0]), THREADS):
        if amount[row] < 0:
            negative = min(negative, row)
        remainder = add_modulo(remainder, cut_modulo(amount[row], threshold), threshold)
    if negative != NO_ROW:
        cuda.atomic.min(bad, 0, negative)
    shared[thread] = remainder
    inclusive_scan(shared, threshold)
    if thread == 0:
        sums[cuda.blockIdx.x] = shared[THREADS - 1]


@cuda.jit
def _mark_kernel(amount, threshold, entries, words):
    """Per block of rows: which of them close a bar. A warp sums its rows, then walks them from its true remainder."""
    held = cuda.shared.array(BLOCK_ROWS, int64)
    shared = cuda.shared.array(THREADS, int64)
    begin, thread = cuda.blockIdx.x * BLOCK_ROWS, cuda.threadIdx.x
    lane = thread % WARP
    first, remainder = (thread - lane) * ROWS_EACH, 0
    for slot in range(first + lane, first + lane + WARP * ROWS_EACH, WARP):
        held[slot] = amount[begin + slot] if begin + slot < amount.shape[0] else 0
        remainder = add_modulo(remainder, cut_modulo(held[slot], threshold), threshold)
    shared[thread] = remainder
    inclusive_scan(shared, threshold)
    carried = entries[cuda.blockIdx.x]
    if thread >= WARP:
        carried = add_modulo(carried, shared[thread - lane - 1], threshold)
    cuda.syncthreads()
    for slot in range(first + lane, first + lane + WARP * ROWS_EACH, WARP):
        value = cut_modulo(held[slot], threshold)
        total = running_sum(value, threshold, shared)
        before = add_modulo(carried, total - value if total >= value else total - value + threshold, threshold)
        word = ballot(held[slot] >= threshold - before, shared)
        if lane == 0 and begin + slot < amount.shape[0]:
            words[(begin + slot) // WARP] = word
        carried = add_modulo(carried, last(total, shared), threshold)
