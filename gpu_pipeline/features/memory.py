"""How much of its past a price keeps: fractional differences, the Hurst exponent and the variance ratio.

fracdiff_d_e       = sum of w_k ln close_{t-k}, w_0 = 1, w_k = -w_{k-1} (d - k + 1) / k, while |w_k| >= e
fracdiff_width_d_w = the same over w weights
                     (M. Lopez de Prado, Advances in Financial Machine Learning, 2018, ch. 5: fixed-width window)
hurst_w            = half the least-squares slope of ln m(s) against ln s, s = 1, 2, 4 ... up to w / 4, where m(s) is
                     the mean of (ln close_i - ln close_{i-s})^2 over the w closes: m(s) ~ s^(2H) where the log price is
                     a fractional Brownian motion (B. Mandelbrot, J. Van Ness, SIAM Review 10, 1968). Within [0, 1];
                     1/2 where nothing moved; a mean below 1e-12 of the largest counts as that
variance_ratio_w_q = variance of overlapping q-bar log returns / (q * variance of one-bar ones), both unbiased, over the
                     last w one-bar returns; below 1 prices turn, above 1 they trend; 1 where all returns are equal
variance_ratio_z_w_q = (variance ratio - 1) / its standard error, about standard normal for a random walk; the larger of
                     the errors for constant and for changing volatility, since in a window in which the price mostly
                     stands still the second can be as good as 0; 0 where all returns are equal
                     (A. Lo, C. MacKinlay, Review of Financial Studies 1, 1988: M_r(q) with z(q) and z*(q))
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Annotated

from pydantic import Field, model_validator

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, ManyRows, Rows
from gpu_pipeline.features._trailing import dot
from gpu_pipeline.features.expression import Columns, Expression, log, loop, maximum, minimum, where
from kernels.loops import row_loop
from kernels.windows import mean_of, push

WIDEST = 10_000
SMALLEST_MEAN = 1e-12


def weights_above(order: float, threshold: float, most: int = WIDEST) -> list[float]:
    """Weights of the fractional difference from the newest on, as long as their size is at least the threshold."""
    weights = [1.0]
    while len(weights) <= most:
        weight = -weights[-1] * (order - len(weights) + 1) / len(weights)
        if abs(weight) < threshold:
            break
        weights.append(weight)
    return weights


@row_loop
def weighted_sum(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Sum of the last rows times the weights p, oldest first."""
    width = p.shape[0]
    for row in range(x.shape[1]):
        begin = push(state, width, seen + row, x[0, row])
        y[0, row] = dot(p, 0, state, begin, width)


@row_loop
def variance_ratios(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Variance ratio of q = p[1] rows over p[0] returns, and its z; state: window, its deviations, their squares."""
    window, q = int(p[0]), int(p[1])
    d = 2 * window
    squared = 3 * window
    steady = 2.0 * (2.0 * q - 1.0) * (q - 1.0) / (3.0 * q * window)
    terms = q * (window - q + 1.0) * (1.0 - q / float(window))
    for row in range(x.shape[1]):
        begin = push(state, window, seen + row, x[0, row])
        first = state[begin]
        mean = mean_of(state, begin, window, first)
        total = 0.0
        for index in range(window):
            value = (state[begin + index] - first) - mean
            state[d + index] = value
            state[squared + index] = value * value
            total += value * value
        y[0, row], y[1, row] = 1.0, 0.0
        if not total > 0.0:
            continue
        moved = 0.0
        for index in range(d, d + q):
            moved += state[index]
        long = moved * moved
        for index in range(d + q, d + window):
            moved += state[index] - state[index - q]
            long += moved * moved
        error = 0.0
        for lag in range(1, q):
            scale = 2.0 * (q - lag) / q
            error += scale * scale * dot(state, squared + lag, state, squared, window - lag)
        ratio = long / terms / (total / (window - 1))
        y[0, row] = ratio
        y[1, row] = (ratio - 1.0) / math.sqrt(max(error / (total * total), steady))


def _difference(bars: Columns, weights: list[float]) -> Expression:
    width = len(weights)
    return loop(weighted_sum, (log(bars.close),), *weights[::-1], state=2 * width, warmup=width - 1)[0]


def fracdiff(bars: Columns, order: float, threshold: float) -> dict[str, Expression]:
    """Fractional difference of the log close, with all weights above a threshold."""
    return {"fracdiff": _difference(bars, weights_above(order, threshold))}


def fracdiff_width(bars: Columns, order: float, window: int) -> dict[str, Expression]:
    """Fractional difference of the log close over a window."""
    return {"fracdiff_width": _difference(bars, weights_above(order, 0.0, window - 1))}


def hurst(bars: Columns, window: int) -> dict[str, Expression]:
    """Hurst exponent: 1/2 for a random walk, below where prices turn, above where they trend."""
    price = log(bars.close)
    steps = [1 << power for power in range((window // 4).bit_length())]
    means = []
    for step in steps:
        change = price - price.lag(step)
        means.append((change * change).rolling(window - step, "mean"))
    largest = reduce(maximum, means)
    centre = sum(map(math.log, steps)) / len(steps)
    places = [math.log(step) - centre for step in steps]
    spread = sum(place * place for place in places)
    slope: Expression | float = 0.0
    for mean, place in zip(means, places, strict=True):
        slope = log(maximum(mean / largest, SMALLEST_MEAN)) * (0.5 * place / spread) + slope
    return {"hurst": where(largest > 0, minimum(maximum(slope, 0.0), 1.0), 0.5)}


def variance_ratio(bars: Columns, window: int, horizon: int) -> dict[str, Expression]:
    """Variance ratio of longer returns, and its distance from 1 in standard errors."""
    change = log(bars.close / bars.close.lag(1))
    ratio, z = loop(variance_ratios, (change,), window, horizon, state=4 * window, outputs=2, warmup=window - 1)
    return {"variance_ratio": ratio, "variance_ratio_z": z}


Order = Annotated[float, Field(gt=0.0, le=2.0)]


class OrderAndThreshold(Options):
    """The order of differencing, and the size below which a weight ends the sum."""

    order: Order = 0.4
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-3

    @model_validator(mode="after")
    def _narrow(self) -> OrderAndThreshold:
        if len(weights_above(self.order, self.threshold)) > WIDEST:
            raise ValueError(f"{self.threshold:g} gives more than {WIDEST:,} weights; raise threshold")
        return self


class OrderAndWindow(Options):
    """The order of differencing and the number of weights."""

    order: Order = 0.4
    window: Annotated[int, Field(strict=True, ge=2, le=WIDEST)] = 50


class LongWindow(Options):
    """A window of at least eight closes: two steps of two doublings."""

    window: Annotated[int, Field(strict=True, ge=8, le=1_000_000)] = 64


class WindowAndHorizon(Options):
    """A window of one-bar returns, and how many of them make a long one."""

    window: ManyRows
    horizon: Rows = 2

    @model_validator(mode="after")
    def _shorter(self) -> WindowAndHorizon:
        if not 2 <= self.horizon < self.window:
            raise ValueError(f"horizon must be at least 2 and below window ({self.window}), got {self.horizon}")
        return self


FEATURES = (
    Feature("fracdiff", fracdiff, OrderAndThreshold),
    Feature("fracdiff_width", fracdiff_width, OrderAndWindow),
    Feature("hurst", hurst, LongWindow),
    Feature("variance_ratio", variance_ratio, WindowAndHorizon),
)
