"""Durations, instants and thresholds as people write them."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from zoneinfo import ZoneInfo

_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
    "hour": 3_600_000_000_000,
    "day": 86_400_000_000_000,
}
_ALIASES = {"m": "min", "h": "hour", "d": "day", "sec": "s", "hours": "hour", "days": "day"}
_DURATION = re.compile(r"^\s*(\d+)\s*([a-z]+)\s*$")
DAY_NS = _UNIT_NS["day"]


def parse_duration(text: str | int) -> int:
    """Nanoseconds of `10min`, `4hour`, `1day`, `500ms` (`1m 1h 1d` are accepted); a plain 0 is 0.

    Raises:
        ValueError: not a duration; the message names the form.
    """
    if text == 0:
        return 0
    match = _DURATION.match(str(text))
    unit = _ALIASES.get(match[2], match[2]) if match else None
    if match is None or unit not in _UNIT_NS:
        raise ValueError(
            f"'{text}' is not a duration; write a whole number and ns, us, ms, s, min, hour or day, for example 10min"
        )
    return int(match[1]) * _UNIT_NS[unit]


def format_step(step_ns: int) -> str:
    """The canonical name of a step: 60e9 -> `1min`, 14400e9 -> `4hour`."""
    for unit in ("day", "hour", "min", "s", "ms", "us"):
        if step_ns % _UNIT_NS[unit] == 0:
            return f"{step_ns // _UNIT_NS[unit]}{unit}"
    return f"{step_ns}ns"


def parse_instant(text: str) -> int:
    """Nanoseconds UTC of an ISO date or time; without a zone it is UTC. Exact to the microsecond.

    Raises:
        ValueError: not an ISO 8601 date or time.
    """
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    since = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def in_zone(moment: object, zone: str) -> str:
    """An ISO date or time with the offset of an IANA zone behind it, where it has none.

    Raises:
        ValueError: not an ISO 8601 date or time.
        KeyError: no such zone.
    """
    local = dt.datetime.fromisoformat(str(moment))
    return (local if local.tzinfo else local.replace(tzinfo=ZoneInfo(zone))).isoformat()


def format_threshold(value: Decimal | int | float) -> str:
    """Thresholds as file names write them: 50000 -> `50k`, 2000000 -> `2M`, 1500 -> `1500`."""
    number = Decimal(str(value))
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size and number % size == 0:
            return f"{int(number) // size}{letter}"
    return format(number.normalize(), "f")


def month_of(time_ns: int) -> tuple[int, int]:
    """UTC year and month of an instant."""
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=time_ns // DAY_NS)
    return moment.year, moment.month
