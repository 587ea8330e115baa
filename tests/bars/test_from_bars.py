"""Time bars of bars made by others: against pandas, against bars of the trades themselves, in any pieces."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gpu_pipeline as gp
from gpu_pipeline.bars import _fold, _from_bars
from gpu_pipeline.bars._make import make_bars, make_resolutions
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars, Symbol
from gpu_pipeline.core.units import parse_duration
from gpu_pipeline.ingest._bar_rows import make_table
from tests.bars.market import BTC, random_trades, real_day, trades_of

MINUTE = 60 * 10**9
DAY = 1440 * MINUTE
STEPS = ("5m", "10m", "15min", "20min", "25m", "30min", "45m", "1h", "4h", "1d")
GLOBEX = {"sessions": ["sun-thu 17:00-16:00"], "timezone": "America/Chicago"}
HOW = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
FILES = {
    "6EH4_1m_202401.parquet": {"columns": {"timestamp": "ts"}},
    "adabtc_binance_1m_20211127_28.parquet": {"columns": {"timestamp": "open_time"}},
}


def read(path: Path, **options) -> Bars:
    return gp.read_bars(path, symbol="TEST", device="cpu", **options)


def minutes_of(rows, symbol: Symbol = BTC) -> Bars:
    """Minute bars of (minute, price) pairs; the volume is the price's last digit."""
    at, price = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    ticks = torch.from_numpy(price)
    found = {name: symbol.price.to_float(ticks) for name in ("open", "high", "low", "close")}
    found |= {"open_ns": torch.from_numpy(at * MINUTE), "volume": symbol.quantity.to_float(ticks % 10)}
    return make_table(found, symbol, MINUTE, 0)


def frame_of(bars: Bars) -> pd.DataFrame:
    return bars.to_pandas().set_index("open_timestamp")


def buckets(times: pd.DatetimeIndex, step: pd.Timedelta) -> pd.DatetimeIndex:
    midnight = times.floor("D")
    return midnight + (times - midnight) // step * step


def same(bars: Bars, expected: pd.DataFrame) -> None:
    """Bars are the first of the expected rows, at least all but one of them."""
    found = frame_of(bars)
    assert len(expected) - 1 <= len(found) <= len(expected) and len(found)
    expected = expected.iloc[: len(found)].astype(float)
    pd.testing.assert_frame_equal(found[list(HOW)], expected, check_exact=True, check_freq=False, check_names=False)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("step", STEPS)
def test_bars_of_real_minutes_are_those_of_pandas(name: str, step: str, market_data: Path) -> None:
    minutes = read(market_data / "bars_1m" / name, **FILES[name])
    frame, length = frame_of(minutes)[list(HOW)], pd.Timedelta(parse_duration(step))
    bars = make_bars(minutes, "time", step=step)
    by_hand = frame.groupby(buckets(frame.index, length)).agg(HOW)
    if pd.Timedelta("1D") % length == pd.Timedelta(0):
        theirs = frame.resample(length).agg(HOW).dropna()
        pd.testing.assert_frame_equal(by_hand, theirs, check_exact=True, check_freq=False, check_names=False)
    if name.startswith("ada"):
        # Lots of 0.1: pandas adds floats, the bars add lots.
        by_hand["volume"] = (frame["volume"] * 10).round().groupby(buckets(frame.index, length)).sum() / 10
    same(bars, by_hand)
    ends = np.minimum(by_hand.index + length, by_hand.index.floor("D") + pd.Timedelta("1D"))
    assert (frame_of(bars)["close_timestamp"].array == ends[: len(bars)].array).all()


def test_a_quote_volume_is_added_and_the_mean_price_follows(market_data: Path) -> None:
    minutes = read(
        market_data / "bars_1m" / "adabtc_binance_1m_20211127_28.parquet", columns={"timestamp": "open_time"}
    )
    bars, frame = frame_of(make_bars(minutes, "time", step="1hour")), frame_of(minutes)
    quote = frame["dollar_volume"].groupby(frame.index.floor("h")).sum()
    np.testing.assert_allclose(bars["dollar_volume"], quote, rtol=1e-12)
    assert (bars["vwap"] == bars["dollar_volume"] / bars["volume"]).all()
    assert (bars["num_ticks"] == -1).all() and bars["buy_volume"].isna().all()


