"""Trading sessions in local time: which instants lie inside, and where each session opens and closes (DESIGN 4.1).

A session is text: the weekdays on which it opens, and its local times, `sun-thu 17:00-16:00`. One whose close is not
after its open ends on the next day. Days are those of the IANA zone, so that a session moves in UTC when the clocks do;
a local time that the clocks skip is that time by the clock before, one that they show twice is the first.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import torch

from gpu_pipeline.core.errors import InputError

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY, _WEEK = 86_400, 7 * 86_400
_SECOND_NS = 1_000_000_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TEXT = re.compile(r"^(?:([a-z]+(?:[,-][a-z]+)*)\s+)?(\d\d:\d\d(?::\d\d)?)\s*-\s*(\d\d:\d\d(?::\d\d)?)$")
_FORM = "write days and local times, for example 'sun-thu 17:00-16:00' or '09:30-16:00'"


@dataclass(frozen=True)
class Session:
    """Weekdays (0 = Monday) of the open, and seconds after local midnight; a close past 24 hours is on the next day."""

    days: tuple[int, ...]
    open_s: int
    close_s: int


def parse_session(text: str) -> Session:
    """A session from `sun-thu 17:00-16:00`; without days it opens on every day.

    Raises:
        ValueError: not a session; the message names the form.
    """
    match = _TEXT.match(str(text).strip().lower())
    if match is None:
        raise ValueError(f"'{text}' is no session; {_FORM}")
    opened, closed = _seconds(match[2], text), _seconds(match[3], text)
    if opened == _DAY:
        raise ValueError(f"'{text}' opens at 24:00; write 00:00 of the next day")
    return Session(_days(match[1], text), opened, closed if closed > opened else closed + _DAY)


def _seconds(clock: str, text: str) -> int:
    hours, minutes, seconds = (*map(int, clock.split(":")), 0)[:3]
    total = hours * 3600 + minutes * 60 + seconds
    if minutes > 59 or seconds > 59 or total > _DAY:
        raise ValueError(f"'{text}': {clock} is no time of day; {_FORM}")
    return total


def _days(names: str | None, text: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in (names or "mon-sun").split(","):
        first, _, last = part.partition("-")
        for name in (first, last or first):
            if name[:3] not in WEEKDAYS:
                raise ValueError(f"'{text}': '{name}' is no weekday; there are {', '.join(WEEKDAYS)}")
        start, stop = WEEKDAYS.index(first[:3]), WEEKDAYS.index((last or first)[:3])
        found |= {(start + day) % 7 for day in range((stop - start) % 7 + 1)}
    return tuple(sorted(found))


def session_text(value: object) -> str:
    """The canonical text of a session, from text or from `{days, open, close}`.

    Raises:
        ValueError: neither; the message names the form.
    """
    if isinstance(value, Mapping):
        wrong = sorted(set(value) - {"days", "open", "close"})
        if wrong or not {"open", "close"} <= set(value):
            raise ValueError(f"a session has the keys days, open and close, got {', '.join(map(str, value))}")
        days = value.get("days") or "mon-sun"
        listed = days if isinstance(days, str) else ",".join(map(str, days))
        value = f"{listed.replace(' ', '')} {value['open']}-{value['close']}"
    session = parse_session(str(value))
    every = len(session.days) == len(WEEKDAYS)
    days = "" if every else ",".join(WEEKDAYS[day] for day in session.days) + " "
    return f"{days}{_clock(session.open_s)}-{_clock(session.close_s)}"


def _clock(seconds: int) -> str:
    within = seconds if seconds <= _DAY else seconds - _DAY
    minutes, rest = divmod(within, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}" + (f":{rest:02}" if rest else "")


def check_apart(sessions: Sequence[str]) -> None:
    """No instant of a week lies in two sessions.

    Raises:
        ValueError: two overlap; names both.
    """
    spans = sorted(
        (day * _DAY + session.open_s, day * _DAY + session.close_s, text)
        for text in sessions
        for session in (parse_session(text),)
        for day in session.days
    )
    around = [*spans, *((opened + _WEEK, closed + _WEEK, text) for opened, closed, text in spans[:1])]
    for (_, closed, text), (opened, _, other) in pairwise(around):
        if opened < closed:
            raise ValueError(f"the sessions '{text}' and '{other}' overlap; a time lies in one session at most")


@dataclass(frozen=True)
class Hours:
    """When a venue trades.

    Attributes:
        sessions: as text; none means always.
        holidays: local dates, `2024-12-25`, from midnight to midnight.
        timezone: IANA zone of both.
    """

    sessions: tuple[str, ...] = ()
    holidays: tuple[str, ...] = ()
    timezone: str = "UTC"

    @property
    def limited(self) -> bool:
        """Whether there are sessions or holidays."""
        return bool(self.sessions or self.holidays)

    def spans(self, first_ns: int, last_ns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """[S] int64 opens and [S] closes (ns UTC) in order, of every session that touches [first, last].

        Raises:
            InputError: a change of the clocks makes two sessions overlap.
        """
        first, last = (_local_date(time_ns, self.timezone) for time_ns in (first_ns, last_ns))
        found = [span for date in _dates(first, last) for span in _opening(date, self.sessions, self.timezone)]
        kept = sorted(span for span in found if span[1] > first_ns and span[0] <= last_ns)
        for before, after in pairwise(kept):
            if after[0] < before[1]:
                shown = dt.datetime.fromtimestamp(after[0] // _SECOND_NS, ZoneInfo(self.timezone))
                raise InputError(f"sessions: two overlap at {shown} because the clocks change; part them")
        edges = torch.tensor(kept, dtype=torch.int64).reshape(-1, 2)
        return edges[:, 0].contiguous(), edges[:, 1].contiguous()

    def session_of(self, time_ns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """[N] open and [N] close of each time's session, and [N] bool whether it lies in one (else both are 0)."""
        nothing = torch.zeros_like(time_ns)
        if not len(time_ns):
            return nothing, nothing, nothing.bool()
        opens, closes = (edge.to(time_ns.device) for edge in self.spans(int(time_ns.min()), int(time_ns.max())))
        if not len(opens):
            return nothing, nothing, nothing.bool()
        at = torch.searchsorted(opens, time_ns.contiguous(), right=True) - 1
        inside = (at >= 0) & (time_ns < closes[at.clamp(min=0)])
        at = at.clamp(min=0)
        return torch.where(inside, opens[at], 0), torch.where(inside, closes[at], 0), inside

    def on_holiday(self, time_ns: torch.Tensor) -> torch.Tensor:
        """[N] bool, whether the local date of a time is a holiday."""
        found = torch.zeros_like(time_ns, dtype=torch.bool)
        for holiday in self.holidays:
            date = dt.date.fromisoformat(holiday)
            start, stop = (_instant(date, seconds, self.timezone) for seconds in (0, _DAY))
            found |= (time_ns >= start) & (time_ns < stop)
        return found


def _local_date(time_ns: int, zone: str) -> dt.date:
    moment = _EPOCH + dt.timedelta(seconds=time_ns // _SECOND_NS)
    return moment.astimezone(ZoneInfo(zone)).date()


def _dates(first: dt.date, last: dt.date) -> Iterator[dt.date]:
    """From two days before, since a session may open so long before the date on which it ends."""
    for day in range(first.toordinal() - 2, last.toordinal() + 1):
        yield dt.date.fromordinal(day)


@lru_cache(maxsize=8192)
def _opening(date: dt.date, sessions: tuple[str, ...], zone: str) -> tuple[tuple[int, int], ...]:
    """Open and close (ns UTC) of the sessions that open on a local date."""
    today = [session for session in map(parse_session, sessions) if date.weekday() in session.days]
    return tuple((_instant(date, each.open_s, zone), _instant(date, each.close_s, zone)) for each in today)


def _instant(date: dt.date, seconds: int, zone: str) -> int:
    wall = dt.datetime.combine(date, dt.time()) + dt.timedelta(seconds=seconds)
    since = wall.replace(tzinfo=ZoneInfo(zone)) - _EPOCH
    return (since.days * _DAY + since.seconds) * _SECOND_NS
