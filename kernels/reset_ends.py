"""Where bars close under the reset rule: at the first trade at which the sum since the bar's start reaches a threshold.

The closing trade belongs to its bar, however far it overshoots, and the sum restarts at zero. The rule is a chain: each
bar begins where the last one ended. The CPU form guesses where bars of later parts begin, and corrects the guess; the
CUDA form (`_reset_levels`) resolves every beginning that can matter. Both are exact for all data.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from kernels._blocks import NO_ROW, launch_exclusive_scan, refuse_negative
from kernels._op import in_threads, jit, new_filled, new_rows, require, require_one_device
from kernels._reset_levels import THRESHOLD_LIMIT as GPU_THRESHOLD_LIMIT
from kernels._reset_levels import launch_entries, launch_levels, launch_replay
from kernels._stretches import PIECE, STRETCH, close_part, part_cuts, stretches, walk_stretches

THRESHOLD_LIMIT = 1 << 62


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
    """Run the kernels on torch's current stream, or in the simulator on numpy arrays; return (ends, state)."""
    if threshold >= GPU_THRESHOLD_LIMIT:
        raise ValueError(
            f"reset_ends: on a GPU threshold must be below {GPU_THRESHOLD_LIMIT}, got {threshold}; use a coarser lot"
        )
    if amount.shape[0] == 0:
        return new_rows(amount, 0), state + 0
    bad = new_filled(amount, NO_ROW)
    tree = launch_levels(amount, threshold, bad)
    entries, offsets, counts, fan, after = launch_entries(amount, threshold, tree, state)
    bases, found = launch_exclusive_scan(counts, new_filled(amount, 0))
    refuse_negative("reset_ends", int(bad[0]))
    ends = new_rows(amount, int(found[0]))
    launch_replay(amount, threshold, tree, entries, offsets, bases, fan, ends)
    return ends, after
