"""Moving averages of the close, with TA-Lib's definitions, and the distance of the close from them.

sma_n  = mean of the last n closes
ema_n  = (close - ema) * 2 / (n + 1) + ema, seeded by the sma of the first n closes
wma_n  = sum of j * close, j = 1 for the oldest of the last n closes and n for the newest, over n (n + 1) / 2
dema_n = 2 e1 - e2, tema_n = 3 e1 - 3 e2 + e3; e1 = ema_n of the close, e2 of e1, e3 of e2 (P. Mulloy, Stocks &
         Commodities, February 1994)
kama_n = kama + s (close - kama), seeded by the close before the first value; s = (r (2/3 - 2/31) + 2/31)^2 with the
         efficiency ratio r = |close - close n bars ago| / sum of the n absolute changes between, 1 where nothing moved
         (P. Kaufman, Smarter Trading, 1995)
X_ratio_n = close / X_n - 1
"""

from __future__ import annotations

import math

from gpu_pipeline.features._feature import Feature, WideWindow, Window
from gpu_pipeline.features.expression import Columns, Expression, loop, minimum, where
from kernels.loops import row_loop

FASTEST, SLOWEST = 2.0 / 3.0, 2.0 / 31.0


@row_loop
def weighted_mean(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """State: the last n values by row modulo n, their sum, their weighted sum. Both sums are made anew every n rows."""
    window = int(p[0])
    ring, total, weighted = state[:window], state[window], state[window + 1]
    weights, place = 0.5 * window * (window + 1), seen % window
    for row in range(x.shape[1]):
        value = x[0, row]
        weighted += window * value - total
        total += value - ring[place]
        ring[place] = value
        place += 1
        if place == window:
            place, total, weighted = 0, 0.0, 0.0
            for j in range(window):
                total += ring[j]
                weighted += (j + 1.0) * ring[j]
        y[0, row] = weighted / weights
    state[window], state[window + 1] = total, weighted


@row_loop
def adaptive_mean(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Smooths x[0] by the factors x[1], which are NaN before the first; state: the average."""
    value = state[0]
    for row in range(x.shape[1]):
        factor = x[1, row]
        value = value + (x[0, row] - value) * factor if math.isfinite(factor) else x[0, row]
        y[0, row] = value
    state[0] = value


def sma(bars: Columns, window: int) -> dict[str, Expression]:
    """Simple moving average of the close (a level)."""
    return {"sma": bars.close.rolling(window, "mean")}


def ema(bars: Columns, window: int) -> dict[str, Expression]:
    """Exponential moving average of the close (a level)."""
    return {"ema": bars.close.smooth(window, "ema")}


def wma(bars: Columns, window: int) -> dict[str, Expression]:
    """Linearly weighted moving average of the close (a level)."""
    return {"wma": loop(weighted_mean, (bars.close,), window, state=window + 2, warmup=window - 1)[0]}


def dema(bars: Columns, window: int) -> dict[str, Expression]:
    """Double exponential moving average of the close (a level)."""
    once = bars.close.smooth(window, "ema")
    return {"dema": 2.0 * once - once.smooth(window, "ema")}


def tema(bars: Columns, window: int) -> dict[str, Expression]:
    """Triple exponential moving average of the close (a level)."""
    once = bars.close.smooth(window, "ema")
    twice = once.smooth(window, "ema")
    return {"tema": 3.0 * once - 3.0 * twice + twice.smooth(window, "ema")}


def kama(bars: Columns, window: int) -> dict[str, Expression]:
    """Kaufman's adaptive moving average of the close (a level)."""
    way = abs(bars.close - bars.close.lag(1)).rolling(window, "sum")
    distance = abs(bars.close - bars.close.lag(window))
    ratio = where(way > 0, minimum(distance / way, 1.0), 1.0)
    root = ratio * (FASTEST - SLOWEST) + SLOWEST
    return {"kama": loop(adaptive_mean, (bars.close, root * root), state=1)[0]}


def _ratio(bars: Columns, output: dict[str, Expression]) -> dict[str, Expression]:
    return {f"{name}_ratio": bars.close / average - 1.0 for name, average in output.items()}


def sma_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """Distance of the close from its simple moving average, relative to the average."""
    return _ratio(bars, sma(bars, window))


def ema_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """Distance of the close from its exponential moving average, relative to the average."""
    return _ratio(bars, ema(bars, window))


def wma_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """Distance of the close from its weighted moving average, relative to the average."""
    return _ratio(bars, wma(bars, window))


def dema_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """Distance of the close from its double exponential moving average, relative to the average."""
    return _ratio(bars, dema(bars, window))


def tema_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """Distance of the close from its triple exponential moving average, relative to the average."""
    return _ratio(bars, tema(bars, window))


def kama_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """Distance of the close from Kaufman's adaptive moving average, relative to the average."""
    return _ratio(bars, kama(bars, window))


FEATURES = (
    Feature("sma", sma, Window, levels=("sma",)),
    Feature("ema", ema, Window, levels=("ema",)),
    Feature("wma", wma, Window, levels=("wma",)),
    Feature("dema", dema, Window, levels=("dema",)),
    Feature("tema", tema, Window, levels=("tema",)),
    Feature("kama", kama, WideWindow, levels=("kama",)),
    Feature("sma_ratio", sma_ratio, Window),
    Feature("ema_ratio", ema_ratio, Window),
    Feature("wma_ratio", wma_ratio, Window),
    Feature("dema_ratio", dema_ratio, Window),
    Feature("tema_ratio", tema_ratio, Window),
    Feature("kama_ratio", kama_ratio, WideWindow),
)
