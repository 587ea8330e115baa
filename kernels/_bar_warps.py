"""The CUDA form of bar_sums: a warp sums a run of rows 32 at a time, a block joins the runs of a bar.

Rows are cut at every bar's end and at every multiple of RUN. A warp per bar sums the run that begins it, a warp per cut
the run that begins at that row, if it lies inside a bar: so a bar of any length has as many warps as it needs. Then the
runs of every bar that is cut are joined in order, and what is carried into the chunk before those of the first bar.
"""

from __future__ import annotations

from numba import cuda, int64

from kernels._bar_columns import (
    BUYS,
    CHANGES,
    CLOSE,
    COUNT,
    FIRST_MOVE,
    FIRST_ROW,
    FIRST_TIME,
    HIGH,
    LAST_MOVE,
    LAST_ROW,
    LAST_TIME,
    LOW,
    NOTIONAL,
    OPEN,
    S1,
    S2,
    S3,
    S4,
    TURNS,
    VOLUME,
    K,
    merge,
)
from kernels._int128 import add, multiply, scale
from kernels._op import SIMULATED, launch, new_rows
from kernels._warp import WARP, across, ballot

# Warps of a block do not wait for each other, but in the simulator all threads of a block must.
THREADS = WARP if SIMULATED else 128
RUN = 8 if SIMULATED else 1 << 14
# Products of a narrow price fit 64 bits.
NARROW = 1 << 15
LANES = (1 << WARP) - 1
JOIN_THREADS = 2 if SIMULATED else 32
JOIN_WIDTH = 2 * JOIN_THREADS


