"""Sums per bar against a brute force in Python's integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.bar_sums as module
from kernels import centred_moments as moments_module
from kernels._bar_rows import NARROW, PIECE
from kernels._bar_warps import RUN
from kernels._int128 import add, multiply, scale
from kernels._op import SIMULATED
from kernels.bar_sums import COLUMNS, K, bar_sums, launch_bar_sums
from kernels.centred_moments import MOMENTS, centred_moments, launch_centred_moments

NOTHING = torch.zeros(K, dtype=torch.int64)
wraps = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")


def words(value):
    """The two int64 words of a 128-bit two's complement integer."""
    high, low = value >> 64, value & (2**64 - 1)
    return high, low - 2**64 if low >= 2**63 else low


def whole(high, low):
    return (int(high) << 64) | (int(low) & (2**64 - 1))


def brute(trades, begin, end, first_row):
    """One bar's column of sums, from its definition."""
    if begin == end:
        return [0] * K
    times, prices, lots, notional, sold = (column[begin:end] for column in trades)
    moves = [(b > a) - (b < a) for a, b in itertools.pairwise(prices) if a != b]
    power = [sum((price - prices[0]) ** k for price in prices) for k in range(5)]
    bought = sum(q for q, maker in zip(lots, sold, strict=True) if not maker)
    turns = sum(a != b for a, b in itertools.pairwise(moves))
    return [
        *(times[0], times[-1], first_row + begin, first_row + end - 1),
        *(prices[0], max(prices), min(prices), prices[-1]),
        *(end - begin, sum(lots), sum(notional), bought),
        *(power[1], *words(power[2]), *words(power[3]), *words(power[4])),
        *(len(moves), turns, moves[0] if moves else 0, moves[-1] if moves else 0),
    ]


def expected(trades, ends, first_row):
    edges = [0, *ends, len(trades[0])]
    return [brute(trades, a, b, first_row) for a, b in itertools.pairwise(edges)]


def tensors(trades, begin=0, end=None):
    types = [torch.int64] * 4 + [torch.bool]
    return [torch.tensor(column[begin:end], dtype=kind) for column, kind in zip(trades, types, strict=True)]


def fold(trades, ends, spans, late, first_row):
    """All closed bars, then the open one. Where `late`, an end at a chunk's edge is the next chunk's 0."""
    state, bars, left = NOTHING, [], list(ends)
    for number, (begin, stop) in enumerate(spans):
        inside = [end for end in left if end < stop or (end == stop and (not late or number == len(spans) - 1))]
        left = left[len(inside) :]
        mine = torch.tensor([end - begin for end in inside], dtype=torch.int64)
        sums, state = bar_sums(*tensors(trades, begin, stop), mine, first_row + begin, state)
        bars += sums.T.tolist()
    return [*bars, state.tolist()]


def random_trades(draw, rows, spread):
    prices = 10**6 + np.cumsum(draw.integers(-spread, spread + 1, rows) * (draw.random(rows) < 0.6))
    times = np.sort(draw.integers(-(10**9), 10**18, rows))
    lots, notional = draw.integers(0, 2**40, rows), draw.integers(-(2**50), 2**50, rows)
    return [column.tolist() for column in (times, prices, lots, notional, draw.random(rows) < 0.5)]


@st.composite
def streams(draw):
    rows = draw(st.integers(0, 30))
    price = st.one_of(st.integers(-3, 3), st.integers(-(2**29), 2**29), st.sampled_from([0, NARROW, -NARROW]))
    make = np.random.default_rng(draw(st.integers(0, 2**32)))
    trades = random_trades(make, rows, 1)
    trades[1] = draw(st.lists(price, min_size=rows, max_size=rows))
    return trades, sorted(draw(st.lists(st.integers(0, rows), max_size=8)))


