"""Moving averages of the close, with TA-Lib's definitions, and the distance of the close from them.

sma_n = mean of the last n closes
ema_n = (close - ema) * 2 / (n + 1) + ema, seeded by the sma of the first n closes
sma_ratio_n = close / sma_n - 1, ema_ratio_n likewise
"""

from __future__ import annotations

from gpu_pipeline.features._feature import Feature, Window
from gpu_pipeline.features.expression import Columns, Expression


def sma(bars: Columns, window: int) -> dict[str, Expression]:
    """Simple moving average of the close (a level)."""
    return {"sma": bars.close.rolling(window, "mean")}


def ema(bars: Columns, window: int) -> dict[str, Expression]:
    """Exponential moving average of the close (a level)."""
    return {"ema": bars.close.smooth(window, "ema")}


def sma_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """Distance of the close from its simple moving average, relative to the average."""
    return {"sma_ratio": bars.close / sma(bars, window)["sma"] - 1.0}


def ema_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """Distance of the close from its exponential moving average, relative to the average."""
    return {"ema_ratio": bars.close / ema(bars, window)["ema"] - 1.0}


FEATURES = (
    Feature("sma", sma, Window, levels=("sma",)),
    Feature("ema", ema, Window, levels=("ema",)),
    Feature("sma_ratio", sma_ratio, Window),
    Feature("ema_ratio", ema_ratio, Window),
)
