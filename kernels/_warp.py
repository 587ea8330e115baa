"""Warp intrinsics, each with a form through shared memory for the simulator, which has none.

All threads of the block call them together, since the simulator's form synchronises the block. `scratch` is a shared
int64 array of one element per thread; on a GPU it is not touched.
"""

from __future__ import annotations

from numba import cuda, int64

from kernels._op import SIMULATED

WARP = 2 if SIMULATED else 32
ALL_LANES = 0xFFFFFFFF


@cuda.jit(device=True)
def _simulated_ballot(predicate, scratch):
    thread = cuda.threadIdx.x
    scratch[thread] = 1 if predicate else 0
    cuda.syncthreads()
    word, first = 0, thread - thread % WARP
    for lane in range(WARP):
        word |= int(scratch[first + lane]) << lane
    cuda.syncthreads()
    return word


@cuda.jit(device=True)
def _simulated_below(value, step, scratch):
    thread = cuda.threadIdx.x
    scratch[thread] = value
    cuda.syncthreads()
    found = scratch[thread - step] if thread % WARP >= step else value
    cuda.syncthreads()
    return found


@cuda.jit(device=True)
def _simulated_across(value, mask, scratch):
    thread = cuda.threadIdx.x
    scratch[thread] = value
    cuda.syncthreads()
    found = scratch[thread ^ mask]
    cuda.syncthreads()
    return found


@cuda.jit(device=True)
def _simulated_last(value, scratch):
    thread = cuda.threadIdx.x
    scratch[thread] = value
    cuda.syncthreads()
    found = scratch[thread - thread % WARP + WARP - 1]
    cuda.syncthreads()
    return found


@cuda.jit(device=True)
def _ballot(predicate, scratch):
    return int64(cuda.ballot_sync(ALL_LANES, predicate))


@cuda.jit(device=True)
def _below(value, step, scratch):
    return cuda.shfl_up_sync(ALL_LANES, value, step)


@cuda.jit(device=True)
def _across(value, mask, scratch):
    return cuda.shfl_xor_sync(ALL_LANES, value, mask)


@cuda.jit(device=True)
def _last(value, scratch):
    return cuda.shfl_sync(ALL_LANES, value, WARP - 1)


# ballot(predicate, scratch): bit i of the result is lane i's predicate.
ballot = _simulated_ballot if SIMULATED else _ballot
# below(value, step, scratch): the value of the lane `step` below, one's own where there is none.
below = _simulated_below if SIMULATED else _below
# across(value, mask, scratch): the value of the lane whose number differs in the bits of `mask`.
across = _simulated_across if SIMULATED else _across
# last(value, scratch): the value of the last lane.
last = _simulated_last if SIMULATED else _last


@cuda.jit(device=True)
def add_modulo(a, b, modulus):
    """Return (a + b) mod modulus for a, b in [0, modulus)."""
    room = modulus - a
    return b - room if b >= room else a + b


@cuda.jit(device=True)
def running_sum(value, modulus, scratch):
    """Return the sum modulo `modulus` of the values of this lane and those below it."""
    step = 1
    while step < WARP:
        other = below(value, step, scratch)
        value = add_modulo(value, other, modulus) if cuda.threadIdx.x % WARP >= step else value
        step *= 2
    return value
