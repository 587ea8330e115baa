"""What the bar kernels share on the GPU: a scan inside a block, and a scan over any length by one block."""

from __future__ import annotations

from numba import cuda, int64

from kernels._op import SIMULATED, launch, new_rows
from kernels._warp import WARP, add_modulo, running_sum

NO_MODULUS = (1 << 63) - 1
NO_ROW = (1 << 63) - 1
SCAN_THREADS = 4 if SIMULATED else 512


@cuda.jit(device=True)
def inclusive_scan(shared, modulus):
    """Turn shared[:threads of the block] into its running sums modulo `modulus`: warps first, then warps before."""
    thread = cuda.threadIdx.x
    lane = thread % WARP
    total = running_sum(shared[thread], modulus, shared)
    shared[thread] = total
    cuda.syncthreads()
    before = 0
    for last in range(WARP - 1, thread - lane, WARP):
        before = add_modulo(before, shared[last], modulus)
    cuda.syncthreads()
    shared[thread] = add_modulo(before, total, modulus)
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
