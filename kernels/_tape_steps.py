"""Steps of a tape that have memory: lags, smoothing and rolling windows over one tile of rows (see kernels/tape.py).

They move their stretch of the state on in place. Smoothing is defined by kernels/recurrence.py, windows by
kernels/rolling.py; the results are equal bit for bit. Axes: k columns side by side.
"""

from __future__ import annotations

import math

import numpy as np

from kernels._op import jit_ieee
from kernels.rolling import MAX, MEAN, MIN, STD, SUM

LANES = 4
SMOOTH_STATE = 3
_NAN = math.nan


@jit_ieee
def rolling_state(window):
    """Numbers of state of a rolling window: rows of this block, two suffixes of the last one, three more."""
    return 3 * window + 5


@jit_ieee
def lag(x, state, out):
    rows, back = out.size, state.size
    if rows >= back:
        out[:back] = state
        out[back:] = x[: rows - back]
        state[:] = x[rows - back :]
        return
    out[:] = state[:rows]
    for i in range(back - rows):
        state[i] = state[i + rows]
    state[back - rows :] = x


@jit_ieee
def _seed(x, window, state, out):
    """Rows until `window` finite ones were seen; returns the first row after them."""
    count, total, row = state[0], state[1], 0
    while row < x.size and count < window:
        out[row] = _NAN
        if math.isfinite(x[row]):
            count += 1.0
            total += x[row]
            if count == window:
                state[2] = out[row] = total / window
        row += 1
    state[0], state[1] = count, total
    return row


@jit_ieee
def _smooth_one(wilder, x, k, rest, state, out):
    value = state[2]
    for row in range(x.size):
        if math.isfinite(x[row]):
            value = value * rest + x[row] * k if wilder else (x[row] - value) * k + value
            out[row] = value
        else:
            out[row] = _NAN
    state[2] = value


@jit_ieee
def _ema_four(x0, x1, x2, x3, y0, y1, y2, y3, values, k):
    """Four columns of finite rows side by side: a step waits for the one before, other columns fill the wait."""
    v0, v1, v2, v3 = values[0], values[1], values[2], values[3]
    k0, k1, k2, k3 = k[0], k[1], k[2], k[3]
    for row in range(x0.size):
        v0 = (x0[row] - v0) * k0 + v0
        v1 = (x1[row] - v1) * k1 + v1
        v2 = (x2[row] - v2) * k2 + v2
        v3 = (x3[row] - v3) * k3 + v3
        y0[row], y1[row], y2[row], y3[row] = v0, v1, v2, v3
    values[0], values[1], values[2], values[3] = v0, v1, v2, v3


@jit_ieee
def _wilder_four(x0, x1, x2, x3, y0, y1, y2, y3, values, k, rest):
    v0, v1, v2, v3 = values[0], values[1], values[2], values[3]
    k0, k1, k2, k3 = k[0], k[1], k[2], k[3]
    r0, r1, r2, r3 = rest[0], rest[1], rest[2], rest[3]
    for row in range(x0.size):
        v0 = v0 * r0 + x0[row] * k0
        v1 = v1 * r1 + x1[row] * k1
        v2 = v2 * r2 + x2[row] * k2
        v3 = v3 * r3 + x3[row] * k3
        y0[row], y1[row], y2[row], y3[row] = v0, v1, v2, v3
    values[0], values[1], values[2], values[3] = v0, v1, v2, v3


@jit_ieee
def _all_finite(x):
    wrong = 0
    for row in range(x.size):
        wrong += 0 if abs(x[row]) < math.inf else 1
    return wrong == 0


