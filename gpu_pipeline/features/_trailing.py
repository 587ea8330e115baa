"""Row loops over the last w = p[0] rows of one column, each window computed from its own rows.

The state holds the last w rows twice, one after the other, so that a window always lies in one piece, oldest first.
Where a window is constant the deviations from its first row are exactly 0, whatever the value is.
"""

from __future__ import annotations

import math

from kernels.loops import helper, row_loop


@helper
def push(state, window, count, value):  # type: ignore[no-untyped-def]
    """Take in row number `count`; where the window that ends with it begins."""
    at = count % window
    state[at] = state[at + window] = value
    return at + 1


@helper
def mean_of(state, begin, window, first):  # type: ignore[no-untyped-def]
    """Mean of the window's deviations from `first`."""
    # Four sums, since an addition waits for the one before it.
    a = b = c = d = 0.0
    fours = begin + window // 4 * 4
    for index in range(begin, fours, 4):
        a += state[index] - first
        b += state[index + 1] - first
        c += state[index + 2] - first
        d += state[index + 3] - first
    for index in range(fours, begin + window):
        a += state[index] - first
    return ((a + b) + (c + d)) / window


@helper
def dot(a, i, b, j, count):  # type: ignore[no-untyped-def]
    """Sum of products of `count` numbers of a from i on with those of b from j on, as four sums like `mean_of`."""
    s = t = u = v = 0.0
    fours = count // 4 * 4
    for index in range(0, fours, 4):
        s += a[i + index] * b[j + index]
        t += a[i + index + 1] * b[j + index + 1]
        u += a[i + index + 2] * b[j + index + 2]
        v += a[i + index + 3] * b[j + index + 3]
    for index in range(fours, count):
        s += a[i + index] * b[j + index]
    return (s + t) + (u + v)


@row_loop
def moments(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Skewness and excess kurtosis of the population; 0 where all rows are equal."""
    window = int(p[0])
    for row in range(x.shape[1]):
        begin = push(state, window, seen + row, x[0, row])
        first = state[begin]
        mean = mean_of(state, begin, window, first)
        second = third = fourth = 0.0
        for index in range(begin, begin + window):
            d = (state[index] - first) - mean
            square = d * d
            second += square
            third += square * d
            fourth += square * square
        second /= window
        y[0, row] = y[1, row] = 0.0
        if second != 0:
            y[0, row] = third / window / (second * math.sqrt(second))
            y[1, row] = fourth / window / (second * second) - 3.0


@row_loop
def rank(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Share of the window below its last row, those equal to it counted half."""
    window = int(p[0])
    for row in range(x.shape[1]):
        begin = push(state, window, seen + row, x[0, row])
        last, below, equal = x[0, row], 0, 0
        for index in range(begin, begin + window):
            below += state[index] < last
            equal += state[index] == last
        y[0, row] = (below + 0.5 * equal) / window


@row_loop
def deepest_fall(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Smallest of later / earlier - 1 over the pairs of the window, 0 where it never falls."""
    window = int(p[0])
    for row in range(x.shape[1]):
        begin = push(state, window, seen + row, x[0, row])
        peak, worst = state[begin], 1.0
        for index in range(begin, begin + window):
            peak = max(peak, state[index])
            worst = min(worst, state[index] / peak)
        y[0, row] = worst - 1.0


@row_loop
def autocorrelation(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Autocorrelation at p[1] rows within the window; 0 where all rows are equal."""
    window, lag = int(p[0]), int(p[1])
    for row in range(x.shape[1]):
        begin = push(state, window, seen + row, x[0, row])
        first = state[begin]
        mean = first + mean_of(state, begin, window, first)
        square = product = 0.0
        for index in range(begin, begin + lag):
            d = state[index] - mean
            square += d * d
        for index in range(begin + lag, begin + window):
            d = state[index] - mean
            square += d * d
            product += d * (state[index - lag] - mean)
        y[0, row] = product / square if square != 0 else 0.0


@row_loop
def line(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Slope per row of the least-squares line, and its R squared; both 0 where all rows are equal."""
    window = int(p[0])
    middle = 0.5 * (window - 1)
    spread = window * (window * float(window) - 1.0) / 12.0
    for row in range(x.shape[1]):
        begin = push(state, window, seen + row, x[0, row])
        first = state[begin]
        total = square = product = 0.0
        for index in range(window):
            d = state[begin + index] - first
            total += d
            square += d * d
            product += index * d
        product -= middle * total
        # The first d is 0, so that at most (w - 1) / w of the sum of squares is taken away.
        square -= total * total / window
        slope = product / spread
        y[0, row] = slope
        y[1, row] = min(1.0, slope * product / square) if square != 0 else 0.0


@helper
def position_of(values, begin, count, value):  # type: ignore[no-untyped-def]
    """Where in `count` sorted values from `begin` on the first one not below `value` stands."""
    low, high = begin, begin + count
    while low < high:
        middle = (low + high) // 2
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@row_loop
def quantile(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Quantile p[1], linear between neighbours; state: rows taken in, the last w rows, the same sorted."""
    window = int(p[0])
    place = p[1] * (window - 1)
    below = int(place)
    above, part, begin = min(below + 1, window - 1), place - below, window + 1
    for row in range(x.shape[1]):
        value, y[0, row] = x[0, row], math.nan
        if value != value:
            continue
        count = int(state[0])
        held, at = min(count, window), 1 + count % window
        if held == window:
            held -= 1
            for index in range(position_of(state, begin, window, state[at]), begin + held):
                state[index] = state[index + 1]
        where = position_of(state, begin, held, value)
        for index in range(begin + held, where, -1):
            state[index] = state[index - 1]
        state[where] = state[at] = value
        state[0] = count + 1.0
        if held + 1 == window:
            low = state[begin + below]
            y[0, row] = low + (state[begin + above] - low) * part
