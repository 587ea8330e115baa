"""What every bar type must keep, files not yet written included."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from gpu_pipeline.core import plugins
from gpu_pipeline.core.schema import Trades
from tests.bars.market import random_trades
from tests.conformance.options import example, strict_example

NAMES = plugins.names("bars")


def folded(module, config, pieces):
    """Ends counted from the first trade, and the final state."""
    ends, state = [], None
    for piece in pieces:
        found, state = module.step(piece, config, state)
        ends.append(found + piece.first_row)
    return torch.cat(ends), state


def test_there_are_bar_types():
    weighed = {f"{weight}_{rule}" for weight in ("tick", "volume", "dollar") for rule in ("imbalance", "runs")}
    assert {"dollar", "volume", "tick", "time", "range", "cusum"} | weighed <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_config_is_strict_frozen_and_documented(name):
    plugin = plugins.load("bars", name)
    config = strict_example(plugin)
    label = plugin.module.label(config)
    assert label
    assert label.replace(".", "").isalnum()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 9), cuts=st.lists(st.integers(0, 5_000), max_size=8))
def test_any_chunking_gives_the_same_ends(name, seed, cuts):
    plugin = plugins.load("bars", name)
    config, trades = example(plugin.config), random_trades(seed, 5_000)
    whole, state = folded(plugin.module, config, [trades])
    edges = [0, *sorted(cuts), 5_000]
    pieces, after = folded(plugin.module, config, [trades[a:b] for a, b in pairwise(edges)])
    assert len(whole) > 0
    assert whole.equal(pieces)
    assert state.keys() == after.keys()
    assert all(state[key].equal(after[key]) for key in state)


@pytest.mark.parametrize("name", NAMES)
def test_one_trade_at_a_time_gives_the_same_ends(name):
    plugin = plugins.load("bars", name)
    config, trades = example(plugin.config), random_trades(5, 1_500)
    whole, state = folded(plugin.module, config, [trades])
    single, after = folded(plugin.module, config, [trades[row : row + 1] for row in range(len(trades))])
    assert whole.equal(single)
    assert all(state[key].equal(after[key]) for key in state)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("has_side", [True, False])
def test_step_reads_the_times_and_the_columns_it_declares(name, has_side):
    plugin = plugins.load("bars", name)
    config, trades = example(plugin.config), replace(random_trades(4, 2_000), has_side=has_side)
    declared = {"time_ns", *getattr(plugin.module, "COLUMNS", Trades.COLUMNS)}
    assert declared <= set(Trades.COLUMNS)
    empty = {column: getattr(trades, column)[:0] for column in Trades.COLUMNS if column not in declared}
    whole, state = plugin.module.step(trades, config, None)
    found, after = plugin.module.step(replace(trades, **empty), config, None)
    assert whole.equal(found)
    assert all(state[key].equal(after[key]) for key in state)


@pytest.mark.parametrize("name", NAMES)
def test_ends_are_ordered_places_in_the_chunk_and_bars_are_made(name):
    plugin = plugins.load("bars", name)
    trades = random_trades(1, 5_000)
    ends, _ = plugin.module.step(trades, example(plugin.config), None)
    assert ends.dtype == torch.int64
    assert len(ends) > 1
    assert bool((ends.diff() > 0).all())
    assert int(ends[0]) > 0
    assert int(ends[-1]) <= len(trades)


@pytest.mark.parametrize("name", NAMES)
def test_no_end_depends_on_a_later_trade(name):
    plugin = plugins.load("bars", name)
    config, trades = example(plugin.config), random_trades(2, 3_000)
    whole, _ = plugin.module.step(trades, config, None)
    for stop in (1, 2, 1_499, 2_998):
        prefix, _ = plugin.module.step(trades[:stop], config, None)
        assert whole[: len(prefix)].equal(prefix)
        assert len(prefix) >= int((whole < stop).sum())


@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_named_integers_that_can_be_kept(name):
    plugin = plugins.load("bars", name)
    config, trades = example(plugin.config), random_trades(3, 2_000)
    _, state = plugin.module.step(trades[:777], config, None)
    assert all(value.dtype == torch.int64 and value.dim() == 1 for value in state.values())
    kept = {key: value.clone() for key, value in state.items()}
    expected, _ = plugin.module.step(trades[777:], config, state)
    assert all(state[key].equal(kept[key]) for key in kept), "the state that was given must be left as it was"
    found, _ = plugin.module.step(trades[777:], config, load(save(kept)))
    assert expected.equal(found)
