"""The CPU form of the two sum rules, reset and carry: a walk that passes over stretches of 64 rows by their sums.

No bar closes in a stretch whose sum is below `room`, what the open bar still needs. Vector units make the sums, in the
same read in which the rows reach the cache. Where bars are short, or amounts so large that a sum could overflow, a
stretch is marked FAR and walked row by row.
"""

from __future__ import annotations

import torch

from kernels._op import jit

STRETCH = 64
# A piece stays in the first-level cache between its sums and its walk.
PIECE = 4096
FAR = (1 << 63) - 1
# 64 amounts below 2^56 sum to less than 2^62, the limit of a threshold.
LARGEST = 1 << 56
# Above so many bars in a piece (one in 700 rows) sums of stretches cost more than they save.
DENSE = PIECE // 700
ROWS_PER_THREAD = 1 << 18


def part_cuts(rows: int) -> list[int]:
    """Cut the rows into whole pieces, about as many for each of torch's threads."""
    parts = max(1, min(torch.get_num_threads(), rows // ROWS_PER_THREAD))
    return [rows * part // parts // PIECE * PIECE for part in range(parts)] + [rows]


@jit
def stretches(rows):
    """Return how many stretches hold the first `rows` rows."""
    return (rows + STRETCH - 1) // STRETCH


@jit
def fill_sums(amount, sums):
    """Write the sum of every stretch, or FAR; return the bits of all amounts: below 0 where one is negative."""
    everything = 0
    for stretch in range(sums.shape[0]):
        rows = amount[stretch * STRETCH : (stretch + 1) * STRETCH]
        total, bits = 0, 0
        for row in range(rows.shape[0]):
            total += rows[row]
            bits |= rows[row]
        sums[stretch] = total if 0 <= bits < LARGEST else FAR
        everything |= bits
    return everything


@jit
def walk_rows(rows, first, threshold, carry, room, ends, bars):
    """Close bars row by row; return (bars so far, room, all bits). Room starts below 2^62: it cannot overflow."""
    bits = 0
    for row in range(rows.shape[0]):
        room -= rows[row]
        bits |= rows[row]
        if room <= 0:
            ends[bars] = first + row + 1
            bars += 1
            room = threshold - (-room % threshold if carry else 0)
    return bars, room, bits


@jit
def walk_stretches(amount, sums, first, threshold, carry, room, ends, bars):
    """Close bars, passing over every stretch in which none can close; return (bars so far, room)."""
    for stretch in range(sums.shape[0]):
        if sums[stretch] < room:
            room -= sums[stretch]
        else:
            low = stretch * STRETCH
            bars, room, _ = walk_rows(amount[low : low + STRETCH], first + low, threshold, carry, room, ends, bars)
    return bars, room


@jit
def close_part(amount, begin, end, threshold, carry, room, sums, rooms, counts, ends):
    """Close the bars of the rows [begin, end), writing from ends[begin] on; return (bars, room, all bits).

    Also keeps the sum of every stretch, and after every piece the room and the bars of this part so far.
    """
    mine, bars, bits, dense = ends[begin:end], 0, 0, False
    for low in range(begin, end, PIECE):
        high, before = min(low + PIECE, end), bars
        piece, own = amount[low:high], sums[low // STRETCH : stretches(high)]
        if dense:
            own[:] = FAR
            bars, room, more = walk_rows(piece, low, threshold, carry, room, mine, bars)
        else:
            more = fill_sums(piece, own)
            bars, room = walk_stretches(piece, own, low, threshold, carry, room, mine, bars)
        bits |= more
        dense = bars - before > DENSE
        rooms[low // PIECE], counts[low // PIECE] = room, bars
    return bars, room, bits