@given(stream=streams(), cuts=st.lists(st.integers(0, 10**6), max_size=6), late=st.booleans())
def test_any_chunking_is_the_definition(chunks_of, stream, cuts, late):
    trades, ends = stream
    rows = len(trades[0])
    bars = expected(trades, ends, 10**12)
    assert fold(trades, ends, chunks_of(rows, cuts), late, 10**12) == bars
    assert fold(trades, ends, [(row, row + 1) for row in range(rows)] or [(0, 0)], late, 10**12) == bars


@pytest.mark.parametrize("spread", [1, 3000, 10**6])
@pytest.mark.parametrize("rows", [63, 64, 65, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 997])
def test_pieces_narrow_and_wide_are_the_definition(chunks_of, spread, rows):
    trades = random_trades(np.random.default_rng(rows), rows, spread)
    ends = [5, 5, 40, rows - 2]
    assert fold(trades, ends, chunks_of(rows, [17, 300]), False, 0) == expected(trades, ends, 0)


@pytest.mark.parametrize("every", [1, 2, 7, 100, 900, 3000])
def test_every_thread_count_gives_the_same_integers(monkeypatch, every):
    monkeypatch.setattr(module, "ROWS_PER_THREAD", 50)
    trades = random_trades(np.random.default_rng(2), 2003, 9)
    ends = list(range(every, 2004, every))
    state = torch.tensor(expected(random_trades(np.random.default_rng(3), 20, 9), [], 0)[0])
    tables = []
    for threads in (1, 2, 3, 20):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert fold(trades, ends, [(0, 2003)], False, 20) == expected(trades, ends, 20)
        tables.append(bar_sums(*tensors(trades), torch.tensor(ends, dtype=torch.int64), 20, state))
    assert all(torch.equal(a, b) for table in tables for a, b in zip(table, tables[0], strict=True))


def test_parts_may_begin_and_end_with_bars_that_are_empty_or_carried(monkeypatch):
    monkeypatch.setattr(module, "ROWS_PER_THREAD", 10)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    trades = random_trades(np.random.default_rng(5), 40, 9)
    for ends in ([], [0], [0, 0], [10], [10, 10, 20], [20, 20, 20], [40], [40, 40], [0, 10, 20, 30, 40], [9, 11, 31]):
        for cut in (0, 3, 20, 40):
            assert fold(trades, ends, [(0, cut), (cut, 40)], True, 5) == expected(trades, ends, 5), ends
            assert fold(trades, ends, [(0, cut), (cut, 40)], False, 5) == expected(trades, ends, 5), ends


def test_nothing_is_lost_or_counted_twice():
    trades = random_trades(np.random.default_rng(4), 3001, 5)
    ends = torch.tensor([100, 100, 1500, 2999])
    sums, state = bar_sums(*tensors(trades), ends, 0, NOTHING)
    total = dict(zip(COLUMNS, (sums.sum(1) + state).tolist(), strict=True))
    assert total["count"] == 3001
    assert total["volume"] == sum(trades[2])
    assert total["notional"] == sum(trades[3])
    assert total["buy_volume"] == sum(lots for lots, sold in zip(trades[2], trades[4], strict=True) if not sold)


def test_outputs_are_written_and_fresh(monkeypatch):
    trades = random_trades(np.random.default_rng(5), 10, 5)
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    sums, state = bar_sums(*tensors(trades), torch.tensor([0, 4, 4, 10]), 0, NOTHING)
    assert [*sums.T.tolist(), state.tolist()] == expected(trades, [0, 4, 4, 10], 0)
    none = torch.tensor([], dtype=torch.int64)
    sums, after = bar_sums(*tensors(trades, 0, 0), none, 0, sums[:, 1].contiguous())
    assert (sums.shape, after.tolist()) == ((K, 0), expected(trades, [4], 0)[0])


