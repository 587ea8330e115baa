"""How much was traded, and the prices inside the bar.

volume_zscore_n    = (volume - mean) / standard deviation (ddof 1) of the last n volumes, this one included;
                     0 where they are equal
num_ticks_zscore_n = the same of the number of trades
log_num_ticks      = ln(number of trades); log_volume = ln(volume + lot)
log_dollar_volume  = ln(dollar volume + one lot at the close)
volume_ratio_n     = volume / mean of the last n volumes, this one included; 1 where that is 0
trade_size         = volume / number of trades, 0 where there are none; trade_size_zscore_n = as of the volume
vwap_distance      = close / vwap - 1
tick_skewness, tick_kurtosis = the bar's own moments of its trade prices
price_change_share = price changes / trades;  directional_change_share = changes of direction / trades
"""

from __future__ import annotations

from gpu_pipeline.features._feature import Feature, WideWindow, Window
from gpu_pipeline.features._pairs import zscore
from gpu_pipeline.features.expression import Columns, Expression, log, maximum, where


def volume_zscore(bars: Columns, window: int) -> dict[str, Expression]:
    """Volume against its own recent mean, in standard deviations."""
    return {"volume_zscore": zscore(bars.volume, window)}


def num_ticks_zscore(bars: Columns, window: int) -> dict[str, Expression]:
    """Number of trades against its own recent mean, in standard deviations."""
    return {"num_ticks_zscore": zscore(bars.num_ticks, window)}


def log_num_ticks(bars: Columns) -> dict[str, Expression]:
    """Logarithm of the number of trades (of 1 where the bar is empty)."""
    return {"log_num_ticks": log(maximum(bars.num_ticks, 1.0))}


def log_volume(bars: Columns) -> dict[str, Expression]:
    """Logarithm of the volume plus one lot."""
    return {"log_volume": log(bars.volume + bars.quantity_lot)}


def log_dollar_volume(bars: Columns) -> dict[str, Expression]:
    """Logarithm of the dollar volume, one lot added."""
    return {"log_dollar_volume": log(bars.dollar_volume + bars.quantity_lot * bars.close)}


def volume_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """Volume in units of its own recent mean."""
    mean = bars.volume.rolling(window, "mean")
    return {"volume_ratio": where(mean > 0, bars.volume / mean, 1.0)}


def trade_size(bars: Columns) -> dict[str, Expression]:
    """Mean quantity of a trade, in base units."""
    return {"trade_size": bars.volume / maximum(bars.num_ticks, 1.0)}


def trade_size_zscore(bars: Columns, window: int) -> dict[str, Expression]:
    """Mean quantity of a trade against its own recent mean, in standard deviations."""
    return {"trade_size_zscore": zscore(trade_size(bars)["trade_size"], window)}


def vwap_distance(bars: Columns) -> dict[str, Expression]:
    """Distance of the close from the volume-weighted price of its bar."""
    return {"vwap_distance": bars.close / bars.vwap - 1.0}


def tick_skewness(bars: Columns) -> dict[str, Expression]:
    """Skewness of the trade prices in the bar."""
    return {"tick_skewness": bars.tick_price_skewness}


def tick_kurtosis(bars: Columns) -> dict[str, Expression]:
    """Excess kurtosis of the trade prices in the bar."""
    return {"tick_kurtosis": bars.tick_price_kurtosis}


def price_change_share(bars: Columns) -> dict[str, Expression]:
    """Share of trades at another price than the one before."""
    return {"price_change_share": bars.num_price_changes / maximum(bars.num_ticks, 1.0)}


def directional_change_share(bars: Columns) -> dict[str, Expression]:
    """Share of trades that turn the direction of price moves."""
    return {"directional_change_share": bars.num_directional_changes / maximum(bars.num_ticks, 1.0)}


FEATURES = (
    Feature("volume_zscore", volume_zscore, WideWindow),
    Feature("num_ticks_zscore", num_ticks_zscore, WideWindow),
    Feature("log_num_ticks", log_num_ticks),
    Feature("log_volume", log_volume),
    Feature("log_dollar_volume", log_dollar_volume),
    Feature("volume_ratio", volume_ratio, Window),
    Feature("trade_size", trade_size),
    Feature("trade_size_zscore", trade_size_zscore, WideWindow),
    Feature("vwap_distance", vwap_distance),
    Feature("tick_skewness", tick_skewness),
    Feature("tick_kurtosis", tick_kurtosis),
    Feature("price_change_share", price_change_share),
    Feature("directional_change_share", directional_change_share),
)
