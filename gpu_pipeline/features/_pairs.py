"""Covariance and correlation of two columns in a window, by a row loop over rings of their last rows; small arithmetic.

A ring holds row r at r % window. It begins with NaN and takes those of a warm-up, so that sums over it are NaN until it
is full. Loops walk it from the oldest row to the newest: a value depends on the rows alone, not on where they stand.
"""

from __future__ import annotations

import math

from gpu_pipeline.features.expression import Expression, log, loop, where
from kernels.loops import helper, row_loop

EMPTY = (math.nan,)


def log_return(close: Expression) -> Expression:
    """One-bar log return."""
    return log(close / close.lag(1))


def ratio(a: Expression, b: Expression, otherwise: float = 0.0) -> Expression:
    """`a` / `b`, and `otherwise` where b is not above 0."""
    return where(b > 0, a / b, otherwise)


def zscore(x: Expression, window: int) -> Expression:
    """Distance from the mean of the last `window` values in standard deviations (ddof 1); 0 where all are equal."""
    spread = x.rolling(window, "std", ddof=1)
    return ratio(x - x.rolling(window, "mean"), spread)


def sign(x: Expression) -> Expression:
    """-1, 0 or 1."""
    return (x > 0) - (x < 0)


@helper
def window_mean(ring, first, window):  # type: ignore[no-untyped-def]
    """Mean of a ring from its oldest row, at `first`, on; exactly the value of the rows where all are equal."""
    total, base = 0.0, ring[first]
    for index in range(first, window):
        total += ring[index] - base
    for index in range(first):
        total += ring[index] - base
    return base + total / window


@row_loop
def pair_moments(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Sample covariance (ddof 1) and correlation of two inputs over p[0] rows; 0 where one of them is constant."""
    window = int(p[0])
    a, b = state[:window], state[window:]
    for row in range(x.shape[1]):
        at = seen + row
        a[at % window], b[at % window] = x[0, row], x[1, row]
        first = (at + 1) % window
        mean_a, mean_b = window_mean(a, first, window), window_mean(b, first, window)
        aa, bb, ab = 0.0, 0.0, 0.0
        for step in range(window):
            index = (first + step) if first + step < window else first + step - window
            off_a, off_b = a[index] - mean_a, b[index] - mean_b
            aa += off_a * off_a
            bb += off_b * off_b
            ab += off_a * off_b
        y[0, row] = ab / (window - 1)
        # 0 x NaN: the ring is not full yet.
        y[1, row] = max(-1.0, min(1.0, ab / (math.sqrt(aa) * math.sqrt(bb)))) if aa > 0 and bb > 0 else 0.0 * ab


def covariance(a: Expression, b: Expression, window: int) -> Expression:
    """Sample covariance (ddof 1) over `window` rows."""
    return loop(pair_moments, (a, b), window, state=EMPTY * 2 * window, outputs=2, warmup=window - 1)[0]


def correlation(a: Expression, b: Expression, window: int) -> Expression:
    """Pearson correlation over `window` rows, 0 where one of the two is constant."""
    return loop(pair_moments, (a, b), window, state=EMPTY * 2 * window, outputs=2, warmup=window - 1)[1]
