"""The close against volume-weighted average prices of several bars.

rolling_vwap_distance_n = close / (sum of vwap x volume / sum of volume over the last n bars) - 1
day_vwap_distance       = the same over the bars that closed since 00:00 UTC; one that closes at 00:00 is the first of
                          the new day
rolling_typical_vwap_distance_n, day_typical_vwap_distance
                        = the same with (high + low + close) / 3 in place of the bar's own vwap, for bars made by others
                          that do not have it

0 where nothing was traded.
"""

from __future__ import annotations

from gpu_pipeline.features._day import since_midnight
from gpu_pipeline.features._feature import Feature, Window
from gpu_pipeline.features._pairs import ratio
from gpu_pipeline.features.expression import Columns, Expression


def _typical(bars: Columns) -> Expression:
    return (bars.high + bars.low + bars.close) / 3.0


def _distance(bars: Columns, money: Expression, volume: Expression) -> Expression:
    return ratio(bars.close * volume, money, otherwise=1.0) - 1.0


def _rolling(bars: Columns, price: Expression, window: int) -> Expression:
    money, volume = (part.rolling(window, "sum") for part in (price * bars.volume, bars.volume))
    return _distance(bars, money, volume)


def _of_day(bars: Columns, price: Expression) -> Expression:
    money, volume = (since_midnight(part, bars) for part in (price * bars.volume, bars.volume))
    return _distance(bars, money, volume)


def rolling_vwap_distance(bars: Columns, window: int) -> dict[str, Expression]:
    """Distance of the close from the volume-weighted price of the last bars."""
    return {"rolling_vwap_distance": _rolling(bars, bars.vwap, window)}


def day_vwap_distance(bars: Columns) -> dict[str, Expression]:
    """Distance of the close from the volume-weighted price of the day so far (UTC)."""
    return {"day_vwap_distance": _of_day(bars, bars.vwap)}


def rolling_typical_vwap_distance(bars: Columns, window: int) -> dict[str, Expression]:
    """Distance of the close from the volume-weighted typical price of the last bars."""
    return {"rolling_typical_vwap_distance": _rolling(bars, _typical(bars), window)}


def day_typical_vwap_distance(bars: Columns) -> dict[str, Expression]:
    """Distance of the close from the volume-weighted typical price of the day so far (UTC)."""
    return {"day_typical_vwap_distance": _of_day(bars, _typical(bars))}


FEATURES = (
    Feature("rolling_vwap_distance", rolling_vwap_distance, Window),
    Feature("day_vwap_distance", day_vwap_distance),
    Feature("rolling_typical_vwap_distance", rolling_typical_vwap_distance, Window),
    Feature("day_typical_vwap_distance", day_typical_vwap_distance),
)
