"""Oscillators of the range and of the typical price (TA-Lib's definitions).

cci_n  = (t - m) / (0.015 d); t = typical price, m = its mean over the last n bars, d = mean of |t - m| over them; 0
         where t - m or d is at most 1e-14 |m|, which is rounding (D. Lambert, 1980)
ultosc = 100 (4 a1 + 2 a2 + a3) / 7, a = sum of the buying pressure close - min(low, close before) over a window / sum
         of the true range over it, 0 where that is 0; the shortest window counts most (L. Williams, 1985)
"""

from __future__ import annotations

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, Rows, WideWindow
from gpu_pipeline.features.expression import Columns, Expression, loop, minimum, where
from gpu_pipeline.features.price import typical_price
from gpu_pipeline.features.volatility import true_range
from kernels.loops import row_loop

ROUNDING = 1e-14


class ThreeWindows(Options):
    """Three windows, in any order."""

    first: Rows = 7
    second: Rows = 14
    third: Rows = 28


@row_loop
def channel_index(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """State: the last n values by row modulo n, in whose order the sums are made."""
    window = int(p[0])
    ring, place = state[:window], seen % window
    for row in range(x.shape[1]):
        value = x[0, row]
        ring[place] = value
        place = 0 if place + 1 == window else place + 1
        total = away = 0.0
        for j in range(window):
            total += ring[j]
        mean = total / window
        for j in range(window):
            away += abs(ring[j] - mean)
        away /= window
        least = ROUNDING * abs(mean)
        moved = abs(value - mean) > least and away > least
        y[0, row] = (value - mean) / (0.015 * away) if moved else 0.0


def cci(bars: Columns, window: int) -> dict[str, Expression]:
    """Commodity channel index."""
    return {"cci": loop(channel_index, (typical_price(bars),), window, state=window, warmup=window - 1)[0]}


def ultosc(bars: Columns, first: int, second: int, third: int) -> dict[str, Expression]:
    """Ultimate oscillator, 0 to 100."""
    pressure = bars.close - minimum(bars.low, bars.close.lag(1))
    spread = true_range(bars)
    parts = []
    for window in sorted((first, second, third)):
        total = spread.rolling(window, "sum")
        parts.append(where(total > 0, pressure.rolling(window, "sum") / total, 0.0))
    return {"ultosc": 100.0 * ((4.0 * parts[0] + 2.0 * parts[1] + parts[2]) / 7.0)}


FEATURES = (
    Feature("cci", cci, WideWindow),
    Feature("ultosc", ultosc, ThreeWindows),
)
