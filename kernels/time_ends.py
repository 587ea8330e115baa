"""Where time bars close: buckets [t, t + step) anchored at 00:00 UTC of each day.

The last bucket of a day is cut short where the step does not divide the day. A bar holds the trades of one bucket and
closes before the first trade of another, so a bar's end may be 0: the chunk's first trade closes the bar carried in.
Buckets without trades make no bar.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import cuda, int64

from kernels._blocks import NO_ROW
from kernels._marks import launch_count, launch_rows, new_words
from kernels._op import SIMULATED, in_threads, jit, launch, new_filled, new_rows, require, require_one_device
from kernels._stretches import PIECE, STRETCH, part_cuts
from kernels._warp import WARP, ballot

DAY_NS = 86_400_000_000_000
NO_BUCKET = -(1 << 63)
THREADS = 4 if SIMULATED else 256
ROWS_EACH = 2 if SIMULATED else 16
BLOCK_ROWS = THREADS * ROWS_EACH


def time_ends(
    time_ns: torch.Tensor,  # [N] int64 ns UTC, non-decreasing, between the years 1678 and 2261
    step_ns: int,
    state: torch.Tensor,  # [1] int64, start of the open bar's bucket; NO_BUCKET at the beginning
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (ends [B], starts [B], state [1]): a bar is the rows [previous end, end) of this chunk.

    `starts[i]` is the bucket start (ns) of closed bar i; its cut-short end is `bucket_end(starts[i], step_ns)`.
    Any chunking gives the same bars. On CUDA it waits for the device, for B.

    Raises:
        ValueError: step outside [1 ns, one day]; a time below the one before it, or below the open bucket.
    """
    time_ns = require("time_ends", "time_ns", time_ns, torch.int64, None)
    state = require("time_ends", "state", state, torch.int64, 1)
    require_one_device("time_ends", time_ns=time_ns, state=state)
    if not 0 < step_ns <= DAY_NS:
        raise ValueError(f"time_ends: step_ns must be in [1, {DAY_NS}] (one day), got {step_ns}")
    return _time_ends(time_ns, step_ns, state)


def bucket_end(start_ns: int | torch.Tensor, step_ns: int) -> int | torch.Tensor:
    """Return the exclusive end (ns) of the bucket or buckets that begin at `start_ns`: the step or midnight."""
    midnight = start_ns - start_ns % DAY_NS + DAY_NS
    if isinstance(start_ns, torch.Tensor):
        return torch.minimum(start_ns + step_ns, midnight)
    return min(start_ns + step_ns, midnight)


@jit
def bucket_of(time_ns, step_ns):
    """Return the bucket (start, end) of one time; remainders floor, so times before 1970 need no case of their own."""
    in_day = time_ns % DAY_NS
    start = time_ns - in_day % step_ns
    return start, min(start + step_ns, time_ns - in_day + DAY_NS)


@jit
def spec(time_ns, step_ns, state, ends, starts):
    """Write ends and starts; return (their number, the open bucket, the first row that steps back or NO_ROW)."""
    start = state[0]
    finish = NO_BUCKET if start == NO_BUCKET else bucket_of(start, step_ns)[1]
    bars = 0
    last = start
    for row in range(time_ns.shape[0]):
        now = time_ns[row]
        if now < last:
            return bars, start, row
        if now >= finish:
            if start != NO_BUCKET:
                ends[bars] = row
                starts[bars] = start
                bars += 1
            start, finish = bucket_of(now, step_ns)
        last = now
    return bars, start, NO_ROW


@jit
def falls(time_ns):
    """Return how many times are below the one before."""
    now, before, count = time_ns[1:], time_ns[:-1], 0
    for row in range(now.shape[0]):
        count += 1 if now[row] < before[row] else 0
    return count


@jit
def close_part(time_ns, begin, end, step_ns, start, ends, starts):
    """Close the bars of the rows [begin, end), the bucket `start` being open before; return (their number, falls).

    A stretch whose last time is in the open bucket is passed over: once it is known that no time falls, none left it.
    """
    finish = NO_BUCKET if start == NO_BUCKET else bucket_of(start, step_ns)[1]
    bars, fell = 0, 0
    for low in range(begin, end, STRETCH):
        high = min(low + STRETCH, end)
        if (low - begin) % PIECE == 0:
            fell += falls(time_ns[max(low - 1, 0) : min(low + PIECE, end)])
        if time_ns[high - 1] < finish:
            continue
        for row in range(low, high):
            if time_ns[row] >= finish:
                if start != NO_BUCKET:
                    ends[bars] = row
                    starts[bars] = start
                    bars += 1
                start, finish = bucket_of(time_ns[row], step_ns)
    return bars, fell


