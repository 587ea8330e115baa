"""Shape of one bar, as ratios to its range high - low, or to its close.

body_ratio     = (close - open) / range          in [-1, 1]
upper_wick     = (high - max(open, close)) / range
lower_wick     = (min(open, close) - low) / range
close_location = (close - low) / range           1/2 where the range is 0, the other ratios are 0 then
range_ratio    = range / close
"""

from __future__ import annotations

from gpu_pipeline.features._feature import Feature
from gpu_pipeline.features.expression import Columns, Expression, maximum, minimum, where


def _of_range(bars: Columns, part: Expression, flat: float = 0.0) -> Expression:
    span = bars.high - bars.low
    return where(span > 0, part / span, flat)


def body_ratio(bars: Columns) -> dict[str, Expression]:
    """Signed body in units of the range."""
    return {"body_ratio": _of_range(bars, bars.close - bars.open)}


def upper_wick(bars: Columns) -> dict[str, Expression]:
    """Upper wick in units of the range."""
    return {"upper_wick": _of_range(bars, bars.high - maximum(bars.open, bars.close))}


def lower_wick(bars: Columns) -> dict[str, Expression]:
    """Lower wick in units of the range."""
    return {"lower_wick": _of_range(bars, minimum(bars.open, bars.close) - bars.low)}


def close_location(bars: Columns) -> dict[str, Expression]:
    """Where in the range the bar closed: 0 at the low, 1 at the high."""
    return {"close_location": _of_range(bars, bars.close - bars.low, flat=0.5)}


def range_ratio(bars: Columns) -> dict[str, Expression]:
    """Range in units of the close."""
    return {"range_ratio": (bars.high - bars.low) / bars.close}


FEATURES = (
    Feature("body_ratio", body_ratio),
    Feature("upper_wick", upper_wick),
    Feature("lower_wick", lower_wick),
    Feature("close_location", close_location),
    Feature("range_ratio", range_ratio),
)
