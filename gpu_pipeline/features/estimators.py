"""Volatility over a window of w bars from more than closes, per bar, and the share of jumps in it.

u = ln(high / low), c = ln(close / open), g = ln(open / close_{t-1}), r = ln(close / close_{t-1})

parkinson_w          = sqrt(mean u^2 / (4 ln 2)); M. Parkinson, Journal of Business 53 (1980)
garman_klass_w       = sqrt(mean(u^2 / 2 - (2 ln 2 - 1) c^2)); M. Garman, M. Klass, Journal of Business 53 (1980)
rogers_satchell_w    = sqrt(mean(ln(high / close) ln(high / open) + ln(low / close) ln(low / open)));
                       L. Rogers, S. Satchell, Annals of Applied Probability 1 (1991)
yang_zhang_w         = sqrt(var g + k var c + (1 - k) rogers_satchell_w^2), k = 0.34 / (1.34 + (w + 1) / (w - 1)),
                       variances with ddof 1; D. Yang, Q. Zhang, Journal of Business 73 (2000)
bipower_volatility_w = sqrt(BV), BV = pi / 2 * w / (w - 1) * sum of |r_i| |r_{i-1}| over the w - 1 pairs in the window;
                       O. Barndorff-Nielsen, N. Shephard, Journal of Financial Econometrics 2 (2004), scaled to w terms.
                       It stands beside realised_volatility_w = sqrt(RV), RV = sum of r^2: both are of the whole window.
jump_share_w         = max(0, 1 - BV / RV), in [0, 1]; 0 where RV is 0

All are 0 where nothing moved.
"""

from __future__ import annotations

import math

from gpu_pipeline.features._feature import Feature, WideWindow, Window
from gpu_pipeline.features.expression import Columns, Expression, log, maximum, sqrt, where

PARKINSON = 1.0 / (4.0 * math.log(2.0))
GARMAN_KLASS = 2.0 * math.log(2.0) - 1.0


def _root_mean(x: Expression, window: int) -> Expression:
    return sqrt(maximum(x.rolling(window, "mean"), 0.0))


def parkinson(bars: Columns, window: int) -> dict[str, Expression]:
    """Parkinson's volatility: from highs and lows."""
    span = log(bars.high / bars.low)
    return {"parkinson": _root_mean(span * span * PARKINSON, window)}


def garman_klass(bars: Columns, window: int) -> dict[str, Expression]:
    """Garman and Klass's volatility: from ranges and bodies."""
    span, body = log(bars.high / bars.low), log(bars.close / bars.open)
    return {"garman_klass": _root_mean(span * span * 0.5 - body * body * GARMAN_KLASS, window)}


def _rogers_satchell(bars: Columns) -> Expression:
    up = log(bars.high / bars.close) * log(bars.high / bars.open)
    return up + log(bars.low / bars.close) * log(bars.low / bars.open)


def rogers_satchell(bars: Columns, window: int) -> dict[str, Expression]:
    """Rogers and Satchell's volatility: from candles, free of drift."""
    return {"rogers_satchell": _root_mean(_rogers_satchell(bars), window)}


def yang_zhang(bars: Columns, window: int) -> dict[str, Expression]:
    """Yang and Zhang's volatility: from candles and the gaps between them, free of drift."""
    weight = 0.34 / (1.34 + (window + 1.0) / (window - 1.0))
    gaps = log(bars.open / bars.close.lag(1)).rolling(window, "var", ddof=1)
    bodies = log(bars.close / bars.open).rolling(window, "var", ddof=1)
    within = maximum(_rogers_satchell(bars).rolling(window, "mean"), 0.0)
    return {"yang_zhang": sqrt(gaps + bodies * weight + within * (1.0 - weight))}


def _bipower(bars: Columns, window: int) -> Expression:
    size = abs(log(bars.close / bars.close.lag(1)))
    scale = math.pi / 2.0 * window / (window - 1.0)
    return (size * size.lag(1)).rolling(window - 1, "sum") * scale


def bipower_volatility(bars: Columns, window: int) -> dict[str, Expression]:
    """Root of the bipower variation: what moved without jumps."""
    return {"bipower_volatility": sqrt(_bipower(bars, window))}


def jump_share(bars: Columns, window: int) -> dict[str, Expression]:
    """Share of the realised variance that the bipower variation does not explain."""
    change = log(bars.close / bars.close.lag(1))
    realised = (change * change).rolling(window, "sum")
    return {"jump_share": where(realised > 0, maximum(1.0 - _bipower(bars, window) / realised, 0.0), 0.0)}


FEATURES = (
    Feature("parkinson", parkinson, Window),
    Feature("garman_klass", garman_klass, Window),
    Feature("rogers_satchell", rogers_satchell, Window),
    Feature("yang_zhang", yang_zhang, WideWindow),
    Feature("bipower_volatility", bipower_volatility, WideWindow),
    Feature("jump_share", jump_share, WideWindow),
)