def test_wrong_inputs_are_refused():
    trades = tensors(random_trades(np.random.default_rng(6), 4, 5))
    for ends, first in (([1, 5], "ends[1] is 5"), ([3, 2], "ends[1] is 2"), ([-1], "ends[0] is -1")):
        with pytest.raises(ValueError, match=r"ends must not fall and must lie in \[0, 4\]") as error:
            bar_sums(*trades, torch.tensor(ends), 0, NOTHING)
        assert first in str(error.value)
    with pytest.raises(ValueError, match=r"notional must have shape \[4\], got \[3\]"):
        bar_sums(*trades[:3], trades[3][:3], trades[4], torch.tensor([1]), 0, NOTHING)
    with pytest.raises(TypeError, match=r"is_buyer_maker must be a tensor of torch\.bool, got torch\.int64"):
        bar_sums(*trades[:4], trades[3], torch.tensor([1]), 0, NOTHING)
    with pytest.raises(ValueError, match=r"state must have shape \[23\]"):
        bar_sums(*trades, torch.tensor([1]), 0, NOTHING[:3])


def test_the_ops_keep_their_contract_with_torch():
    trades = tensors(random_trades(np.random.default_rng(7), 9, 5))
    arguments = (*trades, torch.tensor([3, 5]), 0, NOTHING)
    torch.library.opcheck(module._bar_sums, arguments)
    torch.library.opcheck(moments_module._centred_moments, (bar_sums(*arguments)[0],))


def central(prices):
    """Shift and exact power sums about open + shift, by their definition."""
    n, d = len(prices), [price - prices[0] for price in prices]
    shift = (2 * sum(d) + n) // (2 * n)
    power = [sum((x - shift) ** k for x in d) for k in range(5)]
    return [shift, power[1], *words(power[2]), *words(power[3]), *words(power[4])]


@given(prices=st.lists(st.one_of(st.integers(-5, 5), st.integers(-(2**28), 2**28)), min_size=1, max_size=20))
def test_centred_moments_are_exact(prices):
    trades = random_trades(np.random.default_rng(8), len(prices), 1)
    trades[1] = prices
    sums, _ = bar_sums(*tensors(trades), torch.tensor([0, len(prices)]), 0, NOTHING)
    assert centred_moments(sums).T.tolist() == [[0] * len(MOMENTS), central(prices)]


def test_centred_moments_at_the_bound_and_past_it():
    trades = random_trades(np.random.default_rng(9), 3, 1)
    trades[1] = [0, 2**31 - 1, 2**30]
    sums, _ = bar_sums(*tensors(trades), torch.tensor([3]), 0, NOTHING)
    assert centred_moments(sums).T.tolist() == [central(trades[1])]
    trades[1] = [0, 2**32, 5]
    sums, _ = bar_sums(*tensors(trades), torch.tensor([0, 3]), 0, NOTHING)
    with pytest.raises(ValueError, match="bar 1 spans 4294967296 ticks over 3 trades; count x span"):
        centred_moments(sums)