@pytest.mark.parametrize("step", ["25min", "1h", "4h", "1d"])
def test_bars_counted_from_the_session_are_those_of_pandas(step: str, market_data: Path) -> None:
    minutes = read(market_data / "bars_1m" / "6EH4_1m_202401.parquet", label="close", **GLOBEX)
    frame, length = frame_of(minutes)[list(HOW)], pd.Timedelta(parse_duration(step))
    local = frame.index.tz_convert("America/Chicago")
    # January has no change of the clocks: a session opens 17 hours after local midnight, 7 hours before the next.
    opened = (local + pd.Timedelta("7h")).floor("D") - pd.Timedelta("7h")
    key = (opened + (local - opened) // length * length).tz_convert("UTC")
    bars = make_bars(minutes, "time", step=step, anchor="session")
    same(bars, frame.groupby(key).agg(HOW))
    ends = np.minimum(key + length, opened.tz_convert("UTC") + pd.Timedelta("23h"))
    expected = pd.Series(ends, index=key).groupby(level=0).first()
    assert (frame_of(bars)["close_timestamp"].array == expected.iloc[: len(bars)].array).all()
    if step == "1d":
        assert len(bars) == 22 and set(pd.DatetimeIndex(frame_of(bars)["close_timestamp"]).hour) == {22}


def test_a_future_with_a_roll(market_data: Path, tmp_path: Path) -> None:
    """Minutes of the busiest contract of each day, with holes of months between the days."""
    frame = pd.read_parquet(market_data / "gold_futures_20131007" / "es_minute_trades.parquet")
    busiest = frame.groupby(["date", "contract"])["volume"].sum().unstack().idxmax(axis=1)
    front = frame[frame["contract"] == frame["date"].map(busiest)].copy()
    assert front["contract"].nunique() > 1
    front["ts"] = pd.to_datetime(front["date"], utc=True) + pd.to_timedelta(front["ms"], unit="ms")
    front[["ts", *HOW]].to_parquet(tmp_path / "es.parquet")
    minutes = read(tmp_path / "es.parquet")
    assert minutes.report["duplicates"] == int(front["ts"].duplicated().sum())
    frame = front.drop_duplicates("ts", keep="last").set_index("ts")
    frame.index = frame.index.as_unit("ns")
    for step, length in (("15min", "15min"), ("4h", "4h"), ("1d", "D")):
        same(make_bars(minutes, "time", step=step), frame.groupby(frame.index.floor(length)).agg(HOW))


PRICES_AND_PLACES = ("open_timestamp", "close_timestamp", "open", "high", "low", "close", "volume")


def without_what_trades_tell(bars: Bars) -> Bars:
    """Minute bars as another party would hand them over."""
    found = {name: bars.columns[name] for name in ("open", "high", "low", "close", "volume")}
    return make_table({**found, "open_ns": bars.open_timestamp}, bars.symbol, MINUTE, 0)


@pytest.mark.parametrize("step", ["5min", "25min", "4hour", "1day"])
def test_minutes_of_a_real_day_give_the_bars_of_its_trades(step: str, market_data: Path) -> None:
    trades = real_day(market_data)
    by_trades, minutes = make_bars(trades, "time", step=step), make_bars(trades, "time", step="1min")
    found = make_bars(without_what_trades_tell(minutes), "time", step=step)
    count = len(by_trades)
    assert count <= len(found) + (step == "1day") and (count or step == "1day")
    for name in PRICES_AND_PLACES:
        assert torch.equal(found.columns[name][:count], by_trades.columns[name])


def test_gold_minutes_of_another_party_give_the_bars_of_the_ticks(market_data: Path, tmp_path: Path) -> None:
    folder = market_data / "gold_futures_20131007"
    ticks, minutes = (pd.read_parquet(folder / f"gc_{kind}_trades.parquet") for kind in ("tick", "minute"))
    contract = ticks["contract"].mode()[0]
    days = set(ticks["date"])
    for frame in (ticks, minutes):
        frame["ts"] = pd.to_datetime(frame["date"], utc=True) + pd.to_timedelta(frame["ms"], unit="ms")
    ticks = ticks[ticks["contract"] == contract].sort_values("ts", kind="stable")
    minutes = minutes[(minutes["contract"] == contract) & minutes["date"].isin(days)].sort_values("ts")
    minutes[["ts", *HOW]].to_parquet(tmp_path / "gc.parquet")
    symbol = Symbol("TEST", Decimal("0.1"), Decimal(1))
    price = np.rint(ticks["price"].to_numpy() * 10).astype(np.int64)
    times = ticks["ts"].astype("datetime64[ns, UTC]").astype(np.int64).to_numpy()
    trades = trades_of(symbol, times, price, ticks["size"].to_numpy(), np.zeros(len(ticks)), has_side=False)
    for step in ("15min", "1hour"):
        by_ticks = make_bars(trades, "time", step=step)
        found = make_bars(read(tmp_path / "gc.parquet"), "time", step=step)
        both = min(len(found), len(by_ticks))
        assert both > 100 / (1 + 3 * (step == "1hour"))
        for name in ("open_timestamp", "open", "high", "low", "close"):
            assert torch.equal(found.columns[name][:both], by_ticks.columns[name][:both]), name


def test_the_last_bar_of_a_day_and_of_a_session_is_cut_short() -> None:
    day = DAY // MINUTE * 19_000
    rows = [(day + at, 1000 + at) for at in (1420, 1424, 1425, 1439, 1440, 1464, 1465)]
    bars = make_bars(minutes_of(rows), "time", step="25min")
    starts = [day + 1400, day + 1425, day + 1440]
    assert (bars.open_timestamp // MINUTE).tolist() == starts
    assert (bars.close_timestamp // MINUTE).tolist() == [day + 1425, day + 1440, day + 1465]
    assert bars.close.tolist() == [24.24, 24.39, 24.64]
    assert (bars.partial.open_timestamp // MINUTE).tolist() == [day + 1465] and bars.partial.is_partial.tolist() == [
        True
    ]
    london = replace(BTC, sessions=("08:00-16:30",), timezone="Europe/London")
    short = make_bars(minutes_of([(day + 480, 1), (day + 989, 2)], london), "time", step="45min", anchor="session")
    assert (short.open_timestamp // MINUTE - day).tolist() == [480, 975]
    assert (short.close_timestamp // MINUTE - day).tolist() == [525, 990]
    assert short.partial is None


@pytest.mark.parametrize("date", ["2024-03-08", "2024-11-01"])
def test_session_bars_over_a_change_of_the_clocks(date: str) -> None:
    chicago = replace(BTC, sessions=("sun-thu 17:00-16:00",), timezone="America/Chicago")
    first = int(pd.Timestamp(date).value) // MINUTE
    inside = [at for at in range(first, first + 7 * 1440) if _globex(at)]
    bars = make_bars(minutes_of([(at, at % 97 + 1) for at in inside], chicago), "time", step="4hour", anchor="session")
    local = pd.DatetimeIndex(bars.open_timestamp.numpy(), tz="UTC").tz_convert("America/Chicago")
    assert set(local.strftime("%H:%M")) == {"17:00", "21:00", "01:00", "05:00", "09:00", "13:00"}
    ends = pd.DatetimeIndex(bars.close_timestamp.numpy(), tz="UTC").tz_convert("America/Chicago")
    assert set(ends.strftime("%H:%M")) == {"21:00", "01:00", "05:00", "09:00", "13:00", "16:00"}


def _globex(minute: int) -> bool:
    local = pd.Timestamp(minute * MINUTE, tz="UTC").tz_convert("America/Chicago")
    opened = (local + pd.Timedelta("7h")).dayofweek
    return local.hour != 16 and opened < 5


def chains(**options):
    return _fold.plan(_fold.section_of("time", options, "test"))


SIX_HOURS = {
    "step": "7min",
    "time": ["21min", "1hour"],
    "resolutions": {"medium": 3, "long": {"of": "medium", "bars": 2}},
}


@settings(max_examples=20, deadline=None)
@given(
    gaps=st.lists(st.integers(1, 40), min_size=2, max_size=80),
    cuts=st.lists(st.integers(0, 80), max_size=6),
    empty=st.booleans(),
    session=st.booleans(),
)
def test_any_pieces_give_the_same_bars(gaps: list[int], cuts: list[int], empty: bool, session: bool) -> None:
    symbol = replace(BTC, sessions=("00:00-24:00",), timezone="Europe/London") if session else BTC
    at = 28_500_000 + np.cumsum(gaps)
    bars = minutes_of(list(zip(at, at % 1009 + 1, strict=True)), symbol)
    plan = chains(**SIX_HOURS, empty=empty, anchor="session" if session else "day")
    whole, state = _from_bars.step(bars, plan, {})
    pieces, after = [], {}
    edges = [0, *sorted(min(cut, len(bars)) for cut in cuts), len(bars)]
    for start, stop in pairwise(edges):
        made, after = _from_bars.step(bars.select(slice(start, stop)), plan, after)
        pieces.append(made)
    rest, rest_after = _from_bars.open_rest(plan, state), _from_bars.open_rest(plan, after)
    for chain in plan:
        name = chain.resolution
        _equal(Bars.concat([made[name] for made in pieces]), whole[name])
        _equal(rest_after[name], rest[name])
    rows = sum(
        int((table["short"].last_trade_row - table["short"].first_trade_row + 1).sum()) for table in (whole, rest)
    )
    assert rows == len(bars)


def _equal(one: Bars, other: Bars) -> None:
    for name, column in other.columns.items():
        assert torch.equal(one.columns[name].nan_to_num(-7), column.nan_to_num(-7)), name


@settings(max_examples=20, deadline=None)
@given(gaps=st.lists(st.integers(1, 90), min_size=1, max_size=40), step=st.sampled_from([1, 5, 25, 60, 1440]))
def test_empty_bars_repeat_the_close(gaps: list[int], step: int) -> None:
    at = (28_400_000 + np.cumsum(gaps)).tolist()
    bars = make_bars(minutes_of([(minute, minute % 1009 + 1) for minute in at]), "time", step=f"{step}min", empty=True)
    closes = {minute - minute % 1440 % step: (minute % 1009 + 1) / 100 for minute in at}
    first, last = min(closes), max(closes)
    complete = at[-1] + 1 == min(last + step, (last // 1440 + 1) * 1440)
    starts = [start for start in range(first, last + complete) if start - start % 1440 % step == start]
    expected, close = [], None
    for start in starts:
        close = closes.get(start, close)
        expected.append((start * MINUTE, close, start in closes))
    found = zip(
        bars.open_timestamp.tolist(), bars.close.tolist(), bars.last_trade_row >= bars.first_trade_row, strict=True
    )
    assert list(found) == expected
    assert bars.volume[bars.last_trade_row < bars.first_trade_row].count_nonzero() == 0


def test_empty_bars_keep_to_the_hours_of_the_venue() -> None:
    symbol = replace(BTC, sessions=("mon-fri 09:00-12:00",), holidays=("2024-01-03",))
    friday = int(pd.Timestamp("2024-01-02T11:00").value) // MINUTE
    rows = [(friday, 5), (friday + 2 * 1440 + 30, 6), (friday + 3 * 1440 + 59, 7)]
    for anchor in ("day", "session"):
        bars = make_bars(minutes_of(rows, symbol), "time", step="1hour", empty=True, anchor=anchor)
        opened = pd.DatetimeIndex(bars.open_timestamp.numpy()).strftime("%d %H").tolist()
        assert opened == ["02 11", "04 09", "04 10", "04 11", "05 09", "05 10", "05 11"], anchor
        assert bars.close.tolist() == [0.05, 0.05, 0.05, 0.06, 0.06, 0.06, 0.07]
        assert bars.volume.tolist() == [0.005, 0, 0, 0.006, 0, 0, 0.007]


def test_groups_of_time_bars_and_the_open_rest() -> None:
    bars = minutes_of([(28_440_000 + at, at + 1) for at in range(17)])
    made = make_resolutions(bars, "time", step="2min", resolutions={"medium": 3, "long": {"of": "medium", "bars": 2}})
    assert [len(made[name]) for name in ("short", "medium", "long")] == [8, 2, 1]
    assert made["medium"].close.tolist() == [0.06, 0.12] and made["medium"].last_trade_row.tolist() == [5, 11]
    assert made["long"].volume.tolist() == [sum((at + 1) % 10 for at in range(12)) / 1000]
    assert [made[name].partial.first_trade_row.tolist() for name in ("short", "medium", "long")] == [[16], [12], [12]]
    assert made["medium"].partial.close.tolist() == [0.17] and made["medium"].partial.last_trade_row.tolist() == [16]
    flushed = make_resolutions(bars, "time", step="2min", resolutions={"medium": 3}, at_file_end="flush")
    assert flushed["medium"].is_partial.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("step", "name"),
    [("1m", "1min"), ("5m", "5min"), ("60m", "1hour"), ("1h", "1hour"), ("24h", "1day"), ("1d", "1day")],
)
def test_short_names_of_steps_are_renamed(step: str, name: str) -> None:
    bars = minutes_of([(28_440_000, 1), (28_440_001, 2)])
    assert make_bars(bars, "time", step=step).name == f"time_{name}"
    assert list(make_resolutions(bars, "time", step="1m", time=[step], resolutions={})) == ["short", name]


def test_bars_of_the_same_step_stay_as_they_are() -> None:
    odd = minutes_of([(28_440_000, 1), (28_440_001, 2)])
    moved = replace(
        odd,
        columns={**odd.columns, "open_timestamp": odd.open_timestamp + 7, "close_timestamp": odd.close_timestamp + 7},
    )
    found = make_bars(moved, "time", step="1min")
    _equal(found, moved)
    assert found.name == "time_1min" and found.partial is None


def test_what_cannot_be_made_of_bars() -> None:
    bars = minutes_of([(28_440_000, 1), (28_440_001, 2)])
    shifted = replace(bars, columns={**bars.columns, "close_timestamp": bars.close_timestamp + MINUTE})
    odd = replace(
        bars,
        columns={
            name: column + 30 * 10**9 if name.endswith("timestamp") else column for name, column in bars.columns.items()
        },
    )
    closed = replace(bars, symbol=replace(BTC, sessions=("sat 09:00-10:00",)))
    cases = [
        (lambda: make_bars(bars, "dollar", threshold=5), "only time bars can be made (value 'dollar')"),
        (
            lambda: make_bars(bars, "time", step="90s"),
            "must be a multiple of the 1min that the bars of BTCUSDT last (value 90s)",
        ),
        (lambda: make_bars(shifted, "time", step="3min"), "must be a multiple of the 2min"),
        (lambda: make_bars(odd, "time", step="2min"), "ends after its 2min bar does, so it would tell of the future"),
        (lambda: make_bars(bars, "time", step="5min", anchor="session"), "has no sessions to count from"),
        (lambda: make_bars(closed, "time", step="5min", anchor="session"), "no session holds the bar that opens at"),
        (lambda: make_bars(bars.select(slice(0, 0)), "time", step="5min"), "make_bars: no bars"),
        (
            lambda: make_bars(random_trades(1, 9), "time", step="5min", anchor="session"),
            "time bars of trades are anchored at",
        ),
        (
            lambda: make_bars(make_bars(random_trades(1, 900), "time", step="1min"), "time", step="5min", empty=True),
            "bars.empty: ",
        ),
        (
            lambda: make_resolutions(bars, "time", step="1min", empty=True, time=["1m"]),
            "bars.time: time_1min is the bar type itself with other keys",
        ),
    ]
    for call, words in cases:
        with pytest.raises(InputError) as raised:
            call()
        assert words in str(raised.value)


def test_minutes_of_trades_give_longer_bars_with_all_their_columns() -> None:
    trades = random_trades(3, 4_000)
    minutes, expected = make_bars(trades, "time", step="1min"), make_bars(trades, "time", step="10min")
    found = make_bars(minutes, "time", step="10min")
    count = min(len(found), len(expected))
    assert count > 20
    for name, column in expected.columns.items():
        assert torch.equal(found.columns[name][:count].nan_to_num(-7), column[:count].nan_to_num(-7)), name
