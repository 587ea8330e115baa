"""The tick rule against a plain walk over Python's integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.tick_signs as module
from kernels.tick_signs import initial_state, launch_tick_signs, tick_signs


def by_hand(prices):
    """For each trade, the direction of the nearest earlier trade whose price differs from its successor's."""
    signs = []
    for row in range(len(prices)):
        change = next((step for step in range(row, 0, -1) if prices[step] != prices[step - 1]), None)
        signs.append(0 if change is None else 1 if prices[change] > prices[change - 1] else -1)
    return signs


def fold(prices, spans):
    state, signs = initial_state(), []
    for begin, stop in spans:
        found, state = tick_signs(torch.tensor(prices[begin:stop], dtype=torch.int64), state)
        assert found.dtype == torch.int8
        signs += found.tolist()
    return signs, state.tolist()


@given(
    prices=st.lists(st.one_of(st.integers(-2, 3), st.sampled_from([2**63 - 1, 1 - 2**63])), max_size=40),
    cuts=st.lists(st.integers(0, 10**6), max_size=6),
)
def test_any_chunking_is_the_rule(chunks_of, prices, cuts):
    expected = by_hand(prices)
    for spans in (chunks_of(len(prices), cuts), [(row, row + 1) for row in range(len(prices))]):
        signs, state = fold(prices, spans)
        assert signs == expected
        assert state == ([prices[-1], expected[-1]] if prices else initial_state().tolist())


def test_the_first_price_says_nothing_and_equal_prices_keep_the_sign():
    assert fold([5, 5, 6, 6, 6, 4, 4, 9], [(0, 8)]) == ([0, 0, 1, 1, 1, -1, -1, 1], [9, 1])


def test_outputs_are_written_and_fresh(monkeypatch):
    prices, state = torch.tensor([7, 7, 8]), torch.tensor([9, 1])
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    signs, after = tick_signs(prices, state)
    assert (signs.tolist(), after.tolist(), state.tolist()) == ([-1, -1, 1], [8, 1], [9, 1])
    signs, after = tick_signs(prices[:0], state)
    assert signs.tolist() == [] and after.equal(state) and after.data_ptr() != state.data_ptr()


def test_wrong_inputs_are_refused():
    with pytest.raises(TypeError, match=r"price_ticks must be a tensor of torch.int64, got torch.float64"):
        tick_signs(torch.tensor([1.0], dtype=torch.float64), initial_state())
    with pytest.raises(ValueError, match=r"state must have shape \[2\], got \[1\]"):
        tick_signs(torch.tensor([1]), torch.tensor([1]))


def test_the_op_keeps_its_contract_with_torch():
    torch.library.opcheck(module._tick_signs, (torch.tensor([4, 5, 1]), torch.tensor([4, -1])))


@pytest.mark.sim
def test_segments_compose_to_the_rule():
    draw = np.random.default_rng(19)
    for trial in range(40):
        rows = int(draw.choice([0, 1, 3, 4, 5, 16, 17, 40, 70]))
        prices = np.cumsum(draw.choice([-1, 0, 1], rows, p=[0.05, 0.9, 0.05])).astype(np.int64)
        state = np.array([[int(draw.integers(-1, 2)), int(draw.integers(-1, 2))], [module.NO_PRICE, 0]][trial % 2])
        sign = np.full(rows, -77, np.int8)
        after = launch_tick_signs(prices, state, sign)
        expected, last = tick_signs_of(prices.tolist(), state.tolist())
        assert (sign.tolist(), after.tolist()) == (expected, last), trial


def tick_signs_of(prices, state):
    """`by_hand` with trades before: their last price, reached by a change of the last sign."""
    known = state[0] != module.NO_PRICE
    before = [state[0] - state[1], state[0]] if known else []
    signs = by_hand([*before, *prices])[len(before) :]
    return signs, [prices[-1], signs[-1]] if prices else state


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [0, 1, 255, 256, 257, 99_991, 1_000_000])
def test_cuda_is_the_cpu(rows):
    moves = torch.randint(-9, 10, (rows,), generator=torch.Generator().manual_seed(rows))
    prices = torch.cumsum(torch.where(moves.abs() > 8, moves, 0), 0)
    for state in (initial_state(), torch.tensor([0, -1])):
        expected = tick_signs(prices, state)
        for _ in range(2):
            got = tick_signs(prices.cuda(), state.cuda())
            assert all(torch.equal(a, b.cpu()) for a, b in zip(expected, got, strict=True))
