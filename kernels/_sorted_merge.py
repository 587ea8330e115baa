"""One side of an order book on the GPU: a batch of sorted writes merged into sorted levels by one thread block.

Keys rise from the best level on; a write of quantity 0 deletes its level. Old and new levels are [2, room]: keys and
quantities.
"""

from __future__ import annotations

from numba import cuda

from kernels._blocks import NO_MODULUS, inclusive_scan
from kernels._sorted_blocks import first_at_least


@cuda.jit(device=True)
def find_writes(keys, lots, book_keys, size, places, moves, shared):
    """Find where each write stands in the book, and how far the writes before it move what follows; return all moves.

    A write moves what follows by one where it adds a level (+1) or deletes one (-1).
    """
    thread, threads, moved = cuda.threadIdx.x, cuda.blockDim.x, 0
    for base in range(0, keys.shape[0], threads):
        write, move = base + thread, 0
        if write < keys.shape[0]:
            place = first_at_least(book_keys, 0, size, keys[write])
            found = place < size and book_keys[place] == keys[write]
            places[write] = place
            move = (1 if lots[write] > 0 else 0) - (1 if found else 0)
        # The scan takes no negative numbers: each thread adds one, and takes them off again.
        shared[thread] = move + 1
        inclusive_scan(shared, NO_MODULUS)
        if write < keys.shape[0]:
            moves[write] = moved + shared[thread] - move - 1 - thread
        moved += shared[threads - 1] - threads
        cuda.syncthreads()
    if thread == 0:
        moves[keys.shape[0]] = moved
    cuda.syncthreads()
    return moved


@cuda.jit(device=True)
def merge(keys, lots, places, moves, old, size, new):
    """Write to `new` [2, room] the first `size` levels of `old` as the writes leave them."""
    thread, threads, writes = cuda.threadIdx.x, cuda.blockDim.x, keys.shape[0]
    for level in range(thread, size, threads):
        write = first_at_least(keys, 0, writes, old[0, level])
        if write == writes or keys[write] != old[0, level]:
            new[0, level + moves[write]] = old[0, level]
            new[1, level + moves[write]] = old[1, level]
    for write in range(thread, writes, threads):
        if lots[write] > 0:
            new[0, places[write] + moves[write]] = keys[write]
            new[1, places[write] + moves[write]] = lots[write]
    cuda.syncthreads()


@cuda.jit(device=True)
def copy_levels(book, count, flip, ticks, lots, at):
    """Write the best `count` levels from row `at` on."""
    for level in range(cuda.threadIdx.x, count, cuda.blockDim.x):
        ticks[at + level] = book[0, level] ^ flip
        lots[at + level] = book[1, level]
