"""Effective spreads and price impact from bars.

r_t = ln(close_t / close_{t-1}), v_t = buy_t - sell_t of the taker; sums and means are over the last n bars.

roll_spread_n      = 2 sqrt(max(0, -cov(r_t, r_{t-1}))), sample covariance over the last n pairs; of returns, so that it
                     is relative to the price (Roll 1984, J. Finance 39, 1127)
corwin_schultz_n   = mean of max(0, 2 (e^a - 1) / (1 + e^a)), a = (sqrt(2 b) - sqrt(b)) / k - sqrt(g / k),
                     k = 3 - 2 sqrt(2), b = sum of the squared ln(high / low) of two bars, g = squared ln(high / low) of
                     both as one; a bar away from the close before it is moved to it (Corwin, Schultz 2012, J. Finance
                     67, 719)
abdi_ranaldo_n     = mean of sqrt(max(0, 4 (c_{t-1} - m_{t-1}) (c_{t-1} - m_t))), c = ln close,
                     m = (ln high + ln low) / 2 (Abdi, Ranaldo 2017, Rev. Financial Studies 30, 4437: the two-day
                     corrected form)
kyle_lambda_n      = sum r v / sum v^2, return per base unit (Kyle 1985, Econometrica 53, 1315, as the regression
                     through 0 of Lopez de Prado 2018, Advances in Financial Machine Learning, 19.4.1)
amihud_n           = 1e6 x mean of |r| / dollar volume over the bars that traded (Amihud 2002, J. Financial Markets
                     5, 31)
hasbrouck_lambda_n = sum r s / sum s^2, s = sign(d) sqrt(|d|), d = trade_imbalance x dollar volume (Hasbrouck 2009,
                     J. Finance 64, 1445)

A slope or mean without anything to divide by is 0.
"""

from __future__ import annotations

import math

from gpu_pipeline.features._feature import Feature, WideWindow, Window
from gpu_pipeline.features._pairs import covariance, log_return, ratio, sign
from gpu_pipeline.features.expression import Columns, Expression, exp, log, maximum, minimum, sqrt, where

K = 3.0 - 2.0 * math.sqrt(2.0)


def roll_spread(bars: Columns, window: int) -> dict[str, Expression]:
    """Effective spread from the bid-ask bounce of returns (Roll 1984), relative to the price."""
    change = log_return(bars.close)
    return {"roll_spread": 2.0 * sqrt(maximum(-covariance(change, change.lag(1), window), 0.0))}


def corwin_schultz(bars: Columns, window: int) -> dict[str, Expression]:
    """Effective spread from highs and lows of two bars (Corwin, Schultz 2012), relative to the price."""
    before = bars.close.lag(1)
    moved = maximum(bars.low - before, 0.0) - maximum(before - bars.high, 0.0)
    high, low = bars.high - moved, bars.low - moved
    own, last = log(high / low), log(bars.high / bars.low).lag(1)
    both = log(maximum(high, bars.high.lag(1)) / minimum(low, bars.low.lag(1)))
    beta = own * own + last * last
    alpha = (sqrt(2.0 * beta) - sqrt(beta)) / K - both / math.sqrt(K)
    spread = 2.0 * (exp(alpha) - 1.0) / (1.0 + exp(alpha))
    return {"corwin_schultz": maximum(spread, 0.0).rolling(window, "mean")}


def abdi_ranaldo(bars: Columns, window: int) -> dict[str, Expression]:
    """Effective spread from closes and mid-ranges (Abdi, Ranaldo 2017), relative to the price."""
    middle = 0.5 * (log(bars.high) + log(bars.low))
    last = log(bars.close).lag(1)
    squared = 4.0 * (last - middle.lag(1)) * (last - middle)
    return {"abdi_ranaldo": sqrt(maximum(squared, 0.0)).rolling(window, "mean")}


def _slope(y: Expression, x: Expression, window: int) -> Expression:
    return ratio((x * y).rolling(window, "sum"), (x * x).rolling(window, "sum"))


def kyle_lambda(bars: Columns, window: int) -> dict[str, Expression]:
    """Price impact: return per base unit of signed taker volume (Kyle 1985)."""
    return {"kyle_lambda": _slope(log_return(bars.close), bars.buy_volume - bars.sell_volume, window)}


def amihud(bars: Columns, window: int) -> dict[str, Expression]:
    """Illiquidity: absolute return per million of quote currency traded (Amihud 2002)."""
    traded = bars.dollar_volume > 0
    each = where(traded, abs(log_return(bars.close)) / bars.dollar_volume, 0.0)
    return {"amihud": 1e6 * ratio(each.rolling(window, "sum"), traded.rolling(window, "sum"))}


def hasbrouck_lambda(bars: Columns, window: int) -> dict[str, Expression]:
    """Price impact: return per signed root of dollar volume (Hasbrouck 2009)."""
    signed = bars.trade_imbalance * bars.dollar_volume
    return {"hasbrouck_lambda": _slope(log_return(bars.close), sign(signed) * sqrt(abs(signed)), window)}


FEATURES = (
    # The root of a covariance that nearly cancels keeps half of its digits.
    Feature("roll_spread", roll_spread, WideWindow, tolerance=1e-6),
    Feature("corwin_schultz", corwin_schultz, Window),
    Feature("abdi_ranaldo", abdi_ranaldo, Window),
    Feature("kyle_lambda", kyle_lambda, Window),
    Feature("amihud", amihud, Window),
    Feature("hasbrouck_lambda", hasbrouck_lambda, Window),
)
