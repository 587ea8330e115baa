"""When a bar closed and how long it took. All of `close_timestamp`, in UTC unless said otherwise.

hour_sin, hour_cos       = sine and cosine of 2 pi * (seconds since midnight / 86,400)
weekday_sin, weekday_cos = sine and cosine of 2 pi * (day of the week / 7), Monday 0
month_sin, month_cos     = sine and cosine of 2 pi * (month / 12), January 0
local_hour, local_weekday, local_month
                         = the same by the clocks of the venue's zone (`timezone` of the symbol), summer time included
session_asia, session_europe, session_us
                         = 1 from Monday to Friday between 09:00 and 15:00 in Tokyo, 08:00 and 16:30 in London, 09:30
                           and 16:00 in New York, by the clocks there, the end left out; else 0. Holidays are not known.
minutes_since_open       = of the venue's session that holds the close, its last instant included; 0 between sessions;
                           for a symbol without `sessions` since local midnight
days_since_2010          = (days since 2010-01-01) / 3652.5, fractions of days included
volume_percentile_24h    = share of the bars that closed in (t - 24 h, t] with less volume than this one, equal ones
                           (itself too) counted half; of the last 4,096 of them where there are more. In the first 24
                           hours of those there are; 1/2 for the first bar.
log_duration             = ln(seconds from the first trade to the close + 0.001); the millisecond keeps 0 s finite
"""

from __future__ import annotations

import math

from gpu_pipeline.features._day import rank_of_day
from gpu_pipeline.features._feature import Feature
from gpu_pipeline.features.expression import Columns, Expression, cos, log, sin

DAY_2010 = 14_610.0
TEN_YEARS = 3652.5


def _circle(name: str, x: Expression, period: float) -> dict[str, Expression]:
    angle = x * (2.0 * math.pi / period)
    return {f"{name}_sin": sin(angle), f"{name}_cos": cos(angle)}


def hour(bars: Columns) -> dict[str, Expression]:
    """Time of day on a circle."""
    return _circle("hour", bars.seconds_of_day, 86_400.0)


def weekday(bars: Columns) -> dict[str, Expression]:
    """Day of the week on a circle."""
    return _circle("weekday", bars.day_of_week, 7.0)


def month(bars: Columns) -> dict[str, Expression]:
    """Month on a circle."""
    return _circle("month", bars.month - 1.0, 12.0)


def local_hour(bars: Columns) -> dict[str, Expression]:
    """Time of day in the venue's zone on a circle."""
    return _circle("local_hour", bars.seconds_of_day_local, 86_400.0)


def local_weekday(bars: Columns) -> dict[str, Expression]:
    """Day of the week in the venue's zone on a circle."""
    return _circle("local_weekday", bars.day_of_week_local, 7.0)


def local_month(bars: Columns) -> dict[str, Expression]:
    """Month in the venue's zone on a circle."""
    return _circle("local_month", bars.month_local - 1.0, 12.0)


def market_sessions(bars: Columns) -> dict[str, Expression]:
    """Whether the stock markets of Asia, Europe and the US are open, 0 or 1."""
    return {"session_asia": bars.asia_open, "session_europe": bars.europe_open, "session_us": bars.us_open}


def minutes_since_open(bars: Columns) -> dict[str, Expression]:
    """Minutes since the venue's session opened."""
    return {"minutes_since_open": bars.seconds_since_open / 60.0}


def days_since_2010(bars: Columns) -> dict[str, Expression]:
    """Time since 2010-01-01 in decades."""
    return {"days_since_2010": (bars.day_number - DAY_2010 + bars.seconds_of_day / 86_400.0) / TEN_YEARS}


def volume_percentile_24h(bars: Columns) -> dict[str, Expression]:
    """Trailing percentile of the volume over 24 hours, 0 to 1."""
    return {"volume_percentile_24h": rank_of_day(bars.volume, bars)}


def log_duration(bars: Columns) -> dict[str, Expression]:
    """Logarithm of the seconds that the bar took."""
    return {"log_duration": log(bars.duration_seconds + 0.001)}


FEATURES = (
    Feature("hour", hour),
    Feature("weekday", weekday),
    Feature("month", month),
    Feature("local_hour", local_hour),
    Feature("local_weekday", local_weekday),
    Feature("local_month", local_month),
    Feature("market_sessions", market_sessions),
    Feature("minutes_since_open", minutes_since_open),
    Feature("days_since_2010", days_since_2010),
    Feature("volume_percentile_24h", volume_percentile_24h),
    Feature("log_duration", log_duration),
)
