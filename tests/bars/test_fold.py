"""One fold, any chunking: resolutions, state, flushed pieces; compared bit for bit."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from gpu_pipeline.bars import _fold
from gpu_pipeline.bars._make import make_bars, make_resolutions
from gpu_pipeline.core.errors import ConfigError, InputError
from gpu_pipeline.core.schema import BAR_COLUMNS, Bars
from tests.bars.market import random_trades

CASES = [
    {"type": "dollar", "threshold": 20_000, "time": ["1min", "1hour"]},
    {
        "type": "dollar",
        "threshold": 33_333,
        "on_close": "carry",
        "resolutions": {"medium": 3, "wide": {"threshold": 10**5}},
    },
    {"type": "time", "step": "30s", "empty": True, "resolutions": {"medium": {"of": "short", "bars": 4}}},
]


def same_bits(left: Bars, right: Bars) -> None:
    assert (left.name, len(left), left.partial is None) == (right.name, len(right), right.partial is None)
    for name in BAR_COLUMNS:
        assert left.columns[name].numpy().tobytes() == right.columns[name].numpy().tobytes(), name
    if left.partial is not None and right.partial is not None:
        same_bits(left.partial, right.partial)


def cut(trades, cuts):
    edges = [0, *sorted(min(at, len(trades)) for at in cuts), len(trades)]
    return [trades[begin:end] for begin, end in pairwise(edges)]


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 5), cuts=st.lists(st.integers(0, 700), max_size=12))
def test_any_cut_gives_the_same_bits(case, seed, cuts):
    trades = random_trades(seed, 700)
    whole, pieces = make_resolutions(trades, **case), make_resolutions(cut(trades, cuts), **case)
    assert list(whole) == list(pieces)
    for resolution in whole:
        same_bits(whole[resolution], pieces[resolution])


@pytest.mark.parametrize("case", CASES)
def test_one_trade_at_a_time_gives_the_same_bits(case):
    trades = random_trades(2, 300)
    whole, pieces = make_resolutions(trades, **case), make_resolutions(cut(trades, range(300)), **case)
    for resolution in whole:
        same_bits(whole[resolution], pieces[resolution])


@pytest.mark.parametrize("case", CASES)
def test_the_state_survives_json_and_safetensors(case):
    trades = random_trades(4, 500)
    values = dict(case)
    chains = _fold.plan(_fold.section_of(values.pop("type"), values, "test"))
    _, state = _fold.step(trades[:211], chains, {})
    first, after = _fold.step(trades[211:], chains, state)
    through_json = _fold.state_from_json(json.loads(json.dumps(_fold.state_to_json(state))))
    for restored in (through_json, load(save(state))):
        second, again = _fold.step(trades[211:], chains, restored)
        assert all(first[name].equal(second[name]) for name in first)
        assert all(after[name].equal(again[name]) for name in after)


def test_longer_resolutions_end_with_every_nth_short_bar_and_are_made_from_the_trades():
    trades = random_trades(6, 6_000)
    bars = make_resolutions(trades, threshold=2_000, resolutions={"medium": 10, "long": {"of": "medium", "bars": 4}})
    short, medium, long = (bars[name] for name in ("short", "medium", "long"))
    assert medium.last_trade_row.tolist() == short.last_trade_row[9::10].tolist()
    assert long.last_trade_row.tolist() == medium.last_trade_row[3::4].tolist()
    starts = [0, *(medium.last_trade_row + 1).tolist()]
    for row, (begin, end) in enumerate(pairwise(starts)):
        direct = make_bars(trades[begin:end], threshold=10**12).partial
        for name in BAR_COLUMNS[:-1]:
            found, expected = medium.columns[name][row : row + 1], direct.columns[name]
            assert found.numpy().tobytes() == expected.numpy().tobytes(), name


def test_a_resolution_by_threshold_is_a_chain_of_its_own():
    trades = random_trades(6, 6_000)
    bars = make_resolutions(trades, threshold=2_000, on_close="carry", resolutions={"wide": {"threshold": 50_000}})
    alone = make_bars(trades, threshold=50_000, on_close="carry")
    assert bars["wide"].name == "dollar_50k_wide"
    assert bars["wide"].last_trade_row.equal(alone.last_trade_row)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 5), cuts=st.lists(st.integers(0, 500), max_size=4))
def test_flush_makes_every_piece_stand_alone(seed, cuts):
    trades = random_trades(seed, 500)
    pieces = cut(trades, cuts)
    options = {"threshold": 9_000, "resolutions": {"medium": 3}, "time": ["1min"]}
    flushed = make_resolutions(pieces, at_file_end="flush", **options)
    for resolution, bars in flushed.items():
        alone = [make_resolutions(piece, **options)[resolution] for piece in pieces]
        parts = [part for one in alone for part in (one, one.partial) if part is not None]
        assert bars.partial is None
        expected = Bars.concat(parts)
        for name in BAR_COLUMNS:
            assert bars.columns[name].numpy().tobytes() == expected.columns[name].numpy().tobytes(), name
        assert int(bars.num_ticks.sum()) == len(trades)
        assert len(bars.complete()) == sum(len(one) for one in alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolutions": {"short": 3}}, "resolution 'short' is the bar type itself; give it another name"),
        ({"resolutions": {"1min": 3}, "time": ["1min"]}, "two resolutions are called '1min'"),
        ({"resolutions": {"a/b": 3}}, "letters, digits, _ and - .value 'a/b'"),
    ],
)
def test_names_that_cannot_be_kept_apart_are_errors(options, message):
    with pytest.raises((InputError, ConfigError), match=message):
        make_resolutions(random_trades(0, 10), threshold=5, **options)


def test_a_type_without_threshold_takes_no_resolution_by_threshold():
    with pytest.raises(InputError, match="bar type 'time' has no threshold; give 'of' and 'bars'"):
        make_resolutions(random_trades(0, 10), "time", step="1min", resolutions={"wide": {"threshold": 5}})
