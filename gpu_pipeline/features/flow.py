"""Who took: signed volume by the taker's side.

trade_imbalance        = (buy - sell) / volume of the bar, in [-1, 1]
trade_imbalance_mean_n = mean of the last n of them
log_taker_ratio        = ln((buy + lot) / (sell + lot)); the lot keeps one-sided bars finite
flow_persistence_n     = |sum (buy - sell)| / sum |buy - sell| of the last n bars: 1 where all lean one way, 0 where
                         none leans
day_imbalance          = sum (buy - sell) / sum volume of the bars that closed since 00:00 UTC, 0 without volume
"""

from __future__ import annotations

from gpu_pipeline.features._day import since_midnight
from gpu_pipeline.features._feature import Feature, Window
from gpu_pipeline.features._pairs import ratio
from gpu_pipeline.features.expression import Columns, Expression, log, minimum


def trade_imbalance(bars: Columns) -> dict[str, Expression]:
    """Signed taker volume of the bar as a share of its volume."""
    return {"trade_imbalance": bars.trade_imbalance}


def trade_imbalance_mean(bars: Columns, window: int) -> dict[str, Expression]:
    """Mean of the last bars' imbalances."""
    return {"trade_imbalance_mean": bars.trade_imbalance.rolling(window, "mean")}


def log_taker_ratio(bars: Columns) -> dict[str, Expression]:
    """Logarithm of taker buy volume over taker sell volume, one lot added to both."""
    return {"log_taker_ratio": log((bars.buy_volume + bars.quantity_lot) / (bars.sell_volume + bars.quantity_lot))}


def flow_persistence(bars: Columns, window: int) -> dict[str, Expression]:
    """How far the bars' net taker volumes add up instead of cancelling, 0 to 1."""
    net = bars.buy_volume - bars.sell_volume
    together, apart = abs(net.rolling(window, "sum")), abs(net).rolling(window, "sum")
    return {"flow_persistence": minimum(ratio(together, apart), 1.0)}


def day_imbalance(bars: Columns) -> dict[str, Expression]:
    """Net taker volume of the day so far (UTC) as a share of its volume, -1 to 1."""
    net = since_midnight(bars.buy_volume - bars.sell_volume, bars)
    return {"day_imbalance": ratio(net, since_midnight(bars.volume, bars))}


FEATURES = (
    Feature("trade_imbalance", trade_imbalance),
    Feature("trade_imbalance_mean", trade_imbalance_mean, Window),
    Feature("log_taker_ratio", log_taker_ratio),
    Feature("flow_persistence", flow_persistence, Window),
    Feature("day_imbalance", day_imbalance),
)