@given(span=st.one_of(st.integers(0, 2**63 - 1), st.integers(2**30, 2**33)), count=st.integers(1, 2**62))
def test_the_bound_of_the_moments_is_exact(span, count):
    for n in {count, 1, max(1, 2**126 // max(1, span**4)), 2**126 // max(1, span**4) + 1}:
        if n < 2**63:
            assert moments_module.too_wide(n, span) == (n * span**4 >= 2**126)


def test_moments_of_narrow_and_wide_bars_are_the_definition_in_every_thread(monkeypatch):
    monkeypatch.setattr(moments_module, "BARS_PER_THREAD", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    trades = random_trades(np.random.default_rng(21), 4000, 1)
    step = np.random.default_rng(22).choice([0, 1, -3, 4094, 4095, -4096, 2**20], 4000)
    trades[1] = (step + np.arange(4000) // 500).tolist()
    ends = [1, 3, 3, 40, 700, 702, 2000, 3999]
    sums, _ = bar_sums(*tensors(trades), torch.tensor(ends), 0, NOTHING)
    bars = [central(trades[1][a:b]) if b > a else [0] * len(MOMENTS) for a, b in itertools.pairwise([0, *ends])]
    assert centred_moments(sums).T.tolist() == bars


@given(a=st.integers(-(2**127), 2**127 - 1), b=st.integers(-(2**127), 2**127 - 1), c=st.integers(-(2**63), 2**63 - 1))
def test_128_bit_arithmetic_is_pythons(a, b, c):
    wrap = 2**128
    assert whole(*add(*words(a), *words(b))) % wrap == (a + b) % wrap
    assert whole(*multiply(words(a)[1], c)) == words(a)[1] * c
    assert whole(*scale(*words(a), c)) % wrap == a * c % wrap


def simulate(trials):
    for trial in trials:
        draw = np.random.default_rng(trial)
        rows = int(draw.choice([0, 1, 2, 3, 7, 8, 9, 16, 17, 25]))
        trades = random_trades(draw, rows, int(draw.choice([1, 5, 2**14, 10**6])))
        ends = np.sort(draw.integers(0, rows + 1, draw.integers(0, 5)))
        ends = ends // 8 * 8 if trial % 4 == 0 else ends
        cut = int(draw.integers(0, rows + 1))
        early, late = ends[ends <= cut], ends[ends > cut] - cut
        columns = [np.array(column, kind) for column, kind in zip(trades, [np.int64] * 4 + [bool], strict=True)]
        first, state = launch_bar_sums(*(column[:cut] for column in columns), early, 50, np.zeros(K, np.int64))
        second, state = launch_bar_sums(*(column[cut:] for column in columns), late, 50 + cut, state)
        bars = [*first.T.tolist(), *second.T.tolist(), state.tolist()]
        assert bars == expected(trades, ends.tolist(), 50), trial


@pytest.mark.sim
@wraps
def test_runs_of_a_bar_join_to_the_definition():
    assert SIMULATED and RUN == 8
    simulate(range(100))


@pytest.mark.sim
@pytest.mark.slow
@wraps
def test_many_more_bars_in_the_simulator():
    simulate(range(100, 2000))


@pytest.mark.sim
@wraps
def test_a_bar_of_many_runs_is_one_bar():
    trades = random_trades(np.random.default_rng(16), 101, 3)
    columns = [np.array(column, kind) for column, kind in zip(trades, [np.int64] * 4 + [bool], strict=True)]
    for ends in ([], [101], [96], [3, 99], [8, 16, 100]):
        sums, state = launch_bar_sums(*columns, np.array(ends, np.int64), 0, np.zeros(K, np.int64))
        assert [*sums.T.tolist(), state.tolist()] == expected(trades, ends, 0)


@pytest.mark.sim
@wraps
def test_moments_on_the_device_are_the_definition():
    trades = random_trades(np.random.default_rng(15), 30, 10**6)
    ends = [1, 1, 9, 25, 30]
    sums = np.array(expected(trades, ends, 0)[:-1]).T.copy()
    edges = zip([0, *ends[:-1]], ends, strict=True)
    moments = [central(trades[1][a:b]) if b > a else [0] * len(MOMENTS) for a, b in edges]
    assert launch_centred_moments(sums).T.tolist() == moments


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [0, 1, 31, 33, 16_384, 16_385, 99_991, 1_000_000])
@pytest.mark.parametrize("length", [3, 32, 1000, 16_384, 40_000, 10**7])
def test_cuda_is_the_cpu(rows, length):
    trades = tensors(random_trades(np.random.default_rng(rows), rows, 50))
    ends = torch.arange(length, rows, length)
    expected_sums, expected_state = bar_sums(*trades, ends, 77, NOTHING)
    for _ in range(2):
        sums, state = bar_sums(*(column.cuda() for column in trades), ends.cuda(), 77, NOTHING.cuda())
        assert torch.equal(sums.cpu(), expected_sums) and torch.equal(state.cpu(), expected_state)
    assert torch.equal(centred_moments(sums).cpu(), centred_moments(expected_sums))
