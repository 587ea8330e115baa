"""What the bar kernels share on the GPU: a scan inside a block, and a scan over any length by one block.

No warp intrinsics, so that the simulator runs the same text.
"""

from __future__ import annotations

from numba import cuda, int64

from kernels._op import SIMULATED, launch, new_rows

NO_MODULUS = (1 << 63) - 1
NO_ROW = (1 << 63) - 1
SCAN_THREADS = 8 if SIMULATED else 512


@cuda.jit(device=True)
def add_modulo(a, b, modulus):
    """Return (a + b) mod modulus for a, b in [0, modulus)."""
    room = modulus - a
    return b - room if b >= room else a + b


@cuda.jit(device=True)
def inclusive_scan(shared, modulus):
    """Turn shared[:threads of the block] into its running sums modulo `modulus` (Hillis and Steele 1986)."""
    thread = cuda.threadIdx.x
    step = 1
    while step < cuda.blockDim.x:
        cuda.syncthreads()
        total = shared[thread]
        if thread >= step:
            total = add_modulo(total, shared[thread - step], modulus)
        cuda.syncthreads()
        shared[thread] = total
        step *= 2
    cuda.syncthreads()


@cuda.jit
def _scan_kernel(values, modulus, start, before, total):
    shared = cuda.shared.array(SCAN_THREADS, int64)
    thread = cuda.threadIdx.x
    running = start[0]
    for base in range(0, values.shape[0], SCAN_THREADS):
        row = base + thread
        mine = values[row] if row < values.shape[0] else 0
        shared[thread] = mine
        inclusive_scan(shared, modulus)
        if row < values.shape[0]:
            here = add_modulo(running, shared[thread], modulus)
            before[row] = here - mine if here >= mine else here - mine + modulus
        running = add_modulo(running, shared[SCAN_THREADS - 1], modulus)
        cuda.syncthreads()
    if thread == 0:
        total[0] = running


def launch_exclusive_scan(values, start, modulus: int = NO_MODULUS):
    """Return ([S] start + sum of the values before each, [1] start + all of them), modulo `modulus`.

    Values and start are int64 in [0, modulus). One block walks the values in tiles.
    """
    before, total = new_rows(values, values.shape[0]), new_rows(values, 1)
    launch(_scan_kernel, 1, SCAN_THREADS, values, modulus, start, before, total)
    return before, total


def refuse_negative(op: str, row: int) -> None:
    """Raise where a pass over the amounts met a negative one, NO_ROW meaning none."""
    if row != NO_ROW:
        raise ValueError(f"{op}: amount must not be negative, it is at row {row} of the chunk; drop or repair that row")
