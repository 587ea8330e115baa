"""When a bar closed (UTC) and how long it took.

hour_sin, hour_cos       = sine and cosine of 2 pi * (seconds since midnight / 86,400)
weekday_sin, weekday_cos = sine and cosine of 2 pi * (day of the week / 7), Monday 0
log_duration             = ln(seconds from the first trade to the close + 0.001); the millisecond keeps 0 s finite
"""

from __future__ import annotations

import math

from gpu_pipeline.features._feature import Feature
from gpu_pipeline.features.expression import Columns, Expression, cos, log, sin


def _circle(name: str, x: Expression, period: float) -> dict[str, Expression]:
    angle = x * (2.0 * math.pi / period)
    return {f"{name}_sin": sin(angle), f"{name}_cos": cos(angle)}


def hour(bars: Columns) -> dict[str, Expression]:
    """Time of day on a circle."""
    return _circle("hour", bars.seconds_of_day, 86_400.0)


def weekday(bars: Columns) -> dict[str, Expression]:
    """Day of the week on a circle."""
    return _circle("weekday", bars.day_of_week, 7.0)


def log_duration(bars: Columns) -> dict[str, Expression]:
    """Logarithm of the seconds that the bar took."""
    return {"log_duration": log(bars.duration_seconds + 0.001)}


FEATURES = (
    Feature("hour", hour),
    Feature("weekday", weekday),
    Feature("log_duration", log_duration),
)
