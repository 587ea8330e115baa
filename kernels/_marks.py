"""Rows marked by bits, on the GPU: bit i of word w stands for row w x WARP + i, as a warp's ballot gives it."""

from __future__ import annotations

from numba import cuda, int64

from kernels._blocks import NO_MODULUS, inclusive_scan, launch_exclusive_scan
from kernels._op import SIMULATED, launch, new_filled, new_rows
from kernels._warp import WARP

THREADS = 4 if SIMULATED else 256


def new_words(like, rows: int):
    """Allocate the words of so many rows beside `like`."""
    return new_rows(like, -(-rows // WARP))


def launch_count(words):
    """Return (marks before each block of words [blocks], all marks [1])."""
    counts = new_rows(words, -(-words.shape[0] // THREADS))
    launch(_count_kernel, counts.shape[0], THREADS, words, counts)
    return launch_exclusive_scan(counts, new_filled(words, 0))


def launch_rows(words, offsets, shift: int, found: int):
    """Return the marked rows [found], each plus `shift`."""
    rows = new_rows(words, found)
    launch(_rows_kernel, offsets.shape[0], THREADS, words, offsets, shift, rows)
    return rows


@cuda.jit(device=True)
def count_up(words, shared):
    """Fill shared with the running counts of the block's words, and return this thread's word."""
    at = cuda.grid(1)
    word = words[at] if at < words.shape[0] else 0
    shared[cuda.threadIdx.x] = cuda.popc(word)
    inclusive_scan(shared, NO_MODULUS)
    return word


@cuda.jit
def _count_kernel(words, counts):
    shared = cuda.shared.array(THREADS, int64)
    count_up(words, shared)
    if cuda.threadIdx.x == 0:
        counts[cuda.blockIdx.x] = shared[THREADS - 1]


@cuda.jit
def _rows_kernel(words, offsets, shift, rows):
    """One thread per word: its rows, to their places."""
    shared = cuda.shared.array(THREADS, int64)
    word = count_up(words, shared)
    at = offsets[cuda.blockIdx.x] + shared[cuda.threadIdx.x] - cuda.popc(word)
    base = cuda.grid(1) * WARP + shift
    for bit in range(WARP):
        if (word >> bit) & 1:
            rows[at] = base + bit
            at += 1