def _close(time_ns: np.ndarray, step_ns: int, state: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Close all bars, one part per thread, since the row before a part says which bucket is open; also count falls."""
    rows, cuts = len(time_ns), part_cuts(len(time_ns))
    ends, starts, found = np.empty(rows, np.int64), np.empty(rows, np.int64), {}

    def close(begin: int, end: int) -> None:
        start = bucket_of(time_ns[begin - 1], step_ns)[0] if begin else state[0]
        found[begin] = close_part(time_ns, begin, end, step_ns, start, ends[begin:end], starts[begin:end])

    in_threads(close, cuts)
    fell = sum(count for _, count in found.values()) + int(time_ns[0] < state[0])
    spans = [slice(begin, begin + bars) for begin, (bars, _) in sorted(found.items())]
    return np.concatenate([ends[span] for span in spans]), np.concatenate([starts[span] for span in spans]), fell


@torch.library.custom_op("gpu_pipeline::time_ends", mutates_args=(), device_types="cpu")
def _time_ends(
    time_ns: torch.Tensor, step_ns: int, state: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    times, before = time_ns.numpy(), state.numpy()
    if len(times) > PIECE:
        ends, starts, fell = _close(times, step_ns, before)
        if not fell:
            after = torch.tensor([bucket_of(times[-1], step_ns)[0]])
            return torch.from_numpy(ends), torch.from_numpy(starts), after
    ends, starts = np.empty(len(times), np.int64), np.empty(len(times), np.int64)
    bars, start, bad = spec(times, step_ns, before, ends, starts)
    _refuse_step_back(bad)
    return torch.from_numpy(ends[:bars].copy()), torch.from_numpy(starts[:bars].copy()), torch.tensor([start])


@_time_ends.register_kernel("cuda")
def _(time_ns: torch.Tensor, step_ns: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return launch_time_ends(time_ns, step_ns, state)


@_time_ends.register_fake
def _(time_ns: torch.Tensor, step_ns: int, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    bars = torch.library.get_ctx().new_dynamic_size()
    return time_ns.new_empty(bars), time_ns.new_empty(bars), torch.empty_like(state)


def _refuse_step_back(row: int) -> None:
    if row != NO_ROW:
        raise ValueError(
            f"time_ends: times must not fall, row {row} of the chunk is earlier than the one before it; sort the trades"
        )


def launch_time_ends(time_ns, step_ns: int, state):
    """Run the kernels on torch's current stream, or in the simulator on numpy arrays; return (ends, starts, state)."""
    rows = time_ns.shape[0]
    words, after, bad = new_words(time_ns, rows), new_rows(time_ns, 1), new_filled(time_ns, NO_ROW)
    launch(_mark_kernel, max(1, -(-rows // BLOCK_ROWS)), THREADS, time_ns, step_ns, state, words, after, bad)
    offsets, found = launch_count(words)
    _refuse_step_back(int(bad[0]))
    ends = launch_rows(words, offsets, 0, int(found[0]))
    starts = new_rows(ends, ends.shape[0])
    launch(_start_kernel, -(-ends.shape[0] // THREADS), THREADS, time_ns, step_ns, state, ends, starts)
    return ends, starts, after


@cuda.jit(device=True)
def time_before(row, time_ns, state):
    """Return the time of the row before, or the start of the bucket carried in."""
    return time_ns[row - 1] if row > 0 else state[0]


@cuda.jit(device=True)
def finish_of(time, step_ns):
    """Return the end of a time's bucket; without a bucket there is none to wait for."""
    return NO_BUCKET if time == NO_BUCKET else bucket_of(time, step_ns)[1]


@cuda.jit
def _mark_kernel(time_ns, step_ns, state, words, after, bad):
    """Per block of rows: which of them close a bar, the rows of a warp 32 at a time.

    A bucket is found once per warp and after each that ends: divisions of 64 bits cost more than all else.
    """
    scratch = cuda.shared.array(THREADS, int64)
    thread, rows = cuda.threadIdx.x, time_ns.shape[0]
    lane = thread % WARP
    first = cuda.blockIdx.x * BLOCK_ROWS + (thread - lane) * ROWS_EACH
    if cuda.grid(1) == 0:
        latest = time_before(rows, time_ns, state)
        after[0] = latest if latest == NO_BUCKET else bucket_of(latest, step_ns)[0]
    finish = finish_of(time_before(min(first, rows), time_ns, state), step_ns)
    for base in range(first, first + WARP * ROWS_EACH, WARP):
        row, closes, leaves = base + lane, False, False
        if row < rows:
            before, now = time_before(row, time_ns, state), time_ns[row]
            leaves = now >= finish
            if now < before:
                cuda.atomic.min(bad, 0, row)
        if ballot(leaves, scratch) != 0:
            if row < rows and before != NO_BUCKET:
                closes = now >= finish_of(before, step_ns)
            finish = finish_of(time_ns[min(base + WARP, rows) - 1], step_ns)
        word = ballot(closes, scratch)
        if lane == 0 and base < rows:
            words[base // WARP] = word


@cuda.jit
def _start_kernel(time_ns, step_ns, state, ends, starts):
    """One thread per closed bar: the start of its bucket."""
    bar = cuda.grid(1)
    if bar < ends.shape[0]:
        starts[bar] = bucket_of(time_before(ends[bar], time_ns, state), step_ns)[0]
