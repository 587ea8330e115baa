"""The chain of bars on the GPU, where the end of a bar depends only on where it began.

`follow[s]` is the end of the bar that begins at row s, or NO_END where it does not close in this chunk; the first bar
begins at row 0. Every beginning in a block of rows is resolved to its last stop in the block and the bars closed on the
way, by pointer doubling; one thread walks from block to block; then each block replays from its true entry.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import cuda, int64

from kernels._blocks import NO_ROW
from kernels._op import SIMULATED, launch, new_rows

NO_END = NO_ROW
THREADS = 4 if SIMULATED else 256
ROWS_EACH = 2 if SIMULATED else 8
BLOCK_ROWS = THREADS * ROWS_EACH
ROUNDS = BLOCK_ROWS.bit_length() - 1


class Chain(NamedTuple):
    """A resolved chain, on the device.

    Attributes:
        follow: [N] int64.
        entries: [blocks] int64, the beginning at which the chain enters a block of rows, NO_ROW where it passes over.
        offsets: [blocks] int64, bars closed before that.
        last: [1] int64, where the open bar begins; 0 where none closed.
    """

    follow: Any
    entries: Any
    offsets: Any
    last: Any


def launch_chain(follow, found) -> Chain:
    """Resolve the chain and write the number of its bars into `found` [1]."""
    blocks = -(-follow.shape[0] // BLOCK_ROWS)
    links, last = new_rows(follow, follow.shape[0]), new_rows(follow, 1)
    entries, offsets = new_rows(follow, blocks), new_rows(follow, blocks)
    launch(_link_kernel, blocks, THREADS, follow, links)
    launch(_walk_kernel, 1, 1, follow, links, entries, offsets, last, found)
    return Chain(follow, entries, offsets, last)


def launch_chain_ends(chain: Chain, bars: int):
    """Return the ends [bars] of a resolved chain."""
    ends = new_rows(chain.follow, bars)
    blocks = chain.entries.shape[0] if bars else 0
    launch(_replay_kernel, -(-blocks // THREADS), THREADS, chain.follow, chain.entries, chain.offsets, ends)
    return ends


@cuda.jit
def _link_kernel(follow, links_out):
    """Per block: a link is bars << 32 | last stop. A bar that does not close in the block stops where it begins."""
    links = cuda.shared.array((2, BLOCK_ROWS), int64)
    base, rows = cuda.blockIdx.x * BLOCK_ROWS, follow.shape[0]
    for slot in range(cuda.threadIdx.x, BLOCK_ROWS, THREADS):
        end = follow[base + slot] - base if base + slot < rows else NO_END
        links[0, slot] = ((1 << 32) | end) if end < BLOCK_ROWS else slot
    for turn in range(ROUNDS):
        cuda.syncthreads()
        here, there = turn & 1, 1 - (turn & 1)
        for slot in range(cuda.threadIdx.x, BLOCK_ROWS, THREADS):
            link = links[here, slot]
            links[there, slot] = ((link >> 32) << 32) + links[here, link & 0xFFFFFFFF]
    for slot in range(cuda.threadIdx.x, min(BLOCK_ROWS, rows - base), THREADS):
        links_out[base + slot] = links[ROUNDS & 1, slot]


@cuda.jit
def _walk_kernel(follow, links, entries, offsets, last, found):
    """One thread: from block to block, where the chain enters and how many bars closed before."""
    at, opened, bars = 0, 0, 0
    for block in range(entries.shape[0]):
        entries[block] = NO_ROW
        if at < follow.shape[0] and at // BLOCK_ROWS == block:
            entries[block] = at
            offsets[block] = bars
            link = links[at]
            stop = block * BLOCK_ROWS + (link & 0xFFFFFFFF)
            at = follow[stop] if stop < follow.shape[0] else NO_END
            opened = stop if at == NO_END else at
            bars += (link >> 32) + (0 if at == NO_END else 1)
    last[0] = opened
    found[0] = bars


@cuda.jit
def _replay_kernel(follow, entries, offsets, ends):
    """One thread per block: its ends, from the true entry."""
    block = cuda.grid(1)
    if block >= entries.shape[0] or entries[block] == NO_ROW:
        return
    at, bar = entries[block], offsets[block]
    limit = min((block + 1) * BLOCK_ROWS, follow.shape[0])
    while at < limit:
        at = follow[at]
        if at != NO_END:
            ends[bar] = at
            bar += 1