@jit_ieee
def smooth(wilder, lanes, slots, state, rows, spare):
    """Smooth up to four columns, lanes [k, 4]: source, target, state, window; `spare` [rows] is scratch memory."""
    count, together = lanes.shape[0], lanes.shape[0] > 1
    values, k, rest, begins = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES), np.zeros(LANES, np.int64)
    for lane in range(count):
        x, window, at = slots[lanes[lane, 0], :rows], lanes[lane, 3], lanes[lane, 2]
        k[lane] = 1.0 / window if wilder else 2.0 / (window + 1)
        rest[lane] = 1.0 - k[lane]
        begins[lane] = _seed(x, window, state[at : at + SMOOTH_STATE], slots[lanes[lane, 1], :rows])
        values[lane] = state[at + 2]
        together = together and begins[lane] == begins[0] and _all_finite(x[begins[lane] :])
    if together:
        # Lanes that there are not read the last one and write where nobody reads. Rows are counted from 0: where an
        # index may be negative, every access makes a choice.
        first, third, fourth = begins[0], min(2, count - 1), count - 1
        x0, x1 = slots[lanes[0, 0], first:rows], slots[lanes[1, 0], first:rows]
        x2, x3 = slots[lanes[third, 0], first:rows], slots[lanes[fourth, 0], first:rows]
        y0, y1 = slots[lanes[0, 1], first:rows], slots[lanes[1, 1], first:rows]
        y2 = slots[lanes[2, 1], first:rows] if count > 2 else spare[first:rows]
        y3 = slots[lanes[3, 1], first:rows] if count > 3 else spare[first:rows]
        if wilder:
            _wilder_four(x0, x1, x2, x3, y0, y1, y2, y3, values, k, rest)
        else:
            _ema_four(x0, x1, x2, x3, y0, y1, y2, y3, values, k)
        for lane in range(count):
            state[lanes[lane, 2] + 2] = values[lane]
        return
    for lane in range(count):
        first, at = begins[lane], lanes[lane, 2]
        x, y = slots[lanes[lane, 0], first:rows], slots[lanes[lane, 1], first:rows]
        _smooth_one(wilder, x, k[lane], rest[lane], state[at : at + SMOOTH_STATE], y)


@jit_ieee
def _less(a, b):
    return b if b < a or b != b else a


@jit_ieee
def _roll_sums(window, x, state, seen, y):
    """state: rows of this block [window], suffix sums of the last one [window + 1], the running sum."""
    total, j, row = state[2 * window + 1], seen % window, 0
    while row < x.size:
        if j == 0:
            total = state[2 * window] = 0.0
            for back in range(window - 1, 0, -1):
                total += state[back]
                state[window + back] = total
            total = 0.0
        count = min(x.size - row, window - j)
        block, rest = state[j : j + count], state[window + j + 1 : window + j + 1 + count]
        part, out = x[row : row + count], y[row : row + count]
        for i in range(count):
            block[i] = part[i]
            total += part[i]
            out[i] = rest[i] + total
        row, j = row + count, (j + count) % window
    state[2 * window + 1] = total


@jit_ieee
def _roll_extremes(window, sign, x, state, seen, y):
    """The same for the minimum of sign * x, turned back."""
    least, j, row = state[2 * window + 1], seen % window, 0
    while row < x.size:
        if j == 0:
            least = state[2 * window] = math.inf
            for back in range(window - 1, 0, -1):
                least = _less(least, state[back])
                state[window + back] = least
            least = math.inf
        count = min(x.size - row, window - j)
        block, rest = state[j : j + count], state[window + j + 1 : window + j + 1 + count]
        part, out = x[row : row + count], y[row : row + count]
        for i in range(count):
            block[i] = value = sign * part[i]
            least = _less(least, value)
            out[i] = sign * _less(rest[i], least)
        row, j = row + count, (j + count) % window
    state[2 * window + 1] = least


@jit_ieee
def _roll_moments(window, divisor, x, state, seen, y):
    """The same for M2 / divisor, from sums of d = x - first row of the block and of its square."""
    sums, squares, running = window, 2 * window + 1, 3 * window + 2
    total, square, first = state[running], state[running + 1], state[running + 2]
    inverse, j, row = 1.0 / window, seen % window, 0
    while row < x.size:
        if j == 0:
            first = x[row]
            total = square = state[sums + window] = state[squares + window] = 0.0
            for back in range(window - 1, 0, -1):
                d = state[back] - first
                total, square = total + d, square + d * d
                state[sums + back], state[squares + back] = total, square
            total = square = 0.0
        count = min(x.size - row, window - j)
        for i in range(count):
            state[j + i] = x[row + i]
            d = x[row + i] - first
            total, square = total + d, square + d * d
            s1 = state[sums + j + i + 1] + total
            m2 = state[squares + j + i + 1] + square - s1 * s1 * inverse
            y[row + i] = (0.0 if m2 < 0.0 else m2) / divisor
        row, j = row + count, (j + count) % window
    state[running], state[running + 1], state[running + 2] = total, square, first


@jit_ieee
def roll(op, window, ddof, x, state, seen, y):
    """Windows of any associative operation over blocks aligned to the absolute row (van Herk, Gil and Werman)."""
    if op in (SUM, MEAN):
        _roll_sums(window, x, state, seen, y)
    elif op in (MIN, MAX):
        _roll_extremes(window, 1.0 if op == MIN else -1.0, x, state, seen, y)
    else:
        _roll_moments(window, window - ddof, x, state, seen, y)
    if op == MEAN:
        for row in range(x.size):
            y[row] /= window
    if op == STD:
        for row in range(x.size):
            y[row] = math.sqrt(y[row])
    for row in range(min(x.size, window - 1 - seen)):
        y[row] = _NAN
