"""Every bar type ends its bars where its definition does, on streams meant to break it, however they are cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from gpu_pipeline.bars import _fold
from gpu_pipeline.bars._make import make_resolutions
from gpu_pipeline.core import plugins
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Trades
from kernels import bar_sums
from tests.bars.exact import check
from tests.bars.oracles import LEARNING, MOST, ORACLES, step_ns, time
from tests.bars.streams import OPTIONS, plain, stream

NAMES = plugins.names("bars")
FAST, MANY = 850, 12_000
LONGER = {"medium": 3, "long": {"of": "medium", "bars": 2}}


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


def compare(name: str, seed: int, rows: int | None = None, device: str = "cpu") -> int:
    """One stream, whole, cut at random and (a short one) trade by trade; the number of its bars."""
    plugin, (oracle, options_of) = plugins.load("bars", name), oracle_of(name)
    trades, draw = stream(seed, rows=rows), np.random.default_rng([seed, 1])
    market, rows = plain(trades), len(trades)
    options = options_of(draw, market)
    config = plugin.config(**options)
    expected = oracle(market, options)
    trades = replace(trades, **{column: getattr(trades, column).to(device) for column in Trades.COLUMNS})
    whole, state = folded(plugin.module, config, trades, [])
    story = f"{name} of stream {seed} ({rows} trades of {trades.symbol.name}), {options}"
    assert whole == expected, f"{story}: first difference {first_difference(whole, expected)}"
    for cuts in (sorted(draw.integers(0, rows + 1, 4).tolist()), list(range(rows)) if rows <= 12 else []):
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


def long_streams(name: str, seeds: range) -> int:
    return sum(compare(name, seed, rows=int(np.random.default_rng(seed).integers(4_000, 30_000))) for seed in seeds)


@pytest.mark.parametrize("name", NAMES)
def test_long_streams_shared_among_threads_end_their_bars_where_the_definition_says(name, many_parts):
    # Amounts that add up are the ones that threads share: a part whose guess is wrong is found by stream 15.
    assert long_streams(name, range(25 if name in ("dollar", "volume") else 4)) > 500


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_long_streams_end_their_bars_where_the_definition_says(name, many_parts):
    assert long_streams(name, range(25, 200)) > 15_000


def compare_on_cuda(name: str, seed: int) -> int:
    """0 bars where the reset rule on a GPU refuses a threshold as too large for a block."""
    try:
        return compare(name, seed, device="cuda")
    except (ValueError, InputError) as refused:
        assert "on a GPU threshold must be below" in str(refused)
        return 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_bars_end_on_cuda_where_the_definition_says(name):
    assert sum(compare_on_cuda(name, seed) for seed in range(FAST)) > 2 * FAST


def learnt_bits(name: str, seed: int) -> bool:
    """Whether bars closed; the expectations in the state are the definition's, to the last bit."""
    plugin, trades, draw = plugins.load("bars", name), stream(seed), np.random.default_rng([seed, 1])
    market = plain(trades)
    options = OPTIONS[name](draw, market)
    if max([*market.lots, *market.notional], default=0) > MOST:
        return False  # the totals of a bar stop there
    ends, expected = LEARNING[name](market, options)
    _, state = plugin.module.step(trades, plugin.config(**options), None)
    found = state["expectations"][-len(expected) :].view(torch.float64).tolist()
    assert found == expected, f"{name} of stream {seed} ({len(ends)} bars), {options}"
    return len(ends) > 1


@pytest.mark.parametrize("name", LEARNING)
def test_expectations_are_the_definitions_to_the_last_bit(name):
    assert sum(learnt_bits(name, seed) for seed in range(FAST, FAST + 300)) > 50


def pieces_of(trades: Trades, draw: np.random.Generator) -> list[Trades]:
    edges = [0, *sorted(draw.integers(0, len(trades) + 1, 3).tolist()), len(trades)]
    return [trades[begin:stop] for begin, stop in pairwise(edges)]


def resolutions(name: str, seed: int) -> int:
    """All resolutions of a cut stream: which trades are in which bar, every column, and nothing lost."""
    trades, draw = stream(seed, huge=False), np.random.default_rng([seed, 2])
    market = plain(trades)
    options = OPTIONS[name](draw, market)
    pieces = pieces_of(trades, draw)
    ends = ORACLES[name](market, options)
    expected = {"short": ends, "medium": ends[2::3], "long": ends[5::6], "7min": time(market, {"step": "7min"})}
    bars = make_resolutions(pieces, name, resolutions=LONGER, time=["7min"], **options)
    for resolution, table in bars.items():
        stops = expected[resolution]
        assert table.last_trade_row.tolist() == [stop - 1 for stop in stops], (name, seed, options, resolution)
        assert table.first_trade_row.tolist() == [0, *stops][: len(stops)]
        assert (table.partial is None) == ([0, *stops][-1] == len(trades))
        step = options.get("step") if resolution != "7min" else "7min"
        check(trades, table, step and step_ns(step))
    conserved(name, options, pieces, market)
    return len(ends)


def conserved(name: str, options: dict[str, Any], pieces: list[Trades], market: Any) -> None:
    """Bars and open rest hold every trade, lot, unit of notional and lot bought, in Python's integers."""
    values = {**options, "resolutions": LONGER, "time": ["7min"]}
    chains = _fold.plan(_fold.section_of(name, values, "test"))
    kept: dict[str, list[list[int]]] = {chain.resolution: [] for chain in chains}
    state: dict[str, torch.Tensor] = {}
    rows = [bar_sums.COUNT, bar_sums.VOLUME, bar_sums.NOTIONAL, bar_sums.BUYS]
    for piece in pieces:
        sums, state = _fold.step(piece, chains, state)
        for resolution, closed in sums.items():
            kept[resolution] += closed[rows].T.tolist()
    for resolution, rest in _fold.open_rest(chains, state).items():
        kept[resolution] += rest[rows].T.tolist()
    bought = sum(lots for lots, sold in zip(market.lots, market.sold, strict=True) if not sold)
    totals = [len(market), sum(market.lots), sum(market.notional), bought]
    for resolution, found in kept.items():
        assert [sum(each) for each in zip(*found, strict=True)] == (totals if found else []), (name, resolution)
        assert found or not len(market)


@pytest.mark.parametrize("name", NAMES)
def test_every_resolution_holds_its_trades_and_loses_none(name, many_parts):
    assert sum(resolutions(name, seed) for seed in range(30)) > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_resolution_holds_its_trades_on_many_streams(name, many_parts):
    assert sum(resolutions(name, seed) for seed in range(30, 630)) > 2_000


def test_the_streams_are_as_hostile_as_they_are_meant_to_be():
    found = dict.fromkeys(("none", "one", "wraps", "zero", "same time", "months", "no side", "inverse", "flat"), 0)
    for seed in range(FAST):
        market, symbol = plain(stream(seed)), stream(seed).symbol
        found["none"] += len(market) == 0
        found["one"] += len(market) == 1
        found["wraps"] += sum(market.notional) > 2**64
        found["zero"] += 0 in market.lots
        found["same time"] += any(a == b for a, b in pairwise(market.time_ns))
        found["months"] += any(b - a > 32 * 86_400 * 10**9 for a, b in pairwise(market.time_ns))
        found["no side"] += not market.has_side
        found["inverse"] += symbol.inverse
        found["flat"] += len(market) > 5 and len(set(market.price)) == 1
    assert min(found.values()) >= 5, found
