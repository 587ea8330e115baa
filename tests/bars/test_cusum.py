"""Cusum bars against de Prado's filter (AFML, snippet 2.4): in integers everywhere, in floats on published closes."""

from __future__ import annotations

import csv
import math
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.bars import cusum
from gpu_pipeline.bars._fold import state_from_json, state_to_json
from gpu_pipeline.bars._make import make_bars, make_resolutions
from gpu_pipeline.core.errors import ConfigError, InputError
from gpu_pipeline.core.schema import Symbol
from tests.bars.market import BTC, random_trades, real_day, trades_of
from tests.bars.oracles import log_price

FUTURE = Symbol("ES", Decimal("0.25"), Decimal(1), Decimal(50))


def by_hand(logs: list[float], threshold: float) -> list[int]:
    """Rows at which the filter as printed says that something happened; `logs` may be integers or floats."""
    events, up, down = [], 0, 0
    for row in range(1, len(logs)):
        move = logs[row] - logs[row - 1]
        up, down = max(0, up + move), min(0, down + move)
        if down <= -threshold:
            down = 0
            events.append(row)
        elif up >= threshold:
            up = 0
            events.append(row)
    return events


def of_prices(prices: list[int], symbol: Symbol = BTC, first_row: int = 0):
    return trades_of(symbol, range(len(prices)), prices, [1] * len(prices), [True] * len(prices), first_row)


@settings(max_examples=100, deadline=None)
@given(
    moves=st.lists(st.one_of(st.integers(-3, 3), st.sampled_from([-350, 350, 0])), max_size=60),
    threshold=st.sampled_from([1, 1_000_000, 3_000_000, 250_000_000]),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_any_chunking_with_the_state_kept_as_text_gives_the_same_bars(moves, threshold, cuts):
    prices = [max(1, 1_000 + sum(moves[: row + 1])) for row in range(len(moves))]
    trades, config = of_prices(prices), cusum.Config(threshold=threshold)
    ends, state = [], None
    for begin, stop in pairwise([0, *sorted(min(cut, len(prices)) for cut in cuts), len(prices)]):
        found, state = cusum.step(trades[begin:stop], config, state)
        ends += [begin + end - 1 for end in found.tolist()]
        state = state_from_json(state_to_json(state))
    assert ends == by_hand([log_price(price) for price in prices], threshold)


def test_a_rise_and_a_fall_are_measured_from_where_each_side_began():
    """Up 10 % closes; S- still counts from the top, so the fall back to 99 closes; then S+ counts from 99."""
    threshold = log_price(110) - log_price(100)
    bars = make_bars(of_prices([100, 105, 110, 112, 100, 99, 108, 109]), "cusum", threshold=threshold)
    assert bars.last_trade_row.tolist() == [2, 4, 7]
    assert bars.partial is None


@pytest.mark.parametrize(
    ("threshold", "events"),
    [(0.005, 100), (0.007, 63), (0.01, 37), (0.015, 17), (0.02, 9), (0.03, 5), (0.04, 2)],
)
def test_closes_of_another_library_give_its_filters_events(market_data: Path, threshold, events):
    """The thresholds of mlfinpy's own test, on its file; it closes where a float exceeds the threshold."""
    with (market_data / "goldens/dollar_bar_sample.csv").open() as file:
        closes = [Decimal(row["close"]) for row in csv.DictReader(file)]
    expected = by_hand([math.log(close) for close in closes], threshold)
    ticks = [int(close / FUTURE.price_tick) for close in closes]
    bars = make_bars(of_prices(ticks, FUTURE), "cusum", threshold=round(threshold * 1e9))
    assert bars.last_trade_row.tolist() == expected
    assert len(bars) == events


@pytest.mark.parametrize("threshold", [100_000, 5_000_000])
def test_the_real_day(market_data: Path, threshold):
    trades = real_day(market_data)
    bars = make_bars(trades, "cusum", threshold=threshold)
    assert bars.last_trade_row.tolist() == by_hand(
        [log_price(price) for price in trades.price_ticks.tolist()], threshold
    )
    assert int(bars.num_ticks.sum() + bars.partial.num_ticks.sum()) == 137_988


@pytest.mark.parametrize(("price", "told"), [(0, "0.00"), (-150, "-37.50")])
def test_a_price_without_a_logarithm_is_one_line(price, told):
    trades = of_prices([5, 6, price, 5], FUTURE, first_row=1_000)
    with pytest.raises(InputError, match=rf"type cusum: trade row 1,002 of ES has price {told}, .* take range bars$"):
        make_bars(trades, "cusum", threshold=5)


def test_a_resolution_may_have_a_threshold_of_its_own():
    trades = random_trades(6, 3_000)
    bars = make_resolutions(trades, "cusum", threshold=10_000, resolutions={"long": {"threshold": 40_000}})
    assert [table.name for table in bars.values()] == ["cusum_10k", "cusum_40k_long"]
    logs = [log_price(price) for price in trades.price_ticks.tolist()]
    assert bars["long"].last_trade_row.tolist() == by_hand(logs, 40_000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "make_bars: threshold: Field required"),
        ({"threshold": 0.005}, "make_bars: threshold: .*integer"),
        ({"threshold": 0}, "make_bars: threshold: Input should be greater than or equal to 1"),
        ({"threshold": 2**62}, "make_bars: threshold: Input should be less than"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make_bars(random_trades(0, 10), "cusum", **options)
