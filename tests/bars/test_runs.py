"""Runs bars of trades, quantity and notional: units, sides, state, and thresholds that stay in their range."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from gpu_pipeline.bars._make import make_bars
from gpu_pipeline.core import plugins
from gpu_pipeline.core.errors import ConfigError
from tests.bars.information import (
    INVERSE,
    KEYS,
    ODD,
    WEIGHTS,
    labels_are_unique,
    lengths,
    markets,
    odd,
    rule_of,
    signed,
    thresholds,
    unit,
)
from tests.bars.market import BTC, random_trades, trades_of
from tests.kernels.expectations import ends_by_hand

OFFSET, START = False, "expected_run"
each_weight = pytest.mark.parametrize("weight", WEIGHTS)


def module_of(weight):
    return plugins.load("bars", f"{weight}_runs").module


@pytest.fixture(scope="module")
def market(market_data: Path):
    return markets(market_data)


def compare(weight, trades, options, begin=None):
    """Ends and state are the definition's, in one piece and in five; `begin` is the start in its own unit."""
    module = module_of(weight)
    config = module.Config(**options, **({} if begin is None else {START: begin}))
    units = None if begin is None else float(begin / unit(trades, weight))
    ends, words, _ = ends_by_hand(signed(trades, weight), rule_of(options, units), OFFSET)
    found, state = module.step(trades, config, None)
    assert found.tolist() == ends
    assert state["expectations"].tolist() == words
    state, parts = None, []
    for start, stop in pairwise(np.linspace(0, len(trades), 6).astype(int).tolist()):
        part, state = module.step(trades[start:stop], config, state)
        parts += [start + end for end in part.tolist()]
    assert parts == ends and state["expectations"].tolist() == words
    return ends


@each_weight
@pytest.mark.parametrize("symbol", [BTC, INVERSE], ids=["linear", "inverse"])
@pytest.mark.parametrize("has_side", [True, False], ids=["sides", "tick rule"])
def test_bars_end_where_the_definition_says(weight, symbol, has_side):
    for seed in range(5):
        trades = replace(random_trades(seed, 1_500, symbol=symbol), has_side=has_side)
        for begin in (None, 50 * unit(trades, weight)):
            assert len(compare(weight, trades, KEYS, begin)) > 20


def test_the_start_is_read_in_people_s_units():
    # 0.1 BTC a trade are 100 lots, 10 USDT a trade are 1,000,000 units of 1e-5; ten trades are expected.
    trades = random_trades(0, 1)
    for weight, begin, expected in (("tick", 0.5, 5), ("volume", 0.1, 1_000), ("dollar", 10, 10_000_000)):
        config = module_of(weight).Config(expected_ticks=10, expected_run=begin)
        assert module_of(weight).step(trades[:0], config, None)[1]["expectations"].tolist()[:4] == [0, expected, 0, 0]


def test_a_bar_of_one_side_closes_where_its_sum_reaches_the_threshold():
    # One step of price between trades, so that a trade of 3 lots weighs near 300 ticks x lots; 0.03 USDT are 3,000.
    trades = trades_of(BTC, range(12), range(100, 112), [3] * 12, [False] * 12)
    options = {"expected_ticks": 10, "min_ticks": 2, "max_ticks": 100}
    ends = {
        "tick": make_bars(trades, "tick_runs", **options, expected_run=0.4),
        "volume": make_bars(trades, "volume_runs", **options, expected_run=0.0015),
        "dollar": make_bars(trades, "dollar_runs", **options, expected_run=0.0012),
    }
    assert {name: int(bars.last_trade_row[0]) for name, bars in ends.items()} == {"tick": 3, "volume": 4, "dollar": 3}


