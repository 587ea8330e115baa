"""Carry bars against floor(cumulative / threshold) in Python's integers."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.carry_ends as module
from kernels.carry_ends import carry_ends, launch_carry_ends

THRESHOLDS = st.one_of(st.integers(1, 40), st.integers(2**61, 2**62 - 1), st.just(5_000_000_000_000))


@st.composite
def streams(draw):
    threshold = draw(THRESHOLDS)
    edge = st.sampled_from([0, 1, threshold - 1, threshold, threshold + 1, threshold // 2, threshold // 3])
    huge = st.sampled_from([min(35 * threshold, 2**63 - 1), 2**62 - 1, 2**62, 2**63 - 1])
    small = st.integers(0, threshold)
    return threshold, draw(st.lists(st.one_of(edge, small, huge), max_size=40))


def brute(amounts, threshold, carried=0):
    sums = list(accumulate(amounts, initial=carried))
    ends = [row + 1 for row in range(len(amounts)) if sums[row + 1] // threshold > sums[row] // threshold]
    return ends, sums[-1] % threshold


def fold(amounts, threshold, spans):
    state, ends = torch.zeros(1, dtype=torch.int64), []
    for begin, stop in spans:
        found, state = carry_ends(torch.tensor(amounts[begin:stop], dtype=torch.int64), threshold, state)
        ends += [begin + end for end in found.tolist()]
    return ends, state.item()


@given(stream=streams(), cuts=st.lists(st.integers(0, 10**6), max_size=6))
def test_any_chunking_is_the_rule(chunks_of, stream, cuts):
    threshold, amounts = stream
    expected = brute(amounts, threshold)
    assert fold(amounts, threshold, chunks_of(len(amounts), cuts)) == expected
    assert fold(amounts, threshold, [(row, row + 1) for row in range(len(amounts))]) == expected


def test_a_trade_of_35_thresholds_closes_one_bar_and_carries_the_rest():
    assert fold([1, 352, 6, 1], 10, [(0, 4)]) == ([2, 4], 0)


def test_sums_past_two_to_the_64_close_where_they_should():
    amounts = [2**62 + 1] * 9
    assert fold(amounts, 2**62 - 1, [(0, 4), (4, 9)]) == (list(range(1, 10)), 18)


def test_outputs_are_written_and_fresh(monkeypatch):
    amounts, state = torch.tensor([5, 5, 5]), torch.tensor([4])
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    ends, after = carry_ends(amounts, 9, state)
    assert (ends.tolist(), after.tolist(), state.tolist()) == ([1, 3], [1], [4])
    ends, after = carry_ends(amounts[:0], 9, state)
    assert (ends.tolist(), after.tolist()) == ([], [4])
    assert after.data_ptr() != state.data_ptr()


@pytest.mark.parametrize("threshold", [0, -1, 2**62])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold must be in \[1, 2\^62\)"):
        carry_ends(torch.tensor([1]), threshold, torch.tensor([0]))


def test_wrong_inputs_are_refused():
    with pytest.raises(ValueError, match="carry_ends: amount must not be negative, it is at row 1"):
        carry_ends(torch.tensor([1, -2, -3]), 9, torch.tensor([0]))
    with pytest.raises(TypeError, match=r"carry_ends: state must be a tensor of torch\.int64, got int"):
        carry_ends(torch.tensor([1]), 9, 0)
    with pytest.raises(ValueError, match=r"amount must have shape \['any'\], got \[1, 1\]"):
        carry_ends(torch.tensor([[1]]), 9, torch.tensor([0]))


def test_the_op_keeps_its_contract_with_torch():
    torch.library.opcheck(module._carry_ends, (torch.tensor([4, 5, 1]), 7, torch.tensor([2])))


def follow(trials):
    for trial in trials:
        draw = np.random.default_rng(trial)
        threshold = int(draw.choice([1, 7, 30, 200, 2**62 - 1]))
        rows = int(draw.choice([0, 1, 2, 7, 8, 9, 15, 16, 17])) if trial % 20 else 41
        amounts = draw.integers(0, draw.choice([1, threshold, min(3 * threshold, 2**63 - 2)]) + 1, rows)
        if trial % 3 == 1:
            amounts[draw.random(rows) < 0.8] = 0
        amounts[draw.random(rows) < 0.1] = min(35 * threshold, 2**63 - 1)
        carried = int(draw.integers(0, threshold))
        ends, state = launch_carry_ends(amounts, threshold, np.array([carried]))
        assert (ends.tolist(), state.tolist()[0]) == brute(amounts.tolist(), threshold, carried), trial


@pytest.mark.sim
def test_blocks_compose_to_the_rule():
    assert module.BLOCK_ROWS == 8
    follow(range(200))


@pytest.mark.sim
@pytest.mark.slow
def test_many_more_streams_in_the_simulator():
    follow(range(200, 2000))


@pytest.mark.sim
def test_the_launcher_refuses_negative_amounts():
    with pytest.raises(ValueError, match="must not be negative, it is at row 9"):
        launch_carry_ends(np.array([1] * 9 + [-1] * 9), 4, np.array([0]))


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [0, 1, 31, 4095, 4096, 4097, 99_991, 5_000_000])
@pytest.mark.parametrize("threshold", [1, 60_000, 5_000_000, 2**61])
def test_cuda_is_the_cpu(rows, threshold):
    amounts = torch.randint(0, 1000, (rows,), generator=torch.Generator().manual_seed(rows))
    expected = carry_ends(amounts, threshold, torch.tensor([threshold // 3]))
    for _ in range(2):
        got = carry_ends(amounts.cuda(), threshold, torch.tensor([threshold // 3]).cuda())
        assert all(torch.equal(a, b.cpu()) for a, b in zip(expected, got, strict=True))
