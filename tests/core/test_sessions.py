"""Sessions in local time, against the wall clock of every minute."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
import torch

from gpu_pipeline.core.config import SymbolOptions
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Symbol
from gpu_pipeline.core.sessions import WEEKDAYS, Hours, parse_session, session_text
from gpu_pipeline.core.units import parse_instant

MINUTE_NS = 60_000_000_000
# Both changes of the clocks, in two zones: on these UTC days the clocks change.
CHANGES = [
    ("Europe/London", "2024-03-31"),
    ("Europe/London", "2024-10-27"),
    ("America/Chicago", "2024-03-10"),
    ("America/Chicago", "2024-11-03"),
]


def minutes_around(date: str) -> torch.Tensor:
    """Every minute of four days before and three after a date."""
    start = parse_instant(date) - 4 * 86_400 * 10**9
    return start + MINUTE_NS * torch.arange(7 * 1440)


def wall(time_ns: int, zone: str) -> dt.datetime:
    return dt.datetime.fromtimestamp(time_ns // 10**9, ZoneInfo(zone))


def by_the_clock(time_ns: int, zone: str, days: str, opened: str, closed: str) -> bool:
    """Whether the wall clock shows a time within the session; for edges that the clocks show once."""
    local = wall(time_ns, zone)
    today, before = WEEKDAYS[local.weekday()], WEEKDAYS[(local.weekday() - 1) % 7]
    clock = f"{local:%H:%M}"
    if opened < closed:
        return today in days and opened <= clock < closed
    return (today in days and clock >= opened) or (before in days and clock < closed)


@pytest.mark.parametrize(("zone", "date"), CHANGES)
@pytest.mark.parametrize(
    ("days", "opened", "closed"),
    [
        ("sun,mon,tue,wed,thu", "17:00", "16:00"),
        ("mon,tue,wed,thu,fri", "08:00", "16:30"),
        ("sat,sun,mon", "00:00", "03:00"),
        ("mon,tue,wed,thu,fri,sat,sun", "18:00", "17:00"),
        ("sat,sun", "22:30", "04:15"),
    ],
)
def test_every_minute_around_a_change_of_the_clocks(zone: str, date: str, days: str, opened: str, closed: str) -> None:
    times = minutes_around(date)
    hours = Hours((session_text(f"{days} {opened}-{closed}"),), (), zone)
    opens, closes, inside = hours.session_of(times)
    assert inside.tolist() == [by_the_clock(time, zone, days, opened, closed) for time in times.tolist()]
    assert 0 < int(inside.sum()) < len(times)
    for time, start, end in zip(times[inside][::97].tolist(), opens[inside][::97], closes[inside][::97], strict=True):
        assert int(start) <= time < int(end)
        assert (f"{wall(int(start), zone):%H:%M}", f"{wall(int(end), zone):%H:%M}") == (opened, closed)
    assert not bool(opens[~inside].any()) and not bool(closes[~inside].any())


@pytest.mark.parametrize(("zone", "date"), CHANGES)
def test_a_session_over_the_change_is_an_hour_shorter_or_longer(zone: str, date: str) -> None:
    opens, closes = Hours(("22:00-05:00",), (), zone).spans(*(int(t) for t in minutes_around(date)[[0, -1]]))
    lengths = ((closes - opens) // MINUTE_NS).tolist()
    changed = 360 if date.startswith("2024-03") else 480
    assert sorted(set(lengths)) == sorted({420, changed}) and lengths.count(changed) == 1


def test_times_that_the_clocks_skip_or_show_twice() -> None:
    chicago = Hours(("02:30-05:00",), (), "America/Chicago")
    skipped, _ = chicago.spans(parse_instant("2024-03-10T06:00"), parse_instant("2024-03-10T09:00"))
    assert skipped.tolist() == [parse_instant("2024-03-10T08:30")]
    twice, _ = Hours(("01:30-05:00",), (), "America/Chicago").spans(
        parse_instant("2024-11-03T06:00"), parse_instant("2024-11-03T09:00")
    )
    assert twice.tolist() == [parse_instant("2024-11-03T06:30")]


def test_holidays_last_from_local_midnight_to_midnight() -> None:
    times = minutes_around("2024-03-10")
    found = Hours((), ("2024-03-10",), "America/Chicago").on_holiday(times)
    assert found.tolist() == [wall(time, "America/Chicago").date() == dt.date(2024, 3, 10) for time in times.tolist()]
    assert int(found.sum()) == 23 * 60


def test_no_sessions_at_all() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    assert all(len(part) == 0 for part in Hours(("09:00-10:00",)).session_of(nothing))
    weekend = torch.tensor([parse_instant("2024-01-06T12:00")])
    assert not bool(Hours(("mon-fri 09:00-10:00",)).session_of(weekend)[2].any())
    assert not Hours().limited and Hours(holidays=("2024-01-01",)).limited


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Sun-Thu 17:00-16:00", "mon,tue,wed,thu,sun 17:00-16:00"),
        ("monday,wed 09:30-16:00", "mon,wed 09:30-16:00"),
        ("fri-mon 22:00-02:00:30", "mon,fri,sat,sun 22:00-02:00:30"),
        ("00:00-24:00", "00:00-24:00"),
        ("mon-sun 18:00-17:00", "18:00-17:00"),
        ({"days": ["mon", "tue"], "open": "09:30", "close": "16:00"}, "mon,tue 09:30-16:00"),
        ({"open": "18:00", "close": "17:00"}, "18:00-17:00"),
    ],
)
def test_the_forms_of_a_session(value: object, text: str) -> None:
    assert session_text(value) == text == session_text(text)
    assert SymbolOptions(sessions=[value]).sessions == SymbolOptions(sessions=value).sessions == (text,)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("9:30-16:00", "is no session; write days and local times, for example 'sun-thu 17:00-16:00'"),
        ("foo 09:30-16:00", "'foo' is no weekday; there are mon, tue, wed, thu, fri, sat, sun"),
        ("24:00-02:00", "opens at 24:00; write 00:00 of the next day"),
        ("09:61-12:00", "09:61 is no time of day"),
        ("09:00-24:01", "24:01 is no time of day"),
        ({"days": "mon"}, "a session has the keys days, open and close, got days"),
        ({"open": "09:00", "close": "10:00", "zone": "UTC"}, "keys days, open and close"),
    ],
)
def test_what_is_no_session(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        session_text(value)


@pytest.mark.parametrize(
    "sessions",
    [
        ["09:30-16:00", "15:00-17:00"],
        ["sun 22:00-10:00", "mon 09:00-12:00"],
        ["sun 22:00-21:00", "mon 20:00-21:00"],
        ["mon 09:00-17:00", "mon 12:00-13:00"],
    ],
)
def test_sessions_that_overlap_are_refused(sessions: list[str]) -> None:
    with pytest.raises(ValueError, match="overlap; a time lies in one session at most"):
        SymbolOptions(sessions=sessions)
    assert len(SymbolOptions(sessions=["sun 22:00-09:00", "mon 09:00-22:00", "tue 09:00-12:00"]).sessions) == 3


def test_sessions_that_a_change_of_the_clocks_pushes_together() -> None:
    hours = Hours(("00:30-02:30", "03:00-05:00"), (), "America/Chicago")
    with pytest.raises(InputError, match=r"two overlap at 2024-03-10 03:00:00-05:00 because the clocks change"):
        hours.spans(parse_instant("2024-03-10T05:00"), parse_instant("2024-03-10T12:00"))


def test_dates_and_the_symbol_that_carries_them() -> None:
    with pytest.raises(ValueError, match="'01/02/2024' is no date; write it as 2024-12-25"):
        SymbolOptions(holidays=["01/02/2024"])
    known = SymbolOptions(sessions="mon-fri 09:30-16:00", holidays=[dt.date(2024, 1, 15)], timezone="America/New_York")
    assert known.holidays == ("2024-01-15",)
    facts = known.model_dump(exclude={"price_tick", "quantity_lot"})
    symbol = Symbol("MES", **facts, price_tick=Decimal("0.25"), quantity_lot=Decimal("1"))
    assert Symbol.from_json(symbol.to_json()) == symbol
    assert symbol.hours == Hours(known.sessions, known.holidays, "America/New_York")
    plain = Symbol("MES", Decimal("0.25"), Decimal("1"))
    assert not {"sessions", "holidays"} & set(plain.to_json()) and Symbol.from_json(plain.to_json()) == plain
    assert parse_session("mon 18:00-17:00").close_s == 41 * 3600