@each_weight
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("options", [{}, KEYS, {**KEYS, "span_ticks": 1_000}], ids=["usual", "short", "long memory"])
def test_odd_streams_keep_bars_and_thresholds_within_their_bounds(weight, kind, options):
    trades, module = odd(kind), module_of(weight)
    config = module.Config(**options)
    low, high, _, _ = config.rule
    ends, _ = module.step(trades, config, None)
    found = lengths(ends)
    assert found.min() >= low and found.max() <= high and len(found) >= len(trades) // high
    most = max(1, *map(abs, signed(trades, weight)))
    assert all(
        1 <= each <= high * most for each in thresholds(module, trades, config, 50)[config.expected_ticks // 50 :]
    )


@each_weight
def test_thresholds_of_markets_neither_explode_nor_vanish(market, weight):
    module = module_of(weight)
    config = module.Config()
    low, high, _, _ = config.rule
    for name, trades in market.items():
        found = lengths(module.step(trades, config, None)[0])
        assert low <= found.min() and found.max() <= high, name
        assert np.mean(found == low) < 0.02 and np.mean(found == high) < 0.2, name
        assert config.expected_ticks < found.mean() < 3 * config.expected_ticks, name
        trade = np.mean(np.abs(signed(trades, weight)))
        weak, strong = np.percentile(thresholds(module, trades, config, 250), [5, 95])
        assert 25 * trade <= weak < strong <= high * trade, name


@each_weight
def test_a_memory_longer_than_bars_lets_thresholds_vanish(market, weight):
    module = module_of(weight)
    found = lengths(module.step(market["day"], module.Config(span_ticks=300), None)[0])
    assert np.mean(found == 10) > 0.25


@each_weight
@pytest.mark.parametrize("has_side", [True, False], ids=["sides", "tick rule"])
def test_a_state_goes_on_in_the_middle_of_a_bar(weight, has_side):
    module, trades = module_of(weight), replace(random_trades(7, 3_000), has_side=has_side)
    config = module.Config(**KEYS)
    whole, last = module.step(trades, config, None)
    for stop in (1, 5, 1_000, 2_999):
        before, state = module.step(trades[:stop], config, None)
        assert int(state["expectations"][0]) == stop - ([0, *before.tolist()][-1])
        after, end = module.step(trades[stop:], config, load(save(state)))
        assert torch.cat([before, after + stop]).equal(whole)
        assert end.keys() == last.keys() and all(end[key].equal(last[key]) for key in end)
    assert set(last) == ({"expectations"} if has_side else {"expectations", "last_trade"})


def test_sides_decide_where_there_are_any_and_prices_only_where_there_are_none():
    prices, sold = [5, 5, 6, 6, 5, 5, 7], [True, True, True, False, False, True, True]
    trades = trades_of(BTC, range(7), prices, [1] * 7, sold)
    options = {"expected_ticks": 3, "min_ticks": 1, "max_ticks": 9, "expected_run": 1}
    # Sold, sold, sold reach the threshold of 3. By the tick rule (0, 0, 1, 1, -1, -1, 1) three buys do, not offset.
    assert make_bars(trades, "tick_runs", **options).last_trade_row.tolist()[:1] == [2]
    bare = make_bars(replace(trades, has_side=False), "tick_runs", **options)
    assert bare.last_trade_row.tolist() == [6] and bare.partial is None


@each_weight
def test_what_is_left_out_follows_the_ticks_expected(weight):
    config = module_of(weight).Config
    assert config().rule == (10, 500, 100, 50)
    assert config(expected_ticks=1).rule == (1, 5, 100, 1)
    assert config(expected_ticks=2_000, max_ticks=3_000).rule == (200, 3_000, 100, 1_000)


@each_weight
def test_a_label_tells_configurations_apart(weight):
    module = module_of(weight)
    labels_are_unique(module.Config, module, START)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expected_ticks": 0}, "expected_ticks: Input should be greater than or equal to 1"),
        ({"expected_ticks": 50, "min_ticks": 60}, "is the rule, got 60, 50 and 250; a bound that is left out follows"),
        ({"max_ticks": 99}, "min_ticks <= expected_ticks <= max_ticks is the rule, got 10, 100 and 99"),
        ({"span_ticks": 0}, "span_ticks: Input should be greater than or equal to 1"),
        ({"span_bars": 1.5}, "span_bars: Input should be a valid integer"),
        ({"expected_run": 0}, "expected_run: Input should be greater than 0"),
        ({"expected_run": -0.5}, "expected_run: Input should be greater than 0"),
        ({"expected_run": float("nan")}, "expected_run: Input should be "),
        ({"theshold": 5}, "theshold: unknown key"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make_bars(random_trades(0, 10), "dollar_runs", **options)