def launch_sums(trades, ends, first_row: int, state):
    """Return (sums [K, B], state [K]) of trades = (time, price, quantity, notional, is_buyer_maker), each [N]."""
    rows, bars = trades[0].shape[0], ends.shape[0]
    cuts = max(0, rows - 1) // RUN
    sums, after, runs = new_rows(state, K, bars), new_rows(state, K, 1), new_rows(state, K, cuts)
    warps = bars + 1 + cuts
    out = (sums, after, runs)
    launch(_run_kernel, -(-warps * WARP // THREADS), THREADS, *trades, ends, first_row, state, *out)
    launch(_join_kernel, cuts + 1, JOIN_THREADS, ends, rows, state, *out)
    return sums, after[:, 0]


@cuda.jit(device=True)
def bar_of(ends, row):
    """Return the bar that a row lies in: the first whose end is above it, or the open one."""
    low, high = 0, ends.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if ends[middle] > row:
            high = middle
        else:
            low = middle + 1
    return low


@cuda.jit(device=True)
def add_powers(d, s2h, s2l, s3h, s3l, s4h, s4l):
    """Add the powers of d to their sums."""
    if -NARROW < d < NARROW:
        square = d * d
        s2h, s2l = add(s2h, s2l, 0, square)
        s3h, s3l = add(s3h, s3l, d >> 63, square * d)
        s4h, s4l = add(s4h, s4l, 0, square * square)
    else:
        h, w = multiply(d, d)
        s2h, s2l = add(s2h, s2l, h, w)
        h, w = scale(h, w, d)
        s3h, s3l = add(s3h, s3l, h, w)
        h, w = scale(h, w, d)
        s4h, s4l = add(s4h, s4l, h, w)
    return s2h, s2l, s3h, s3l, s4h, s4l


@cuda.jit(device=True)
def add_moves(ups, downs, changes, turns, first, last):
    """Add the moves of a row of lanes, one bit each (`turns_of` in _bar_moves says how turns are found)."""
    moves = ups | downs
    if moves == 0:
        return changes, turns, first, last
    if last == 0:
        first = last = 1 if ups & moves & -moves != 0 else -1
    free = ~downs & LANES
    carries = (free + ups + (1 if last > 0 else 0)) ^ free ^ ups
    turns += cuda.popc((downs & carries) | (ups & ~carries))
    return changes + cuda.popc(moves), turns, first, 1 if ups > downs else -1


@cuda.jit(device=True)
def sum_lanes(value, scratch):
    """Return the sum over the lanes of a warp, in every lane."""
    mask = 1
    while mask < WARP:
        value += across(value, mask, scratch)
        mask *= 2
    return value


@cuda.jit(device=True)
def sum_wide_lanes(high, low, scratch):
    """Return the 128-bit sum over the lanes of a warp, in every lane."""
    mask = 1
    while mask < WARP:
        high, low = add(high, low, across(high, mask, scratch), across(low, mask, scratch))
        mask *= 2
    return high, low


@cuda.jit(device=True)
def sum_prices(price, low, high, origin, previous, scratch, out, column):
    """Write to out[:, column] the extremes, power sums and moves of the rows [low, high), one at least."""
    lane = cuda.threadIdx.x % WARP
    least, most = price[low], price[low]
    s1, s2h, s2l, s3h, s3l, s4h, s4l = 0, 0, 0, 0, 0, 0, 0
    changes, turns, first, last = 0, 0, 0, 0
    for base in range(low, high, WARP):
        row, now, before = base + lane, origin, origin
        if row < high:
            now = price[row]
            before = price[row - 1] if row > low else previous
            least, most = min(least, now), max(most, now)
            s1 += now - origin
            s2h, s2l, s3h, s3l, s4h, s4l = add_powers(now - origin, s2h, s2l, s3h, s3l, s4h, s4l)
        ups, downs = ballot(now > before, scratch), ballot(now < before, scratch)
        changes, turns, first, last = add_moves(ups, downs, changes, turns, first, last)
    mask = 1
    while mask < WARP:
        least, most = min(least, across(least, mask, scratch)), max(most, across(most, mask, scratch))
        mask *= 2
    s1 = sum_lanes(s1, scratch)
    s2h, s2l = sum_wide_lanes(s2h, s2l, scratch)
    s3h, s3l = sum_wide_lanes(s3h, s3l, scratch)
    s4h, s4l = sum_wide_lanes(s4h, s4l, scratch)
    if lane == 0:
        out[OPEN, column], out[CLOSE, column], out[LOW, column], out[HIGH, column] = (
            price[low],
            price[high - 1],
            least,
            most,
        )
        out[S1, column], out[S2, column], out[S2 + 1, column] = s1, s2h, s2l
        out[S3, column], out[S3 + 1, column], out[S4, column], out[S4 + 1, column] = s3h, s3l, s4h, s4l
        out[CHANGES, column], out[TURNS, column] = changes, turns
        out[FIRST_MOVE, column], out[LAST_MOVE, column] = first, last


@cuda.jit(device=True)
def sum_amounts(quantity, notional, is_buyer_maker, low, high, scratch, out, column):
    """Write to out[:, column] the volume, the notional and the volume that takers bought of the rows [low, high)."""
    lane = cuda.threadIdx.x % WARP
    volume, value, buys = 0, 0, 0
    for row in range(low + lane, high, WARP):
        volume += quantity[row]
        value += notional[row]
        buys += 0 if is_buyer_maker[row] else quantity[row]
    volume, value, buys = sum_lanes(volume, scratch), sum_lanes(value, scratch), sum_lanes(buys, scratch)
    if lane == 0:
        out[VOLUME, column], out[NOTIONAL, column], out[BUYS, column] = volume, value, buys


@cuda.jit(device=True)
def sum_run(time, price, quantity, notional, is_buyer_maker, low, high, origin, previous, first_row, scratch, out, at):
    """Write to out[:, at] the sums of the rows [low, high) of one bar; all zeros where there are none."""
    lane = cuda.threadIdx.x % WARP
    if low >= high:
        for column in range(lane, K, WARP):
            out[column, at] = 0
        return
    sum_prices(price, low, high, origin, previous, scratch, out, at)
    sum_amounts(quantity, notional, is_buyer_maker, low, high, scratch, out, at)
    if lane == 0:
        out[FIRST_TIME, at], out[LAST_TIME, at] = time[low], time[high - 1]
        out[FIRST_ROW, at], out[LAST_ROW, at], out[COUNT, at] = first_row + low, first_row + high - 1, high - low


@cuda.jit
def _run_kernel(time, price, quantity, notional, is_buyer_maker, ends, first_row, state, sums, after, runs):
    """One warp per bar, the open one last, then one per cut: the run of rows that begins there."""
    scratch = cuda.shared.array(THREADS, int64)
    job, bars, rows = cuda.grid(1) // WARP, ends.shape[0], time.shape[0]
    cut = job - bars
    if cut > runs.shape[1]:
        return
    bar, low, out, at = job, 0, sums, job
    if cut > 0:
        bar, low, out, at = bar_of(ends, cut * RUN), cut * RUN, runs, cut - 1
    elif cut == 0:
        out, at = after, 0
    begin = ends[bar - 1] if bar > 0 else 0
    low = low if cut > 0 else begin
    if cut > 0 and low == begin:
        return
    high = min(ends[bar] if bar < bars else rows, (low // RUN + 1) * RUN)
    carried = bar == 0 and state[COUNT] > 0
    origin, previous = 0, 0
    if low < high:
        origin = state[OPEN] if carried else price[begin]
        previous = price[low - 1] if cut > 0 else state[CLOSE] if carried else origin
    sum_run(time, price, quantity, notional, is_buyer_maker, low, high, origin, previous, first_row, scratch, out, at)


@cuda.jit(device=True)
def join_runs(out, at, runs, first, count, parts):
    """Join out[:, at] and the runs [first, first + count) to parts[:, 0], in pairs of neighbouring threads at last."""
    thread, spare = cuda.threadIdx.x, JOIN_THREADS + cuda.threadIdx.x
    for run in range((count + 1) * thread // JOIN_THREADS, (count + 1) * (thread + 1) // JOIN_THREADS):
        for column in range(K):
            parts[column, spare] = out[column, at] if run == 0 else runs[column, first + run - 1]
        merge(parts, thread, spare)
    step = 1
    while step < JOIN_THREADS:
        cuda.syncthreads()
        if thread % (2 * step) == 0:
            merge(parts, thread, thread + step)
        step *= 2
    cuda.syncthreads()


@cuda.jit
def _join_kernel(ends, rows, state, sums, after, runs):
    """One block for the first bar, one per cut: it joins the runs of the bar in which it is the first cut."""
    parts = cuda.shared.array((K, JOIN_WIDTH), int64)
    job, thread, bars = cuda.blockIdx.x, cuda.threadIdx.x, ends.shape[0]
    bar = bar_of(ends, job * RUN) if job > 0 else 0
    begin, end = ends[bar - 1] if bar > 0 else 0, ends[bar] if bar < bars else rows
    first = begin // RUN + 1
    count = max(0, (end - 1) // RUN + 1 - first)
    carried = job == 0 and state[COUNT] > 0
    if (job > 0 and (bar == 0 or job != first)) or (count == 0 and not carried):
        return
    for column in range(K):
        parts[column, thread] = state[column] if carried and thread == 0 else 0
    out, at = sums, bar
    if bar == bars:
        out, at = after, 0
    join_runs(out, at, runs, first - 1, count, parts)
    for column in range(thread, K, JOIN_THREADS):
        out[column, at] = parts[column, 0]
