"""Where the close lies within the range of the last bars (TA-Lib's definitions).

highest, lowest = largest high and smallest low of the last n bars. A range of at most 1e-14 (|highest| + |lowest|) is
rounding, not movement, and counts as 0.

stochf_k    = 100 (close - lowest) / (highest - lowest), 0 where the range is 0;  stochf_d = its mean over `fast_d` bars
stoch_k     = mean of stochf_k over `slow_k` bars;  stoch_d = mean of stoch_k over `slow_d` bars (G. Lane, 1984)
stochrsi_k  = stochf_k of the rsi instead of prices, stochrsi_d its mean (T. Chande and S. Kroll, 1994)
willr_n     = -100 (highest - close) / (highest - lowest), 0 where the range is 0 (L. Williams, 1973)
Outputs of one feature begin together. The means are TA-Lib's running sums to the last bit, so that a comparison with a
bound decides as it does there.
"""

from __future__ import annotations

import math

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, ManyRows, Rows, WideWindow
from gpu_pipeline.features.expression import Columns, Expression, loop, where
from kernels.loops import row_loop

ROUNDING = 1e-14


class Stoch(Options):
    """Windows of the range and of the two means."""

    fast_k: Rows = 14
    slow_k: Rows = 3
    slow_d: Rows = 3


class StochF(Options):
    """Windows of the range and of the mean."""

    fast_k: Rows = 14
    fast_d: Rows = 3


class StochRsi(Options):
    """Windows of the rsi, of its range and of the mean."""

    window: ManyRows = 14
    fast_k: Rows = 5
    fast_d: Rows = 3


@row_loop
def relative_strength(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """The rsi of momentum.py with TA-Lib's rounding of the first means; state: the value before, rises, falls.

    Where prices stand still only rounding moves the rsi, and the place in its range is all rounding.
    """
    window, share, before, up, down = p[0], 1.0 / p[0], state[0], state[1], state[2]
    for row in range(x.shape[1]):
        at = seen + row
        change = x[0, row] - before if at > 0 else 0.0
        before = x[0, row]
        if at <= window:
            up, down = up + max(change, 0.0), down + max(-change, 0.0)
            if at == window:
                up, down = up * share, down * share
        else:
            up = (up * (window - 1.0) + max(change, 0.0)) * share
            down = (down * (window - 1.0) + max(-change, 0.0)) * share
        strength = 100.0 * (up / (up + down)) if up + down > 0.0 else 0.0
        y[0, row] = strength if at >= window else math.nan
    state[0], state[1], state[2] = before, up, down


@row_loop
def running_mean(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Mean of the last n values from the first that is finite; state: those by row modulo n, their sum, their count."""
    window = int(p[0])
    ring, total, count, place = state[:window], state[window], state[window + 1], seen % window
    for row in range(x.shape[1]):
        value = x[0, row]
        oldest = 0 if place + 1 == window else place + 1
        y[0, row] = math.nan
        if math.isfinite(value):
            count = min(count + 1.0, p[0])
            ring[place] = value
            total += value
            if count == p[0]:
                y[0, row] = total / window
            total -= ring[oldest]
        place = oldest
    state[window], state[window + 1] = total, count


def _range(high: Expression, low: Expression, window: int) -> tuple[Expression, Expression, Expression]:
    """Highest, lowest, and whether there is more than rounding between them."""
    highest, lowest = high.rolling(window, "max"), low.rolling(window, "min")
    return highest, lowest, highest - lowest > ROUNDING * (abs(highest) + abs(lowest))


def _fast_k(high: Expression, low: Expression, close: Expression, window: int) -> Expression:
    highest, lowest, moved = _range(high, low, window)
    return where(moved, 100.0 * ((close - lowest) / (highest - lowest)), 0.0)


def _mean(x: Expression, window: int) -> Expression:
    return loop(running_mean, (x,), window, state=window + 2, warmup=window - 1)[0]


def _together(k: Expression, d: Expression) -> Expression:
    return where(d == d, k, 0.0)


def percent_k(bars: Columns, fast_k: int, slow_k: int) -> Expression:
    """%K, smoothed over `slow_k` bars."""
    return _mean(_fast_k(bars.high, bars.low, bars.close, fast_k), slow_k)


def stoch(bars: Columns, fast_k: int, slow_k: int, slow_d: int) -> dict[str, Expression]:
    """Slow stochastic, 0 to 100."""
    k = percent_k(bars, fast_k, slow_k)
    d = _mean(k, slow_d)
    return {"stoch_k": _together(k, d), "stoch_d": d}


def stochf(bars: Columns, fast_k: int, fast_d: int) -> dict[str, Expression]:
    """Fast stochastic, 0 to 100."""
    k = _fast_k(bars.high, bars.low, bars.close, fast_k)
    d = _mean(k, fast_d)
    return {"stochf_k": _together(k, d), "stochf_d": d}


def stochrsi(bars: Columns, window: int, fast_k: int, fast_d: int) -> dict[str, Expression]:
    """Fast stochastic of the relative strength index, 0 to 100."""
    strength = loop(relative_strength, (bars.close,), window, state=3, warmup=window)[0]
    k = _fast_k(strength, strength, strength, fast_k)
    d = _mean(k, fast_d)
    return {"stochrsi_k": _together(k, d), "stochrsi_d": d}


def willr(bars: Columns, window: int) -> dict[str, Expression]:
    """Williams' %R, -100 to 0."""
    highest, lowest, moved = _range(bars.high, bars.low, window)
    return {"willr": where(moved, -100.0 * ((highest - bars.close) / (highest - lowest)), 0.0)}


FEATURES = (
    Feature("stoch", stoch, Stoch),
    Feature("stochf", stochf, StochF),
    Feature("stochrsi", stochrsi, StochRsi),
    Feature("willr", willr, WideWindow),
)
