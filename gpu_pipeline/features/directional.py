"""Direction and strength of a trend (J. W. Wilder, 1978; T. Chande, 1995), in TA-Lib's order of operations.

+DM        = high - high of the bar before where that is above 0 and above low of the bar before - low, else 0
-DM        = low of the bar before - low where that is above 0 and above high - high of the bar before, else 0
plus_di_n  = 100 S(+DM) / S(true range), minus_di_n = 100 S(-DM) / S(true range), 0 where nothing moved; S = the sum of
             the first n - 1 values, then S - S / n + value
adx_n      = mean of the first n values of dx, then (adx (n - 1) + dx) / n; dx = 100 |plus_di - minus_di| / (plus_di +
             minus_di), that of the bar before where the sum is at most 1e-14
aroon_up_n, aroon_down_n = 100 (n - bars since the highest high, lowest low of the last n + 1 bars) / n, the newest of
             equals;  aroonosc_n = aroon_up - aroon_down
"""

from __future__ import annotations

from gpu_pipeline.features._feature import Feature, WideWindow
from gpu_pipeline.features.expression import Columns, Expression, loop
from kernels.loops import helper, row_loop

LEAST_SUM = 1e-14  # below it plus_di and minus_di are leftovers of older moves, too small to compare


@row_loop
def directional(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Inputs: high, low, close; outputs: plus_di, minus_di, dx; state: the bar before, three sums, dx."""
    window, old_high, old_low, old_close = p[0], state[0], state[1], state[2]
    plus, minus, spread, dx = state[3], state[4], state[5], state[6]
    for row in range(x.shape[1]):
        at, high, low = seen + row, x[0, row], x[1, row]
        if at > 0:
            up, down = high - old_high, old_low - low
            true_range = max(high - low, max(abs(high - old_close), abs(low - old_close)))
            if at >= window:
                plus, minus, spread = plus - plus / window, minus - minus / window, spread - spread / window
            plus += up if up > 0.0 and up > down else 0.0
            minus += down if down > 0.0 and down > up else 0.0
            spread += true_range
        old_high, old_low, old_close = high, low, x[2, row]
        y[0, row] = y[1, row] = 0.0
        if spread > 0.0:
            y[0, row], y[1, row] = 100.0 * (plus / spread), 100.0 * (minus / spread)
            both = y[0, row] + y[1, row]
            if both > LEAST_SUM:
                dx = 100.0 * (abs(y[1, row] - y[0, row]) / both)
        y[2, row] = dx
    state[0], state[1], state[2] = old_high, old_low, old_close
    state[3], state[4], state[5], state[6] = plus, minus, spread, dx


@row_loop
def average_dx(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Wilder's average of dx from row `window` on; state: the average."""
    window, share, mean = int(p[0]), 1.0 / p[0], state[0]
    for row in range(x.shape[1]):
        at = seen + row
        if at >= window and at < 2 * window:
            mean += x[0, row]
            if at == 2 * window - 1:
                mean /= window
        elif at >= window:
            mean = (mean * (window - 1.0) + x[0, row]) * share
        y[0, row] = mean
    state[0] = mean


@helper
def _latest_peak(ring, sign, first, last):  # type: ignore[no-untyped-def]
    """The last of the rows first .. last at which sign * ring is largest; rows lie in the ring by their remainder."""
    best, size = first, ring.size
    for row in range(first + 1, last + 1):
        if sign * ring[row % size] >= sign * ring[best % size]:
            best = row
    return best


@row_loop
def bars_since_extremes(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Inputs: high, low; outputs: aroon_up, aroon_down.

    State: the last n + 1 highs and lows by row modulo n + 1, the rows of the highest and of the lowest.
    """
    window = int(p[0])
    size = window + 1
    factor, top, bottom = 100.0 / window, int(state[2 * size]), int(state[2 * size + 1])
    highs, lows = state[:size], state[size : 2 * size]
    for row in range(x.shape[1]):
        at = seen + row
        place, oldest = at % size, at - window
        highs[place], lows[place] = x[0, row], x[1, row]
        if top < oldest:
            top = _latest_peak(highs, 1.0, oldest, at)
        elif x[0, row] >= highs[top % size]:
            top = at
        if bottom < oldest:
            bottom = _latest_peak(lows, -1.0, oldest, at)
        elif x[1, row] <= lows[bottom % size]:
            bottom = at
        y[0, row], y[1, row] = factor * (window - (at - top)), factor * (window - (at - bottom))
    state[2 * size], state[2 * size + 1] = top, bottom


def _directional(bars: Columns, window: int) -> tuple[Expression, ...]:
    prices = (bars.high, bars.low, bars.close)
    return loop(directional, prices, window, state=7, outputs=3, warmup=window)


def plus_di(bars: Columns, window: int) -> dict[str, Expression]:
    """Positive directional indicator, 0 to 100."""
    return {"plus_di": _directional(bars, window)[0]}


def minus_di(bars: Columns, window: int) -> dict[str, Expression]:
    """Negative directional indicator, 0 to 100."""
    return {"minus_di": _directional(bars, window)[1]}


def adx(bars: Columns, window: int) -> dict[str, Expression]:
    """Average directional index, 0 to 100: how strong a trend is, whatever its direction."""
    return {"adx": loop(average_dx, (_directional(bars, window)[2],), window, state=1, warmup=window - 1)[0]}


def _aroon(bars: Columns, window: int) -> tuple[Expression, ...]:
    state = 2 * (window + 1) + 2
    return loop(bars_since_extremes, (bars.high, bars.low), window, state=state, outputs=2, warmup=window)


def aroon(bars: Columns, window: int) -> dict[str, Expression]:
    """How recently the highest high and the lowest low were made, 0 to 100."""
    up, down = _aroon(bars, window)
    return {"aroon_up": up, "aroon_down": down}


def aroonosc(bars: Columns, window: int) -> dict[str, Expression]:
    """Aroon oscillator, -100 to 100."""
    up, down = _aroon(bars, window)
    return {"aroonosc": up - down}


FEATURES = (
    Feature("plus_di", plus_di, WideWindow),
    Feature("minus_di", minus_di, WideWindow),
    Feature("adx", adx, WideWindow),
    Feature("aroon", aroon, WideWindow),
    Feature("aroonosc", aroonosc, WideWindow),
)
