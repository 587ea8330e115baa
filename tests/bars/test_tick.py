"""Tick bars: every n-th trade, however the trades come."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.bars import tick
from gpu_pipeline.bars._fold import state_from_json, state_to_json
from gpu_pipeline.bars._make import make_bars, make_resolutions
from gpu_pipeline.core.errors import ConfigError
from tests.bars.market import random_trades


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(0, 60),
    threshold=st.sampled_from([1, 2, 7, 59, 60, 61, 2**62 - 1]),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    on_close=st.sampled_from(["reset", "carry"]),
)
def test_every_nth_trade_closes_a_bar_in_any_chunking(rows, threshold, cuts, on_close):
    trades, config = random_trades(1, rows), tick.Config(threshold=threshold, on_close=on_close)
    ends, state = [], None
    for begin, stop in pairwise([0, *sorted(min(cut, rows) for cut in cuts), rows]):
        found, state = tick.step(trades[begin:stop], config, state)
        ends += [begin + end for end in found.tolist()]
        state = state_from_json(state_to_json(state))
    assert ends == list(range(threshold, rows + 1, threshold))
    assert state["sum"].tolist() == [rows % threshold]


def test_trades_of_no_size_count_and_the_rest_stays_open():
    trades = random_trades(2, 1_000)
    bars = make_bars(trades, "tick", threshold=150)
    assert int((trades.quantity_lots == 0).sum()) > 0
    assert bars.num_ticks.tolist() == [150] * 6
    assert bars.partial.num_ticks.tolist() == [100]
    assert bars.name == "tick_150"


def test_a_resolution_may_have_a_threshold_of_its_own():
    bars = make_resolutions(
        random_trades(3, 500), "tick", threshold=10, resolutions={"medium": 5, "long": {"threshold": "2e2"}}
    )
    assert bars["medium"].last_trade_row.tolist() == list(range(49, 500, 50))
    assert bars["long"].last_trade_row.tolist() == [199, 399]


def test_a_threshold_of_its_own_follows_the_rule_of_the_bar_type():
    with pytest.raises(ConfigError, match=r"bars.resolutions.long: threshold: Input should be a valid integer.*20\.5"):
        make_resolutions(random_trades(3, 50), "tick", threshold=10, resolutions={"long": {"threshold": 20.5}})


def test_there_is_nothing_to_fold_without_trades():
    ends, state = tick.step(random_trades(1, 0), tick.Config(threshold=3), None)
    assert ends.tolist() == []
    assert state["sum"].equal(torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "make_bars: threshold: Field required"),
        ({"threshold": 0}, "make_bars: threshold: Input should be greater than or equal to 1"),
        ({"threshold": 1.5}, "make_bars: threshold: .*integer"),
        ({"threshold": 2**62}, "make_bars: threshold: Input should be less than 4611686018427387904"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make_bars(random_trades(0, 10), "tick", **options)
