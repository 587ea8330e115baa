"""Range bars: what they promise of every bar, on random markets and on the real day."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.bars import range as range_bars
from gpu_pipeline.bars._fold import state_from_json, state_to_json
from gpu_pipeline.bars._make import make_bars, make_resolutions
from gpu_pipeline.core.errors import ConfigError, InputError
from tests.bars.market import BTC, random_trades, real_day, trades_of


def by_hand(prices: list[int], ticks: int) -> list[int]:
    """Last rows of bars, each bar's prices kept in a list."""
    last_rows, bar = [], []
    for row, price in enumerate(prices):
        bar.append(price)
        if max(bar) - min(bar) >= ticks:
            last_rows.append(row)
            bar = []
    return last_rows


def of_prices(prices: list[int]):
    return trades_of(BTC, range(len(prices)), prices, [1] * len(prices), [True] * len(prices))


@settings(max_examples=100, deadline=None)
@given(
    moves=st.lists(st.one_of(st.integers(-3, 3), st.sampled_from([-70, 70, 0])), max_size=60),
    ticks=st.sampled_from([1, 2, 5, 69, 70, 71]),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_any_chunking_with_the_state_kept_as_text_gives_the_same_bars(moves, ticks, cuts):
    prices = [5_000 + sum(moves[: row + 1]) for row in range(len(moves))]
    trades, config = of_prices(prices), range_bars.Config(ticks=ticks)
    ends, state = [], None
    for begin, stop in pairwise([0, *sorted(min(cut, len(prices)) for cut in cuts), len(prices)]):
        found, state = range_bars.step(trades[begin:stop], config, state)
        ends += [begin + end - 1 for end in found.tolist()]
        state = state_from_json(state_to_json(state))
    assert ends == by_hand(prices, ticks)


def test_the_range_is_of_the_bars_own_prices_in_steps():
    """The jump from 104 to 111 lies between two bars, so it is in neither; equality closes."""
    bars = make_bars(of_prices([100, 104, 111, 112, 115, 116, 90]), "range", ticks=4)
    assert bars.last_trade_row.tolist() == [1, 4, 6]
    assert bars.high.tolist() == [1.04, 1.15, 1.16]
    assert bars.low.tolist() == [1.00, 1.11, 0.90]
    assert bars.partial is None
    assert bars.name == "range_4t"


def test_prices_may_fall_below_zero():
    bars = make_bars(of_prices([2, 0, -3, -3, -37]), "range", ticks=5)
    assert bars.last_trade_row.tolist() == [2, 4]
    assert bars.low.tolist() == [-0.03, -0.37]


def test_longer_resolutions_count_range_bars():
    bars = make_resolutions(random_trades(4, 3_000), "range", ticks=12, resolutions={"medium": 4})
    assert bars["medium"].last_trade_row.tolist() == bars["short"].last_trade_row[3::4].tolist()
    assert bars["medium"].name == "range_12t_medium"


def test_no_resolution_has_a_threshold_of_its_own():
    with pytest.raises(InputError, match="bar type 'range' has no threshold; give 'of' and 'bars'"):
        make_resolutions(random_trades(4, 30), "range", ticks=12, resolutions={"long": {"threshold": 5}})


@pytest.mark.parametrize("ticks", [50, 1_000])
def test_every_bar_of_the_real_day_spans_the_range_only_with_its_last_trade(market_data: Path, ticks):
    trades = real_day(market_data)
    bars = make_bars(trades, "range", ticks=ticks)
    assert bars.last_trade_row.tolist() == by_hand(trades.price_ticks.tolist(), ticks)
    assert int(bars.num_ticks.sum() + bars.partial.num_ticks.sum()) == 137_988


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "make_bars: ticks: Field required"),
        ({"ticks": 0}, "make_bars: ticks: Input should be greater than or equal to 1"),
        ({"ticks": 2.5}, "make_bars: ticks: .*integer"),
        ({"threshold": 5, "ticks": 5}, "make_bars: threshold: unknown key"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make_bars(random_trades(0, 10), "range", **options)
