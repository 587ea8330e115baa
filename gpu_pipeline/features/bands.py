"""Bands around the close, and the true range in units of it (J. Bollinger, 1983; J. W. Wilder, 1978; as in TA-Lib).

m, s      = mean and population standard deviation of the last `window` closes
bb_upper  = m + width s;  bb_middle = m;  bb_lower = m - width s
bb_width  = (bb_upper - bb_lower) / bb_middle
bb_percent = (close - bb_lower) / (bb_upper - bb_lower): 0 on the lower band, 1 on the upper; 1/2 where the bands meet
band_width, band_percent = these two alone: of `bbands_ratio`, for model input without the bands, which are levels
natr_n    = 100 atr_n / close, 0 where the close is 0
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, ManyRows, WideWindow
from gpu_pipeline.features.expression import Columns, Expression, where
from gpu_pipeline.features.volatility import atr

TOLERANCE = 1e-7  # rounding of the mean is a large part of the distance between bands that lie a tick apart


class Bands(Options):
    """Window of the mean, and distance of the bands from it in standard deviations."""

    window: ManyRows = 20
    width: Annotated[float, Field(gt=0, le=100)] = 2.0


def bbands(bars: Columns, window: int, width: float) -> dict[str, Expression]:
    """Bollinger bands (levels), how wide they are, and where between them the close is."""
    middle = bars.close.rolling(window, "mean")
    reach = width * bars.close.rolling(window, "std")
    return {
        "bb_upper": middle + reach,
        "bb_middle": middle,
        "bb_lower": middle - reach,
        "bb_width": where(middle != 0, 2.0 * reach / middle, 0.0),
        "bb_percent": where(reach > 0, (bars.close - middle + reach) / (2.0 * reach), 0.5),
    }


def bbands_ratio(bars: Columns, window: int, width: float) -> dict[str, Expression]:
    """Width of the bands and place of the close in them."""
    made = bbands(bars, window, width)
    return {"band_width": made["bb_width"], "band_percent": made["bb_percent"]}


def natr(bars: Columns, window: int) -> dict[str, Expression]:
    """Average true range in percent of the close."""
    return {"natr": where(bars.close != 0, atr(bars, window)["atr"] / bars.close * 100.0, 0.0)}


FEATURES = (
    Feature("bbands", bbands, Bands, levels=("bb_upper", "bb_middle", "bb_lower"), tolerance=TOLERANCE),
    Feature("bbands_ratio", bbands_ratio, Bands, tolerance=TOLERANCE),
    Feature("natr", natr, WideWindow),
)
