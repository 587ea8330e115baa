"""Where bars close under the reset rule: at the first trade at which the sum since the bar's start reaches a threshold.

The closing trade belongs to its bar, however far it overshoots, and the sum restarts at zero. The rule is a chain (each
bar begins where the last one ended), so the CUDA form first resolves every possible beginning in every block of trades,
then walks the blocks, then replays each from its true beginning: exact for all data, without a guess.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numba import cuda, int64

from kernels._blocks import NO_MODULUS, NO_ROW, inclusive_scan, refuse_negative
from kernels._op import SIMULATED, in_threads, jit, launch, new_filled, new_rows, require, require_one_device
from kernels._stretches import PIECE, STRETCH, close_part, part_cuts, stretches, walk_stretches

THRESHOLD_LIMIT = 1 << 62
THREADS = 4 if SIMULATED else 256
ROWS_EACH = 2 if SIMULATED else 8
BLOCK_ROWS = THREADS * ROWS_EACH
SLOTS = BLOCK_ROWS + 1
SLOTS_EACH = ROWS_EACH + 1
ROUNDS = BLOCK_ROWS.bit_length() - 1
GPU_THRESHOLD_LIMIT = (1 << 63) // SLOTS


def reset_ends(
    amount: torch.Tensor,  # [N] int64, what is summed: notional, lots or ones; never negative
    threshold: int,
    state: torch.Tensor,  # [1] int64, sum since the open bar's start; zeros(1) at the beginning
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (ends [B], state [1]): a bar is the rows [previous end, end), counted from the start of this chunk.

    Any chunking gives the same bars; no sum overflows, whatever the amounts. On CUDA it synchronises once, for B.

    Raises:
        ValueError: threshold outside [1, 2^62), or on CUDA too large for a block; a negative amount.
    """
    amount = require("reset_ends", "amount", amount, torch.int64, None)
    state = require("reset_ends", "state", state, torch.int64, 1)
    require_one_device("reset_ends", amount=amount, state=state)
    if not 0 < threshold < THRESHOLD_LIMIT:
        raise ValueError(f"reset_ends: threshold must be in [1, 2^62), got {threshold}; use a coarser lot or tick")
    return _reset_ends(amount, threshold, state)


@jit
def spec(amount, threshold, state, ends):
    """Write the ends; return (their number, the sum left open, the first row with a negative amount or NO_ROW)."""
    total = state[0]
    bars = 0
    for row in range(amount.shape[0]):
        if amount[row] < 0:
            return bars, total, row
        if amount[row] >= threshold - total:
            ends[bars] = row + 1
            bars += 1
            total = 0
        else:
            total += amount[row]
    return bars, total, NO_ROW


