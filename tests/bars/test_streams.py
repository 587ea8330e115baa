"""Every bar type ends its bars where its definition does, on streams meant to break it, however they are cut."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from gpu_pipeline.core import plugins
from gpu_pipeline.core.schema import Trades
from tests.bars.oracles import ORACLES
from tests.bars.streams import OPTIONS, plain, stream

NAMES = plugins.names("bars")
FAST, MANY = 400, 12_000


def oracle_of(name: str):
    assert name in ORACLES, f"bar type '{name}' has no oracle: write one from its definition in tests/bars/oracles.py"
    assert name in OPTIONS, f"bar type '{name}' has no random options: add them to OPTIONS in tests/bars/streams.py"
    return ORACLES[name], OPTIONS[name]


def folded(module: ModuleType, config: Any, trades: Trades, cuts: list[int]) -> tuple[list[int], dict[str, Any]]:
    """Ends counted from the first trade over all the pieces, and the final state in plain integers."""
    ends: list[int] = []
    state = None
    for begin, stop in pairwise([0, *cuts, len(trades)]):
        found, state = module.step(trades[begin:stop], config, state)
        assert found.dtype == torch.int64
        ends += [begin + end for end in found.tolist()]
    return ends, {key: value.tolist() for key, value in state.items()}


def compare(name: str, seed: int) -> int:
    """One stream, whole, cut at random and (a short one) trade by trade; the number of its bars."""
    plugin, (oracle, options_of) = plugins.load("bars", name), oracle_of(name)
    trades, draw = stream(seed), np.random.default_rng([seed, 1])
    market, rows = plain(trades), len(trades)
    options = options_of(draw, market)
    config = plugin.config(**options)
    expected = oracle(market, options)
    whole, state = folded(plugin.module, config, trades, [])
    story = f"{name} of stream {seed} ({rows} trades of {trades.symbol.name}), {options}"
    assert whole == expected, f"{story}: first difference {first_difference(whole, expected)}"
    for cuts in (sorted(draw.integers(0, rows + 1, 4).tolist()), list(range(rows)) if rows <= 30 else []):
        ends, after = folded(plugin.module, config, trades, cuts)
        assert (ends, after) == (expected, state), f"{story}, cut at {cuts}: {first_difference(ends, expected)}"
    return len(expected)


def first_difference(found: list[int], expected: list[int]) -> str:
    at = next((i for i, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(found), len(expected)) if at is None else at
    return f"at bar {at}: ends {found[at : at + 3]}, the definition says {expected[at : at + 3]}"


def test_every_bar_type_has_an_oracle_and_random_options():
    for name in NAMES:
        oracle_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_bars_end_where_the_definition_says(name):
    assert sum(compare(name, seed) for seed in range(FAST)) > 4 * FAST


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_bars_end_where_the_definition_says_on_many_streams(name):
    assert sum(compare(name, seed) for seed in range(FAST, FAST + MANY)) > 4 * MANY
