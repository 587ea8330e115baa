"""Times of bars as clocks show them: UTC, the venue's zone, and the hours of the large stock markets.

All of `close_timestamp` [B] int64 ns; results are float64 [B]. Changes of the clocks are those of the IANA zones.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from zoneinfo import ZoneInfo

import torch
from torch import Tensor

from gpu_pipeline.core.schema import Bars
from gpu_pipeline.core.units import DAY_NS

MONDAY = 3  # 1970-01-01 was a Thursday
DAY_SECONDS = 86_400
SECOND_NS = 1_000_000_000
LAST_DAY = 47_482  # 2100-01-01; from then on the clocks stay as they are
# Zone, open and close in local seconds, Monday to Friday: Tokyo (until November 2024), London and New York.
MARKETS = {
    "asia_open": ("Asia/Tokyo", 9 * 3600, 15 * 3600),
    "europe_open": ("Europe/London", 8 * 3600, 16 * 3600 + 1800),
    "us_open": ("America/New_York", 9 * 3600 + 1800, 16 * 3600),
}


def _offset(seconds: int, zone: ZoneInfo) -> int:
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone(zone)
    return int((moment.utcoffset() or dt.timedelta()).total_seconds())


def _change(early: int, late: int, zone: ZoneInfo) -> int:
    """The first second in (early, late] that has the offset of `late`."""
    wanted = _offset(late, zone)
    while late - early > 1:
        middle = (early + late) // 2
        early, late = (early, middle) if _offset(middle, zone) == wanted else (middle, late)
    return late


@lru_cache(maxsize=64)
def offsets(name: str) -> tuple[Tensor, Tensor]:
    """[C] int64 ns UTC from which a zone's offset holds, and the offset in ns; the first since ever."""
    zone = ZoneInfo(name)
    daily = [_offset(day * DAY_SECONDS, zone) for day in range(LAST_DAY)]
    days = [day for day in range(1, LAST_DAY) if daily[day] != daily[day - 1]]
    starts = [_change((day - 1) * DAY_SECONDS, day * DAY_SECONDS, zone) * SECOND_NS for day in days]
    starts = [torch.iinfo(torch.int64).min, *starts]
    return torch.tensor(starts), torch.tensor([daily[0], *(daily[day] for day in days)]) * SECOND_NS


def local_ns(time_ns: Tensor, zone: str) -> Tensor:
    """What the clocks of a zone show at times [B], counted like ns UTC."""
    if zone == "UTC":
        return time_ns
    starts, shift = (part.to(time_ns.device) for part in offsets(zone))
    return time_ns + shift[torch.searchsorted(starts, time_ns.contiguous(), right=True) - 1]


def _day_number(time_ns: Tensor) -> Tensor:
    return time_ns.div(DAY_NS, rounding_mode="floor")


def _seconds_of_day(time_ns: Tensor) -> Tensor:
    inside = (time_ns % DAY_NS).to(torch.float64)
    return inside / torch.tensor(1e9, dtype=torch.float64, device=time_ns.device)


def _month(time_ns: Tensor) -> Tensor:
    """1 to 12 in the Gregorian calendar; years begin in March, so that the leap day ends them."""
    day = (_day_number(time_ns) + 719_468) % 146_097
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    of_year = day - (365 * year + year // 4 - year // 100)
    from_march = (5 * of_year + 2) // 153
    return torch.where(from_march < 10, from_march + 3, from_march - 9)


def _is_open(bars: Bars, zone: str, opens: int, closes: int) -> Tensor:
    shown = local_ns(bars.close_timestamp, zone)
    second = shown % DAY_NS
    workday = (_day_number(shown) + MONDAY) % 7 < 5
    return (workday & (second >= opens * SECOND_NS) & (second < closes * SECOND_NS)).to(torch.float64)


def _seconds_since_open(bars: Bars) -> Tensor:
    """Of the session that holds the close (its last instant included), 0 between sessions; else since midnight."""
    if not bars.symbol.sessions:
        return _seconds_of_day(local_ns(bars.close_timestamp, bars.symbol.timezone))
    time_ns = bars.close_timestamp
    since = torch.zeros_like(time_ns)
    for earlier in (1, 0):
        opened, _, inside = bars.symbol.hours.session_of(time_ns - earlier)
        since = torch.where(inside, time_ns - opened, since)
    return since.to(torch.float64) / torch.tensor(1e9, dtype=torch.float64, device=bars.device)


def _local(bars: Bars) -> Tensor:
    return local_ns(bars.close_timestamp, bars.symbol.timezone)


CALENDAR: Mapping[str, Callable[[Bars], Tensor]] = {
    "day_number": lambda bars: _day_number(bars.close_timestamp).to(torch.float64),
    "seconds_of_day": lambda bars: _seconds_of_day(bars.close_timestamp),
    "day_of_week": lambda bars: ((_day_number(bars.close_timestamp) + MONDAY) % 7).to(torch.float64),
    "month": lambda bars: _month(bars.close_timestamp).to(torch.float64),
    "seconds_of_day_local": lambda bars: _seconds_of_day(_local(bars)),
    "day_of_week_local": lambda bars: ((_day_number(_local(bars)) + MONDAY) % 7).to(torch.float64),
    "month_local": lambda bars: _month(_local(bars)).to(torch.float64),
    "seconds_since_open": _seconds_since_open,
    **{name: partial(_is_open, zone=zone, opens=start, closes=end) for name, (zone, start, end) in MARKETS.items()},
}
