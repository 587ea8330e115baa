"""Row loops over the last w = p[0] rows of one column, each window computed from its own rows.

The state is that of `kernels.windows.push`. Where a window is constant the deviations from its first row are exactly 0,
whatever the value is.
"""

from __future__ import annotations

from kernels.loops import helper, row_loop
from kernels.windows import mean_of, push


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
