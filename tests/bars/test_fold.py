"""One fold, any chunking: resolutions, state, flushed pieces; compared bit for bit."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load

from gpu_pipeline.bars import _fold, _stage
from gpu_pipeline.bars._make import make_bars, make_resolutions
from gpu_pipeline.core import plugins
from gpu_pipeline.core.config import check_config
from gpu_pipeline.core.errors import ConfigError, InputError
from gpu_pipeline.core.schema import BAR_COLUMNS, Bars, Trades
from gpu_pipeline.core.trace import Trace
from tests.bars import other_process
from tests.bars.market import BTC, random_trades
from tests.bars.streams import USUAL
from tests.bars.test_stage import CPU, File, read

NAMES = plugins.names("bars")
LONGER = {"medium": 3, "long": {"of": "medium", "bars": 2}}
CASES = [
    {"type": "dollar", "threshold": 20_000, "time": ["1min", "1hour"], "resolutions": {"wide": {"threshold": 10**5}}},
    *(
        {"type": name, **options, "resolutions": LONGER, "time": ["1min"]}
        for name in NAMES
        for options in USUAL.get(name, ())
    ),
]


def title(case) -> str:
    return "-".join(str(case[key]) for key in ("type", "threshold", "on_close", "empty") if key in case)


each_case = pytest.mark.parametrize("case", CASES, ids=title)


def test_every_bar_type_has_usual_options():
    missing = set(NAMES) - set(USUAL)
    assert not missing, f"bar types {missing} have no usual options: add them to USUAL in tests/bars/streams.py"


def same_bits(left: Bars, right: Bars) -> None:
    assert (left.name, len(left), left.partial is None) == (right.name, len(right), right.partial is None)
    for name in BAR_COLUMNS:
        assert left.columns[name].numpy().tobytes() == right.columns[name].numpy().tobytes(), name
    if left.partial is not None and right.partial is not None:
        same_bits(left.partial, right.partial)


def cut(trades, cuts):
    edges = [0, *sorted(min(at, len(trades)) for at in cuts), len(trades)]
    return [trades[begin:end] for begin, end in pairwise(edges)]


@each_case
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 5), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_any_cut_gives_the_same_bits(case, seed, cuts):
    trades = random_trades(seed, 400)
    whole, pieces = make_resolutions(trades, **case), make_resolutions(cut(trades, cuts), **case)
    assert list(whole) == list(pieces)
    for resolution in whole:
        same_bits(whole[resolution], pieces[resolution])


@each_case
def test_one_trade_at_a_time_gives_the_same_bits(case):
    trades = random_trades(2, 90)
    whole, pieces = make_resolutions(trades, **case), make_resolutions(cut(trades, range(90)), **case)
    for resolution in whole:
        same_bits(whole[resolution], pieces[resolution])


@pytest.fixture(scope="module")
def elsewhere():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield lambda *arguments: pool.submit(other_process.fold, *arguments).result()


def places_inside_bars(ends: list[int], rows: int, seed: int) -> list[int]:
    """Five rows at which a bar of every resolution is open, at random."""
    inside = [row for row in range(2, rows - 2) if row not in ends]
    return sorted(np.random.default_rng(seed).choice(inside, 5, replace=False).tolist())


@each_case
def test_a_state_goes_on_in_another_process(case, elsewhere):
    seed, rows, forms = 4, 700, ("json", "safetensors")
    values = dict(case)
    chains = _fold.plan(_fold.section_of(values.pop("type"), values, "test"))
    expected, state = _fold.step(random_trades(seed, rows), chains, {})
    bars = make_resolutions(random_trades(seed, rows), **case)
    ends = {int(row) + 1 for table in bars.values() for row in table.last_trade_row}
    edges = [0, *places_inside_bars(sorted(ends), rows, seed), rows]
    parts, kept = [], other_process.saved({}, "json")
    for number, span in enumerate(pairwise(edges)):
        # Odd pieces are folded there, even ones here: the state crosses at all five places, in both forms and ways.
        fold = elsewhere if number % 2 else other_process.fold
        sums, kept = fold(case, seed, rows, span, kept, forms[number // 2 % 2])
        parts.append(load(sums))
    assert expected["short"].shape[1] > 10
    for name, whole in expected.items():
        assert torch.cat([part[name] for part in parts], dim=1).equal(whole), name
    after = other_process.restored(kept)
    assert after.keys() == state.keys()
    assert all(state[name].equal(after[name]) for name in state)


def months_with_gaps() -> list[Trades]:
    """Trades of three months with more than a month between them; one file each."""
    trades = random_trades(7, 1_500)
    gap = 70 * 86_400 * 10**9
    trades = replace(trades, time_ns=trades.time_ns + gap * (torch.arange(1_500) // 500))
    return [trades[row : row + 500] for row in range(0, 1_500, 500)]


@each_case
def test_memory_and_the_stage_make_the_same_bars(case, tmp_path):
    months = months_with_gaps()
    section = {"bars": case, "symbols": ["BTCUSDT"], "name": "t", "ingest": {"trades": {"source": "tests.bars.source"}}}
    files = [File(month, chunk=173) for month in months]
    _stage.write(tmp_path, check_config(section), {"BTCUSDT": BTC}, lambda symbol: files, read, CPU, Trace())
    whole = Trades.concat(months)
    tables = make_resolutions(whole, **case)
    for resolution, bars in tables.items():
        loaded = _stage.load(tmp_path, BTC, resolution, CPU)
        assert len(bars) > 0, resolution
        same_bits(loaded, replace(bars, partial=None))
    options = {key: value for key, value in case.items() if key not in ("resolutions", "time")}
    same_bits(make_bars(whole, **options), tables["short"])


def test_longer_resolutions_end_with_every_nth_short_bar_and_are_made_from_the_trades():
    trades = random_trades(6, 6_000)
    bars = make_resolutions(trades, threshold=2_000, resolutions={"medium": 10, "long": {"of": "medium", "bars": 4}})
    short, medium, long = (bars[name] for name in ("short", "medium", "long"))
    assert medium.last_trade_row.tolist() == short.last_trade_row[9::10].tolist()
    assert long.last_trade_row.tolist() == medium.last_trade_row[3::4].tolist()
    starts = [0, *(medium.last_trade_row + 1).tolist()]
    for row, (begin, end) in list(enumerate(pairwise(starts)))[::9]:
        direct = make_bars(trades[begin:end], threshold=10**12).partial
        for name in BAR_COLUMNS[:-1]:
            found, expected = medium.columns[name][row : row + 1], direct.columns[name]
            assert found.numpy().tobytes() == expected.numpy().tobytes(), name


WITH_THRESHOLD = [name for name in NAMES if "threshold" in plugins.load("bars", name).config.model_fields]


@pytest.mark.parametrize("name", WITH_THRESHOLD)
def test_a_resolution_by_threshold_is_a_chain_of_its_own(name):
    trades, options = random_trades(6, 3_000), USUAL[name][-1]
    wider = 3 * int(float(options["threshold"]))
    bars = make_resolutions(trades, name, **options, resolutions={"wide": {"threshold": wider}})
    alone = make_bars(trades, name, **{**options, "threshold": wider})
    assert bars["wide"].name == f"{alone.name}_wide"
    assert len(alone) > 10
    same_bits(
        bars["wide"], replace(alone, name=bars["wide"].name, partial=replace(alone.partial, name=bars["wide"].name))
    )


@each_case
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 5), cuts=st.lists(st.integers(0, 500), max_size=4))
def test_flush_makes_every_piece_stand_alone(case, seed, cuts):
    trades = random_trades(seed, 500)
    pieces = cut(trades, cuts)
    flushed = make_resolutions(pieces, at_file_end="flush", **case)
    alone = [make_resolutions(piece, **case) for piece in pieces]
    for resolution, bars in flushed.items():
        own = [one[resolution] for one in alone]
        expected = Bars.concat([part for one in own for part in (one, one.partial) if part is not None])
        assert bars.partial is None
        same_bits(bars, replace(expected, partial=None))
        assert int(bars.num_ticks.sum()) == len(trades)
        assert len(bars.complete()) == sum(map(len, own))


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
