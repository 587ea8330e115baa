"""Time bars against plain dictionaries of buckets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.bars._make import make_bars, make_resolutions
from gpu_pipeline.core.errors import ConfigError
from tests.bars.market import BTC, random_trades, trades_of

SECOND, DAY = 10**9, 86_400 * 10**9


def bucket(time_ns: int, step_ns: int) -> tuple[int, int]:
    midnight = time_ns // DAY * DAY
    start = midnight + (time_ns - midnight) // step_ns * step_ns
    return start, min(start + step_ns, midnight + DAY)


def by_hand(trades, step_ns: int) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for row, time_ns in enumerate(trades.time_ns.tolist()):
        rows.setdefault(bucket(time_ns, step_ns)[0], []).append(row)
    return rows


@pytest.mark.parametrize(("step", "step_ns"), [("1min", 60 * SECOND), ("7hour", 7 * 3600 * SECOND), ("1day", DAY)])
def test_bars_hold_the_trades_of_their_buckets(step, step_ns):
    trades = random_trades(5, 4_000, start_ns=1_582_329_600 * SECOND - 1000 * SECOND)
    expected = by_hand(trades, step_ns)
    bars = make_bars(trades, "time", step=step)
    starts = list(expected)
    assert bars.open_timestamp.tolist() == starts[:-1]
    assert bars.close_timestamp.tolist() == [bucket(start, step_ns)[1] for start in starts[:-1]]
    assert bars.first_trade_row.tolist() == [expected[start][0] for start in starts[:-1]]
    assert bars.last_trade_row.tolist() == [expected[start][-1] for start in starts[:-1]]
    assert bars.partial.open_timestamp.tolist() == starts[-1:]
    assert bars.partial.close_timestamp.tolist() == [bucket(starts[-1], step_ns)[1]]


def test_the_last_bar_of_a_day_is_cut_short():
    day = 1_582_329_600 * SECOND
    times = [day + 21 * 3600 * SECOND, day + DAY - 1, day + DAY]
    bars = make_bars(trades_of(BTC, times, [5, 6, 7], [1, 1, 1], [False] * 3), "time", step="7hour")
    assert bars.open_timestamp.tolist() == [day + 21 * 3600 * SECOND]
    assert bars.close_timestamp.tolist() == [day + DAY]
    assert bars.num_ticks.tolist() == [2]


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 60), min_size=1, max_size=30),
    step=st.sampled_from([("7s", 7), ("1min", 60), ("5hour", 18_000)]),
    cut=st.integers(0, 30),
)
def test_empty_bars_repeat_the_close(gaps, step, cut):
    name, seconds = step
    times = 1_582_415_000 * SECOND + np.cumsum(gaps) * 20 * SECOND
    trades = trades_of(BTC, times, np.arange(len(gaps)) + 100, np.full(len(gaps), 2), [True] * len(gaps))
    bars = make_bars([trades[:cut], trades[cut:]], "time", step=name, empty=True)
    full = by_hand(trades, seconds * SECOND)
    starts, at, last = [], min(full), max(full)
    while at < last:
        starts.append(at)
        at = bucket(at, seconds * SECOND)[1]
    assert bars.open_timestamp.tolist() == starts
    before, columns = None, {name: column.tolist() for name, column in bars.columns.items()}
    for index, start in enumerate(starts):
        rows = full.get(start)
        before = rows[-1] if rows else before
        row = {name: column[index] for name, column in columns.items()}
        assert (row["close"], row["num_ticks"]) == ((100 + before) / 100, len(rows or []))
        assert row["last_trade_row"] == before
        if not rows:
            names = ("open", "high", "low", "vwap", "tick_price_mean")
            assert {row[name] for name in names} == {row["close"]}
            assert row["volume"] == row["trade_imbalance"] == row["tick_price_kurtosis"] == 0.0
            assert row["first_trade_row"] == before + 1


def test_longer_resolutions_of_time_bars_span_their_buckets():
    trades = random_trades(9, 3_000)
    bars = make_resolutions(trades, "time", step="1min", resolutions={"medium": 5})
    short, medium = bars["short"], bars["medium"]
    assert medium.open_timestamp.tolist() == short.open_timestamp[::5].tolist()[: len(medium)]
    assert medium.close_timestamp.tolist() == short.close_timestamp[4::5].tolist()
    assert medium.name == "time_1min_medium"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": "2day"}, "step must be longer than 0 and at most 1day, got 2day"),
        ({"step": "0s"}, "step must be longer than 0"),
        ({"step": "a minute"}, "is not a duration"),
        ({}, "step: Field required"),
    ],
)
def test_wrong_steps_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make_bars(random_trades(0, 10), "time", **options)
