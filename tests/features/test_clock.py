"""Clocks, sessions and the 24-hour percentile against pandas' time zones and a search over all earlier bars."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features import _day
from gpu_pipeline.features._calendar import local_ns
from gpu_pipeline.features.expression import CLOCK, LOCAL_CLOCK
from tests.features.factory import SYMBOL, plain_bars
from tests.features.flow_markets import assert_near, only, values_of

DAY = 86_400_000_000_000
ZONES = ("America/New_York", "Europe/London", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca", "UTC")


def bars_closing(times: np.ndarray, volume: np.ndarray | None = None, **symbol: object) -> Bars:
    bars = plain_bars(np.full(len(times), 100.0))
    closed = torch.tensor(np.asarray(times, dtype=np.int64))
    columns = {**bars.columns, "close_timestamp": closed, "open_timestamp": closed - 1}
    if volume is not None:
        columns["volume"] = torch.tensor(volume, dtype=torch.float64)
    return Bars(replace(SYMBOL, **symbol), "dollar_clock", columns)


def instants(seed: int, rows: int = 4000) -> np.ndarray:
    """Times of many years, half of them within hours of midnight between months."""
    rng = np.random.default_rng(seed)
    anywhere = rng.integers(0, 2_100_000_000, rows) * 1_000_000_000 + rng.integers(0, 1_000_000_000, rows)
    months = pd.date_range("1970-02-01", "2036-01-01", freq="MS", unit="ns").asi8
    around = rng.choice(months, rows) + rng.integers(-6, 7, rows) * 1_800_000_000_000
    return np.sort(np.concatenate([anywhere, around]))


def circle(x: np.ndarray | pd.Index, period: float) -> list[np.ndarray]:
    angle = 2 * np.pi * np.asarray(x, dtype=np.float64) / period
    return [np.sin(angle), np.cos(angle)]


def second_of(index: pd.DatetimeIndex) -> np.ndarray:
    naive = index.tz_localize(None)
    return (naive.asi8 - naive.floor("D").asi8) / 1e9


@pytest.mark.parametrize("zone", ZONES)
def test_circles_in_utc_and_in_the_zone_of_the_venue(zone: str) -> None:
    times = instants(1)
    bars = bars_closing(times, timezone=zone)
    utc = pd.DatetimeIndex(times, tz="UTC")
    local = utc.tz_convert(zone)
    wanted = {
        "hour": circle(second_of(utc), 86_400),
        "weekday": circle(utc.weekday, 7),
        "month": circle(utc.month - 1, 12),
        "local_hour": circle(second_of(local), 86_400),
        "local_weekday": circle(local.weekday, 7),
        "local_month": circle(local.month - 1, 12),
    }
    for name, (sine, cosine) in wanted.items():
        values = values_of(bars, name)
        assert_near(values[f"{name}_sin"], sine, share=1e-12)
        assert_near(values[f"{name}_cos"], cosine, share=1e-12)


def test_an_hour_that_the_clocks_skip_and_one_that_they_show_twice() -> None:
    changes = [pd.Timestamp(text, tz="UTC").value for text in ("2024-03-10 07:00", "2024-11-03 06:00")]
    times = np.array([changes[0] - 1, changes[0], changes[1] - 1, changes[1]])
    shown = local_ns(torch.tensor(times), "America/New_York").numpy()
    hours = (shown // 3_600_000_000_000 % 24).tolist()
    assert hours == [1, 3, 1, 1]


def test_days_since_2010_by_hand() -> None:
    times = [pd.Timestamp(text, tz="UTC").value for text in ("2010-01-01", "2020-01-01 12:00", "2009-12-31")]
    assert only(bars_closing(np.sort(times)), "days_since_2010") == pytest.approx([-1 / 3652.5, 0, 1])


def test_hours_of_the_stock_markets() -> None:
    times = np.sort(
        np.concatenate([instants(2), pd.date_range("2024-03-01", "2024-04-15", freq="15min", unit="ns").asi8])
    )
    values = values_of(bars_closing(times), "market_sessions")
    utc = pd.DatetimeIndex(times, tz="UTC")
    hours = {
        "session_asia": ("Asia/Tokyo", "09:00", "15:00"),
        "session_europe": ("Europe/London", "08:00", "16:30"),
        "session_us": ("America/New_York", "09:30", "16:00"),
    }
    for name, (zone, opens, closes) in hours.items():
        there = utc.tz_convert(zone)
        inside = np.zeros(len(there))
        inside[there.indexer_between_time(opens, closes, include_end=False)] = 1
        wanted = inside * (there.weekday < 5)
        assert np.array_equal(values[name], wanted) and 0 < wanted.mean() < 0.5


def test_minutes_since_the_session_opened() -> None:
    """The session of US futures, 17:00 to 16:00 in Chicago, over a change of the clocks."""
    start = pd.Timestamp("2024-03-07 00:00", tz="America/Chicago")
    index = pd.date_range(start, periods=7 * 24 * 4, freq="15min", unit="ns")
    bars = bars_closing(index.asi8, timezone="America/Chicago", sessions=("sun,mon,tue,wed,thu 17:00-16:00",))
    wanted = []
    for moment in index:
        day = moment.normalize() if moment.hour >= 17 else (moment - pd.Timedelta(hours=17, minutes=1)).normalize()
        opened = day.tz_localize(None) + pd.Timedelta(hours=17)
        closes = (opened + pd.Timedelta(hours=23)).tz_localize("America/Chicago")
        since = moment - opened.tz_localize("America/Chicago")
        trades = opened.weekday() in (6, 0, 1, 2, 3) and moment <= closes
        wanted.append(since.total_seconds() / 60 if trades else 0.0)
    assert only(bars, "minutes_since_open").tolist() == wanted
    assert max(wanted) == 23 * 60


def test_without_sessions_minutes_count_from_local_midnight() -> None:
    times = instants(4, 100)
    local = pd.DatetimeIndex(times, tz="UTC").tz_convert("Asia/Kolkata")
    assert_near(only(bars_closing(times, timezone="Asia/Kolkata"), "minutes_since_open"), second_of(local) / 60)


def percentiles(times: np.ndarray, volume: np.ndarray, most: int) -> list[float]:
    out = []
    for t in range(len(times)):
        past = volume[: t + 1][(times[: t + 1] > times[t] - DAY)][-most:]
        out.append(((past < volume[t]).sum() + 0.5 * (past == volume[t]).sum()) / len(past))
    return out


def test_volume_percentile_of_24_hours() -> None:
    rng = np.random.default_rng(5)
    gaps = np.where(rng.random(1500) < 0.3, 0, rng.integers(0, 8, 1500) * 450_000_000_000)
    gaps[700] = 3 * DAY
    times = 1_582_329_600_000_000_000 + np.cumsum(gaps)
    volume = rng.integers(0, 30, 1500) / 2
    assert_near(only(bars_closing(times, volume), "volume_percentile_24h"), percentiles(times, volume, 4096))


def test_the_percentile_remembers_so_many_bars_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_day, "MOST_BARS", 50)
    rng = np.random.default_rng(6)
    times = 1_582_329_600_000_000_000 + np.cumsum(rng.integers(0, 3_600_000_000_000, 400))
    volume = rng.integers(0, 300, 400) / 2
    assert max(np.searchsorted(times, times - DAY, side="right")) < 400 - 10
    assert_near(only(bars_closing(times, volume), "volume_percentile_24h"), percentiles(times, volume, 50))
    crowded = times[0] + np.arange(400) * 1_000_000_000
    assert_near(only(bars_closing(crowded, volume), "volume_percentile_24h"), percentiles(crowded, volume, 50))


def test_equal_volumes_are_in_the_middle() -> None:
    assert (only(bars_closing(np.arange(200) * DAY // 50), "volume_percentile_24h") == 0.5).all()


def test_every_column_of_the_clock_exists() -> None:
    from gpu_pipeline.features._columns import DERIVED
    from gpu_pipeline.features.expression import DERIVED as NAMES

    assert set(CLOCK + LOCAL_CLOCK) <= set(NAMES) == set(DERIVED)
