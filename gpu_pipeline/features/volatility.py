"""How much prices move.

true range           = max(high - low, |high - close_{t-1}|, |low - close_{t-1}|)
atr_n                = Wilder average over n of the true range (Wilder 1978, TA-Lib); atr_ratio_n = atr_n / close
volatility_n         = sample standard deviation (ddof 1) of the last n one-bar log returns
realised_volatility_n = square root of the sum of the last n squared one-bar log returns
intra_bar_volatility = standard deviation of the trade prices in the bar / close
"""

from __future__ import annotations

from gpu_pipeline.features._feature import Feature, WideWindow, Window
from gpu_pipeline.features._pairs import log_return
from gpu_pipeline.features.expression import Columns, Expression, maximum, sqrt


def true_range(bars: Columns) -> Expression:
    """Range of the bar and of the gap to the close before it."""
    before = bars.close.lag(1)
    return maximum(bars.high - bars.low, maximum(abs(bars.high - before), abs(bars.low - before)))


def atr(bars: Columns, window: int) -> dict[str, Expression]:
    """Average true range, in quote currency (a level)."""
    return {"atr": true_range(bars).smooth(window, "wilder")}


def atr_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """Average true range in units of the close."""
    return {"atr_ratio": atr(bars, window)["atr"] / bars.close}


def volatility(bars: Columns, window: int) -> dict[str, Expression]:
    """Standard deviation of log returns, per bar."""
    return {"volatility": log_return(bars.close).rolling(window, "std", ddof=1)}


def realised_volatility(bars: Columns, window: int) -> dict[str, Expression]:
    """Root of the sum of squared log returns over the window."""
    change = log_return(bars.close)
    return {"realised_volatility": sqrt((change * change).rolling(window, "sum"))}


def intra_bar_volatility(bars: Columns) -> dict[str, Expression]:
    """Standard deviation of the trade prices in the bar, in units of the close."""
    return {"intra_bar_volatility": bars.intra_bar_tick_price_volatility / bars.close}


FEATURES = (
    Feature("atr", atr, Window, levels=("atr",)),
    Feature("atr_ratio", atr_ratio, Window),
    Feature("volatility", volatility, WideWindow),
    Feature("realised_volatility", realised_volatility, Window),
    Feature("intra_bar_volatility", intra_bar_volatility),
)
