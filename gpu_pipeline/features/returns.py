"""Returns over n bars.

return_n     = close_t / close_{t-n} - 1
log_return_n = ln(close_t / close_{t-n})
"""

from __future__ import annotations

from gpu_pipeline.features._feature import Feature, Window
from gpu_pipeline.features.expression import Columns, Expression, log


def simple_return(bars: Columns, window: int) -> dict[str, Expression]:
    """Relative change of the close over `window` bars."""
    return {"return": bars.close / bars.close.lag(window) - 1.0}


def log_return(bars: Columns, window: int) -> dict[str, Expression]:
    """Logarithm of the ratio of closes `window` bars apart."""
    return {"log_return": log(bars.close / bars.close.lag(window))}


FEATURES = (
    Feature("return", simple_return, Window),
    Feature("log_return", log_return, Window),
)
