"""Divergences between the price and an oscillator; nothing is used before it is known.

X_divergence = sign(close - close w bars ago) - sign(x - x w bars ago), x = rsi_n, macd_hist (12, 26, 9) or on-balance
               volume: from -2 (the price fell, the oscillator rose) to 2 (the price rose, the oscillator fell). At
               most 1e-9 points of the rsi, 1e-12 of the close for the macd and 1e-12 of the volume for the balance are
               rounding: the sign is 0

Swings: a bar is a pivot low of span k if its low is below the lows of the k bars before it and not above those of the k
bars after it; it is known with the last of these. Only bars count whose k bars before have an rsi. Of the two newest
pivot lows known, the older p and the newer q:

bullish_divergence = 1 where low_q < low_p and rsi_q > rsi_p (by more than 1e-9), q is at most `longest` bars later than
               p and this bar at most `longest` later than q; else 0
bearish_divergence = the same of pivot highs: high_q > high_p and rsi_q < rsi_p
"""

from __future__ import annotations

import math

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, ManyRows, Rows
from gpu_pipeline.features.expression import Columns, Expression, loop, where
from gpu_pipeline.features.macd import macd
from gpu_pipeline.features.momentum import rsi
from kernels.loops import helper, row_loop

POINTS, SHARE = 1e-9, 1e-12


class WithRsi(Options):
    """Rows of the change, and window of the rsi."""

    window: Rows
    rsi_window: ManyRows = 14


class Change(Options):
    """Rows of the change."""

    window: Rows


class Swings(Options):
    """Bars on each side of a pivot, most bars between pivots and after them, and window of the rsi."""

    span: Rows = 5
    longest: Rows = 60
    rsi_window: ManyRows = 14


def _sign(x: Expression, least: Expression | float = 0.0) -> Expression:
    return (x > least) - (x < -least)


def _diverges(bars: Columns, window: int, oscillator: Expression, least: Expression | float) -> Expression:
    change = oscillator - oscillator.lag(window)
    return _sign(bars.close - bars.close.lag(window)) - _sign(change, least)


def rsi_divergence(bars: Columns, window: int, rsi_window: int) -> dict[str, Expression]:
    """Direction of the close minus direction of the relative strength index."""
    return {"rsi_divergence": _diverges(bars, window, rsi(bars, rsi_window)["rsi"], POINTS)}


def macd_divergence(bars: Columns, window: int) -> dict[str, Expression]:
    """Direction of the close minus direction of the MACD histogram."""
    histogram = macd(bars, 12, 26, 9)["macd_hist"]
    return {"macd_divergence": _diverges(bars, window, histogram, SHARE * abs(bars.close))}


def obv_divergence(bars: Columns, window: int) -> dict[str, Expression]:
    """Direction of the close minus direction of on-balance volume."""
    change = bars.close - bars.close.lag(1)
    signed = where(change > 0, bars.volume, where(change < 0, -bars.volume, 0.0))
    total, least = signed.rolling(window, "sum"), SHARE * bars.volume.rolling(window, "sum")
    return {"obv_divergence": _sign(bars.close - bars.close.lag(window)) - _sign(total, least)}


@helper
def _is_pivot(ring, sign, row, span):  # type: ignore[no-untyped-def]
    """Whether sign * ring is lowest at a row; rows lie in the ring by their remainder."""
    size = ring.size
    level = sign * ring[row % size]
    lowest = True
    for back in range(1, span + 1):
        lowest = lowest and sign * ring[(row - back) % size] > level and sign * ring[(row + back) % size] >= level
    return lowest


@helper
def _remember(pivots, row, price, strength):  # type: ignore[no-untyped-def]
    pivots[0], pivots[1], pivots[2] = pivots[3], pivots[4], pivots[5]
    pivots[3], pivots[4], pivots[5] = row, price, strength


@helper
def _diverge(pivots, sign, row, longest):  # type: ignore[no-untyped-def]
    recent = row - pivots[3] <= longest and pivots[3] - pivots[0] <= longest
    lower = sign * pivots[4] < sign * pivots[1]
    return recent and lower and sign * (pivots[5] - pivots[2]) > POINTS


@row_loop
def swing_divergences(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Inputs: low, high, rsi; outputs: bullish, bearish.

    State: the last 2 k + 1 of each input by row, two pivot lows, two pivot highs (row, price and rsi of the older, then
    of the newer), rows with an rsi.
    """
    span, longest = int(p[0]), p[1]
    size = 2 * span + 1
    lows, highs, strengths = state[:size], state[size : 2 * size], state[2 * size : 3 * size]
    bottoms, tops = state[3 * size : 3 * size + 6], state[3 * size + 6 : 3 * size + 12]
    count = state[3 * size + 12]
    for row in range(x.shape[1]):
        at = seen + row
        lows[at % size], highs[at % size], strengths[at % size] = x[0, row], x[1, row], x[2, row]
        count += 1.0 if count > 0.0 or math.isfinite(x[2, row]) else 0.0
        middle = at - span
        if count >= size:
            if _is_pivot(lows, 1.0, middle, span):
                _remember(bottoms, middle, lows[middle % size], strengths[middle % size])
            if _is_pivot(highs, -1.0, middle, span):
                _remember(tops, middle, highs[middle % size], strengths[middle % size])
        y[0, row] = 1.0 if _diverge(bottoms, 1.0, at, longest) else 0.0
        y[1, row] = 1.0 if _diverge(tops, -1.0, at, longest) else 0.0
    state[3 * size + 12] = count


def swing_divergence(bars: Columns, span: int, longest: int, rsi_window: int) -> dict[str, Expression]:
    """Regular divergences between the last two swings of the price and of the relative strength index."""
    size = 2 * span + 1
    inputs = bars.low, bars.high, rsi(bars, rsi_window)["rsi"]
    begin = [0.0] * (3 * size) + [-math.inf, 0.0, 0.0] * 4 + [0.0]
    bullish, bearish = loop(swing_divergences, inputs, span, longest, state=begin, outputs=2, warmup=2 * span)
    return {"bullish_divergence": bullish, "bearish_divergence": bearish}


FEATURES = (
    Feature("rsi_divergence", rsi_divergence, WithRsi),
    Feature("macd_divergence", macd_divergence, Change),
    Feature("obv_divergence", obv_divergence, Change),
    Feature("swing_divergence", swing_divergence, Swings),
)