@jit
def join_part(amount, begin, end, threshold, room, sums, rooms, counts, ends):
    """Close the bars of a part from its true beginning until both chains agree, writing from ends[0] on.

    Returns:
        (their number, how many of the bars of `close_part` they replace, the room left at the part's end).
    """
    bars, last = 0, (end - 1) // PIECE
    for low in range(begin, end, PIECE):
        high, piece = min(low + PIECE, end), low // PIECE
        mine = sums[low // STRETCH : stretches(high)]
        bars, room = walk_stretches(amount[low:high], mine, low, threshold, False, room, ends, bars)
        if room == rooms[piece]:
            return bars, counts[piece], rooms[last]
    return bars, counts[last], room


def _close(amount: np.ndarray, threshold: int, room: int) -> tuple[np.ndarray, int, int]:
    """Close all bars, one part per thread; return (ends, the room left, the bits of all amounts).

    Every part but the first guesses that a bar begins with it. Then its true beginning is known and walked until both
    chains meet; where they never do, that walk has still only the stretches to read.
    """
    rows, cuts = len(amount), part_cuts(len(amount))
    sums, ends = np.empty(stretches(rows), np.int64), np.empty(rows, np.int64)
    rooms, counts = np.empty(-(-rows // PIECE), np.int64), np.empty(-(-rows // PIECE), np.int64)
    guesses = {}

    def guess(begin: int, end: int) -> None:
        need = threshold if begin else room
        guesses[begin] = close_part(amount, begin, end, threshold, False, need, sums, rooms, counts, ends)

    in_threads(guess, cuts)
    bars, left, bits = guesses[0]
    found = [ends[:bars]]
    for begin, end in pairwise(cuts[1:]):
        bars, _, more = guesses[begin]
        true = np.empty(end - begin, np.int64)
        joined, replaced, left = join_part(amount, begin, end, threshold, left, sums, rooms, counts, true)
        found += [true[:joined], ends[begin + replaced : begin + bars]]
        bits |= more
    return np.concatenate(found), left, bits


@torch.library.custom_op("gpu_pipeline::reset_ends", mutates_args=(), device_types="cpu")
def _reset_ends(amount: torch.Tensor, threshold: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows, before = amount.numpy(), state.numpy()
    if len(rows) > PIECE:
        ends, room, bits = _close(rows, threshold, max(threshold - int(before[0]), 0))
        if bits >= 0:
            return torch.from_numpy(ends), torch.tensor([threshold - room])
    ends = np.empty(len(rows), np.int64)
    bars, total, bad = spec(rows, threshold, before, ends)
    refuse_negative("reset_ends", bad)
    return torch.from_numpy(ends[:bars].copy()), torch.tensor([total])


@_reset_ends.register_kernel("cuda")
def _(amount: torch.Tensor, threshold: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return launch_reset_ends(amount, threshold, state)


@_reset_ends.register_fake
def _(amount: torch.Tensor, threshold: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return amount.new_empty(torch.library.get_ctx().new_dynamic_size()), torch.empty_like(state)


def launch_reset_ends(amount, threshold: int, state):
    """Run the three kernels on torch's current stream, or in the simulator on numpy arrays; return (ends, state)."""
    if threshold >= GPU_THRESHOLD_LIMIT:
        raise ValueError(
            f"reset_ends: on a GPU threshold must be below {GPU_THRESHOLD_LIMIT}, got {threshold}; use a coarser lot"
        )
    blocks = -(-amount.shape[0] // BLOCK_ROWS)
    sums, links = new_rows(amount, blocks, SLOTS), new_rows(amount, blocks, SLOTS)
    entries, offsets = new_rows(amount, blocks), new_rows(amount, blocks)
    after, found, bad = new_rows(amount, 1), new_rows(amount, 1), new_filled(amount, NO_ROW)
    launch(_resolve_kernel, blocks, THREADS, amount, threshold, sums, links, bad)
    launch(_walk_kernel, 1, 1, threshold, state, sums, links, entries, offsets, after, found)
    refuse_negative("reset_ends", int(bad[0]))
    ends = new_rows(amount, int(found[0]))
    launch(_replay_kernel, -(-blocks // THREADS), THREADS, threshold, sums, entries, offsets, ends)
    return ends, after


@cuda.jit(device=True)
def first_reaching(sums, after, wanted):
    """Return the first index in (after, BLOCK_ROWS] at which the rising sums reach `wanted`, else BLOCK_ROWS + 1."""
    low, high = after + 1, SLOTS
    while low < high:
        middle = (low + high) >> 1
        if sums[middle] >= wanted:
            high = middle
        else:
            low = middle + 1
    return low


@cuda.jit(device=True)
def running_sums(amount, threshold, sums, partials, bad):
    """Fill sums[0:SLOTS] with the block's running sums of min(amount, threshold), which moves no bar's end."""
    base = cuda.blockIdx.x * BLOCK_ROWS
    for slot in range(cuda.threadIdx.x, BLOCK_ROWS, THREADS):
        row = base + slot
        value = amount[row] if row < amount.shape[0] else 0
        if value < 0:
            cuda.atomic.min(bad, 0, row)
        sums[slot + 1] = max(0, min(value, threshold))
    cuda.syncthreads()
    begin = cuda.threadIdx.x * ROWS_EACH
    for slot in range(begin + 1, begin + ROWS_EACH):
        sums[slot + 1] += sums[slot]
    partials[cuda.threadIdx.x] = sums[begin + ROWS_EACH]
    inclusive_scan(partials, NO_MODULUS)
    for slot in range(begin, begin + ROWS_EACH):
        sums[slot + 1] += partials[cuda.threadIdx.x - 1] if begin > 0 else 0
    if begin == 0:
        sums[0] = 0
    cuda.syncthreads()


@cuda.jit
def _resolve_kernel(amount, threshold, sums_out, links_out, bad):
    """Per block: running sums, and for every beginning its last stop in the block and the bars closed on the way.

    A link is count << 32 | stop. A bar that begins at `stop` does not close in this block: a fixed point of the jumps.
    """
    # The simulator tells shared arrays apart by their line.
    sums = cuda.shared.array(SLOTS, int64)
    links = cuda.shared.array(SLOTS, int64)
    partials = cuda.shared.array(THREADS, int64)
    running_sums(amount, threshold, sums, partials, bad)
    for slot in range(cuda.threadIdx.x, SLOTS, THREADS):
        end = first_reaching(sums, slot, sums[slot] + threshold)
        links[slot] = ((1 << 32) | end) if end < SLOTS else slot
    jumped = cuda.local.array(SLOTS_EACH, int64)
    for _ in range(ROUNDS):
        cuda.syncthreads()
        for slot in range(cuda.threadIdx.x, SLOTS, THREADS):
            link = links[slot]
            jumped[slot // THREADS] = ((link >> 32) << 32) + links[link & 0xFFFFFFFF]
        cuda.syncthreads()
        for slot in range(cuda.threadIdx.x, SLOTS, THREADS):
            links[slot] = jumped[slot // THREADS]
    for slot in range(cuda.threadIdx.x, SLOTS, THREADS):
        sums_out[cuda.blockIdx.x, slot] = sums[slot]
        links_out[cuda.blockIdx.x, slot] = links[slot]


@cuda.jit
def _walk_kernel(threshold, state, sums, links, entries, offsets, after, found):
    """One thread: from block to block, the sum open at each block's first row and the bars closed before it."""
    open_sum, bars = state[0], 0
    for block in range(sums.shape[0]):
        entries[block] = open_sum
        offsets[block] = bars
        begin = first_reaching(sums[block], 0, threshold - open_sum)
        if begin == SLOTS:
            open_sum += sums[block, BLOCK_ROWS]
        else:
            link = links[block, begin]
            bars += 1 + (link >> 32)
            open_sum = sums[block, BLOCK_ROWS] - sums[block, link & 0xFFFFFFFF]
    after[0] = open_sum
    found[0] = bars


@cuda.jit
def _replay_kernel(threshold, sums, entries, offsets, ends):
    """One thread per block: its ends, one search each, from the true entry."""
    block = cuda.grid(1)
    if block >= sums.shape[0]:
        return
    bar = offsets[block]
    end = first_reaching(sums[block], 0, threshold - entries[block])
    while end < SLOTS:
        ends[bar] = block * BLOCK_ROWS + end
        bar += 1
        end = first_reaching(sums[block], end, sums[block, end] + threshold)
