"""Where the close lies within the range of the last bars (TA-Lib's definitions).

highest, lowest = largest high and smallest low of the last n bars. A range of at most 1e-14 (|highest| + |lowest|) is
rounding, not movement, and counts as 0.

stochf_k    = 100 (close - lowest) / (highest - lowest), 0 where the range is 0;  stochf_d = its mean over `fast_d` bars
stoch_k     = mean of stochf_k over `slow_k` bars;  stoch_d = mean of stoch_k over `slow_d` bars (G. Lane, 1984)
stochrsi_k  = stochf_k of the rsi instead of prices, stochrsi_d its mean (T. Chande and S. Kroll, 1994)
willr_n     = -100 (highest - close) / (highest - lowest), 0 where the range is 0 (L. Williams, 1973)
Outputs of one feature begin together.
"""

from __future__ import annotations

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
def wilder_rsi(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """The rsi of x[0] with TA-Lib's own rounding; state: the value before, up, down."""
    window = p[0]
    before, up, down = state[0], state[1], state[2]
    for row in range(x.shape[1]):
        at = seen + row
        change = x[0, row] - before if at > 0 else 0.0
        before = x[0, row]
        if at <= window:
            up += max(change, 0.0)
            down += max(-change, 0.0)
            if at == window:
                up, down = up / window, down / window
        else:
            up = (up * (window - 1.0) + max(change, 0.0)) / window
            down = (down * (window - 1.0) + max(-change, 0.0)) / window
        both = up + down
        y[0, row] = 100.0 * (up / both) if both > 0.0 else 0.0
    state[0], state[1], state[2] = before, up, down


def _range(high: Expression, low: Expression, window: int) -> tuple[Expression, Expression, Expression]:
    """Highest, lowest, and whether there is more than rounding between them."""
    highest, lowest = high.rolling(window, "max"), low.rolling(window, "min")
    return highest, lowest, highest - lowest > ROUNDING * (abs(highest) + abs(lowest))


def _fast_k(high: Expression, low: Expression, close: Expression, window: int) -> Expression:
    highest, lowest, moved = _range(high, low, window)
    return where(moved, (close - lowest) / ((highest - lowest) / 100.0), 0.0)


def _together(k: Expression, d: Expression) -> Expression:
    return where(d == d, k, 0.0)


def percent_k(bars: Columns, fast_k: int, slow_k: int) -> Expression:
    """%K, smoothed over `slow_k` bars."""
    return _fast_k(bars.high, bars.low, bars.close, fast_k).rolling(slow_k, "mean")


def stoch(bars: Columns, fast_k: int, slow_k: int, slow_d: int) -> dict[str, Expression]:
    """Slow stochastic, 0 to 100."""
    k = percent_k(bars, fast_k, slow_k)
    d = k.rolling(slow_d, "mean")
    return {"stoch_k": _together(k, d), "stoch_d": d}


def stochf(bars: Columns, fast_k: int, fast_d: int) -> dict[str, Expression]:
    """Fast stochastic, 0 to 100."""
    k = _fast_k(bars.high, bars.low, bars.close, fast_k)
    d = k.rolling(fast_d, "mean")
    return {"stochf_k": _together(k, d), "stochf_d": d}


def stochrsi(bars: Columns, window: int, fast_k: int, fast_d: int) -> dict[str, Expression]:
    """Fast stochastic of the relative strength index, 0 to 100."""
    rsi = loop(wilder_rsi, (bars.close,), window, state=3, warmup=window)[0]
    k = _fast_k(rsi, rsi, rsi, fast_k)
    d = k.rolling(fast_d, "mean")
    return {"stochrsi_k": _together(k, d), "stochrsi_d": d}


def willr(bars: Columns, window: int) -> dict[str, Expression]:
    """Williams' %R, -100 to 0."""
    highest, lowest, moved = _range(bars.high, bars.low, window)
    return {"willr": where(moved, (highest - bars.close) / ((highest - lowest) / -100.0), 0.0)}


FEATURES = (
    Feature("stoch", stoch, Stoch),
    Feature("stochf", stochf, StochF),
    Feature("stochrsi", stochrsi, StochRsi),
    Feature("willr", willr, WideWindow),
)
