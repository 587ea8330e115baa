"""In what state the market is: trending or not, calm or restless. No threshold is fitted to the data; all of it trails.

trend_state_n_a      = sign of plus_di_n - minus_di_n where adx_n > a, else 0; -1, 0, 1 (J. W. Wilder, New Concepts in
                       Technical Trading Systems, 1978)
volatility_rank_n_h  = trailing percentile of the realised volatility of n bars among its last h values: the share below
                       it, equal ones (itself too) counted half
volatility_state_n_h = 1 where that is above 3/4, -1 where it is below 1/4, else 0
regime_n_m_h         = 3 x trend_state_n_25 + volatility_state_m_h: nine codes from -4 to 4, the sign that of the trend
efficiency_ratio_n   = |close_t - close_{t-n}| / sum of the n absolute changes; 0 where nothing moved (P. Kaufman,
                       Smarter Trading, 1995)
trend_strength_n     = t-statistic of the slope of the straight line through the last n ln closes, r sqrt((n - 2) /
                       (1 - r^2)); r^2 is cut at 0.9999, so that a straight line stays finite; 0 where nothing moved
choppiness_n         = 100 log10(sum of the n true ranges / (highest high - lowest low)) / log10(n), 0 to 100: 100 goes
                       nowhere, and stands where there is no range (E. W. Dreiss)
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, ManyRows, WideWindow, Window
from gpu_pipeline.features._pairs import ratio, sign
from gpu_pipeline.features._trailing import line
from gpu_pipeline.features.directional import adx, minus_di, plus_di
from gpu_pipeline.features.expression import Columns, Expression, log, loop, maximum, minimum, sqrt, where
from gpu_pipeline.features.volatility import realised_volatility
from kernels import windows

TRENDING = 25.0
STRAIGHT = 0.9999


class Trend(Options):
    """Bars of the directional indicators, and the ADX from which on there is a trend."""

    window: ManyRows
    threshold: Annotated[float, Field(ge=0, le=100)] = TRENDING


class History(Options):
    """Bars of a volatility, and how many of its values it is compared with."""

    window: ManyRows
    history: ManyRows = 200


class Regime(Options):
    """Bars of the directional indicators, of the volatility, and of its history."""

    trend: ManyRows
    volatility: ManyRows = 20
    history: ManyRows = 200


class Line(Options):
    """Bars of a straight line; two always lie on one."""

    window: Annotated[int, Field(strict=True, ge=3, le=1_000_000)]


def trend_state(bars: Columns, window: int, threshold: float) -> dict[str, Expression]:
    """Direction of a trend that is there: -1, 0 or 1."""
    direction = sign(plus_di(bars, window)["plus_di"] - minus_di(bars, window)["minus_di"])
    return {"trend_state": where(adx(bars, window)["adx"] > threshold, direction, 0.0)}


def volatility_rank(bars: Columns, window: int, history: int) -> dict[str, Expression]:
    """Trailing percentile of the realised volatility, 0 to 1."""
    (volatility,) = realised_volatility(bars, window).values()
    (rank,) = loop(windows.rank, (volatility,), history, state=2 * history, warmup=history - 1)
    return {"volatility_rank": rank}


def volatility_state(bars: Columns, window: int, history: int) -> dict[str, Expression]:
    """Whether the volatility is high or low for its own recent past: -1, 0 or 1."""
    rank = volatility_rank(bars, window, history)["volatility_rank"]
    return {"volatility_state": (rank > 0.75) - (rank < 0.25)}


def regime(bars: Columns, trend: int, volatility: int, history: int) -> dict[str, Expression]:
    """Trend and volatility state as one of nine codes, -4 to 4."""
    direction = trend_state(bars, trend, TRENDING)["trend_state"]
    return {"regime": 3.0 * direction + volatility_state(bars, volatility, history)["volatility_state"]}


def efficiency_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """How straight the way of the close was, 0 to 1."""
    way = abs(bars.close - bars.close.lag(1)).rolling(window, "sum")
    return {"efficiency_ratio": minimum(ratio(abs(bars.close - bars.close.lag(window)), way), 1.0)}


def trend_strength(bars: Columns, window: int) -> dict[str, Expression]:
    """t-statistic of the slope of ln close over the window."""
    slope, squared = loop(line, (log(bars.close),), window, state=2 * window, outputs=2, warmup=window - 1)
    part = minimum(squared, STRAIGHT)
    return {"trend_strength": sign(slope) * sqrt((window - 2) * part / (1.0 - part))}


def choppiness(bars: Columns, window: int) -> dict[str, Expression]:
    """How much of the movement led nowhere, 0 to 100."""
    before = bars.close.lag(1)
    way = (maximum(bars.high, before) - minimum(bars.low, before)).rolling(window, "sum")
    span = bars.high.rolling(window, "max") - bars.low.rolling(window, "min")
    share = 100.0 / math.log(window) * log(maximum(ratio(way, span, otherwise=window), 1.0))
    return {"choppiness": minimum(share, 100.0)}


FEATURES = (
    Feature("trend_state", trend_state, Trend),
    Feature("volatility_rank", volatility_rank, History),
    Feature("volatility_state", volatility_state, History),
    Feature("regime", regime, Regime),
    Feature("efficiency_ratio", efficiency_ratio, Window),
    Feature("trend_strength", trend_strength, Line),
    Feature("choppiness", choppiness, WideWindow),
)
