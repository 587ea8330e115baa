"""Range bars against a brute force in Python's integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.range_ends as module
from kernels._spans import NO_HIGH, NO_LOW
from kernels.range_ends import launch_range_ends, new_state, range_ends

EMPTY = (NO_HIGH, NO_LOW)


def brute(prices, ticks, opened=EMPTY):
    """The bar's own prices kept in a list; what is carried in are its high and low."""
    ends, bar = [], [] if opened == EMPTY else list(opened)
    for row, price in enumerate(prices):
        bar.append(price)
        if max(bar) - min(bar) >= ticks:
            ends.append(row + 1)
            bar = []
    return ends, (max(bar), min(bar)) if bar else EMPTY


def fold(prices, ticks, spans):
    state, ends = new_state(), []
    for begin, stop in spans:
        found, state = range_ends(torch.tensor(prices[begin:stop], dtype=torch.int64), ticks, state)
        ends += [begin + end for end in found.tolist()]
    return ends, tuple(state.tolist())


@st.composite
def streams(draw):
    ticks = draw(st.one_of(st.integers(1, 12), st.sampled_from([2**61, 2**62 - 1])))
    extreme = st.sampled_from([-(2**63), 2**63 - 1, -(2**62), 2**62, ticks, -ticks, ticks - 1, 0])
    near = st.integers(-20, 20)
    return ticks, draw(st.lists(st.one_of(near, near, extreme), max_size=40))


@given(stream=streams(), cuts=st.lists(st.integers(0, 10**6), max_size=6))
def test_any_chunking_is_the_rule(chunks_of, stream, cuts):
    ticks, prices = stream
    expected = brute(prices, ticks)
    assert fold(prices, ticks, chunks_of(len(prices), cuts)) == expected
    assert fold(prices, ticks, [(row, row + 1) for row in range(len(prices))]) == expected


@given(stream=streams(), split=st.integers(0, 40))
def test_a_saved_state_goes_on(stream, split):
    ticks, prices = stream
    ends, state = fold(prices[:split], ticks, [(0, split)])
    found, after = range_ends(torch.tensor(prices[split:], dtype=torch.int64), ticks, torch.tensor(list(state)))
    rest = [min(split, len(prices)) + end for end in found.tolist()]
    assert (ends + rest, tuple(after.tolist())) == brute(prices, ticks)


def test_a_bar_closes_when_it_spans_the_range_and_the_next_starts_afresh():
    assert fold([100, 103, 98, 99, 104, 105, 100], 5, [(0, 7)]) == ([3, 5, 7], EMPTY)
    assert fold([100, 103, 98, 99, 103, 102], 5, [(0, 6)]) == ([3], (103, 99))


def test_a_jump_of_35_ranges_closes_one_bar():
    assert fold([10, 360, 360, 10], 10, [(0, 4)]) == ([2, 4], EMPTY)


def test_a_price_that_stands_still_closes_nothing_and_one_tick_is_the_least():
    assert fold([7] * 9, 1, [(0, 9)]) == ([], (7, 7))
    assert fold([7, 7, 8, 8, 7], 1, [(0, 5)]) == ([3, 5], EMPTY)


def test_outputs_are_written_and_fresh(monkeypatch):
    prices, state = torch.tensor([5, 9, 5]), torch.tensor([8, 6])
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    ends, after = range_ends(prices, 3, state)
    assert (ends.tolist(), after.tolist(), state.tolist()) == ([1, 3], list(EMPTY), [8, 6])
    ends, after = range_ends(prices[:0], 3, state)
    assert (ends.tolist(), after.tolist()) == ([], [8, 6])
    assert after.data_ptr() != state.data_ptr()


@pytest.mark.parametrize("ticks", [0, -1, 2**62])
def test_a_range_out_of_bounds_is_refused(ticks):
    with pytest.raises(ValueError, match=r"ticks must be in \[1, 2\^62\), got"):
        range_ends(torch.tensor([1]), ticks, new_state())


def test_wrong_inputs_are_refused():
    with pytest.raises(TypeError, match=r"price_ticks must be a tensor of torch.int64, got torch.float64"):
        range_ends(torch.tensor([1.0], dtype=torch.float64), 9, new_state())
    with pytest.raises(ValueError, match=r"state must have shape \[2\], got \[1\]"):
        range_ends(torch.tensor([1]), 9, torch.tensor([0]))
    with pytest.raises(ValueError, match="on one device"):
        range_ends(torch.tensor([1]), 9, new_state("meta"))


def test_the_op_keeps_its_contract_with_torch():
    torch.library.opcheck(module._range_ends, (torch.tensor([4, 5, 9]), 3, torch.tensor([4, 4])))


def small_prices(draw, rows):
    kind = draw.integers(0, 4)
    steps = (draw.integers(-3, 4, rows), draw.integers(0, 2, rows) * 40, draw.integers(-1, 2, rows) * 9, np.ones(rows))
    return 1_000 + np.cumsum(steps[kind]).astype(np.int64)


def check_blocks(seed, trials, sizes):
    draw = np.random.default_rng(seed)
    for trial in range(trials):
        rows, ticks = int(draw.choice(sizes)), int(draw.choice([1, 2, 4, 9, 30, 2**61]))
        prices = small_prices(draw, rows)
        start = int(draw.integers(990, 1_010))
        opened = EMPTY if draw.random() < 0.5 else (start, start - int(draw.integers(0, min(ticks, 9))))
        ends, state = launch_range_ends(prices, ticks, np.array(opened))
        assert (ends.tolist(), tuple(state.tolist())) == brute(prices.tolist(), ticks, opened), trial


@pytest.mark.sim
def test_two_hundred_streams_in_tiny_blocks_are_the_rule():
    check_blocks(17, 200, [0, 1, 2, 3, 4, 7, 8, 9, 17])


@pytest.mark.sim
@pytest.mark.slow
def test_many_streams_in_tiny_blocks_are_the_rule():
    check_blocks(18, 600, [24, 31, 50, 64])


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [0, 1, 2047, 2048, 2049, 99_991, 1_000_000])
@pytest.mark.parametrize("ticks", [1, 5, 40, 3_000])
def test_cuda_is_the_cpu(rows, ticks):
    steps = torch.randint(-3, 4, (rows,), generator=torch.Generator().manual_seed(rows))
    prices = 1_000_000 + torch.cumsum(steps, 0)
    state = torch.tensor([1_000_000, 1_000_000 - ticks + 1])
    expected = range_ends(prices, ticks, state)
    for _ in range(2):
        got = range_ends(prices.cuda(), ticks, state.cuda())
        assert all(torch.equal(a, b.cpu()) for a, b in zip(expected, got, strict=True))
