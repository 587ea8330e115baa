"""Who took: signed volume by the taker's side.

trade_imbalance        = (buy - sell) / volume of the bar, in [-1, 1]
trade_imbalance_mean_n = mean of the last n of them
log_taker_ratio        = ln((buy + lot) / (sell + lot)); the lot keeps one-sided bars finite
"""

from __future__ import annotations

from gpu_pipeline.features._feature import Feature, Window
from gpu_pipeline.features.expression import Columns, Expression, log


def trade_imbalance(bars: Columns) -> dict[str, Expression]:
    """Signed taker volume of the bar as a share of its volume."""
    return {"trade_imbalance": bars.trade_imbalance}


def trade_imbalance_mean(bars: Columns, window: int) -> dict[str, Expression]:
    """Mean of the last bars' imbalances."""
    return {"trade_imbalance_mean": bars.trade_imbalance.rolling(window, "mean")}


def log_taker_ratio(bars: Columns) -> dict[str, Expression]:
    """Logarithm of taker buy volume over taker sell volume, one lot added to both."""
    return {"log_taker_ratio": log((bars.buy_volume + bars.quantity_lot) / (bars.sell_volume + bars.quantity_lot))}


FEATURES = (
    Feature("trade_imbalance", trade_imbalance),
    Feature("trade_imbalance_mean", trade_imbalance_mean, Window),
    Feature("log_taker_ratio", log_taker_ratio),
)
