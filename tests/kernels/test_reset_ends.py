"""Reset bars against a brute force in Python's integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels._reset_levels as levels
import kernels.reset_ends as module
from kernels.reset_ends import launch_reset_ends, reset_ends

THRESHOLDS = st.one_of(st.integers(1, 40), st.integers(2**61, 2**62 - 1), st.just(5_000_000_000_000))


@st.composite
def streams(draw):
    threshold = draw(THRESHOLDS)
    edge = st.sampled_from([0, 1, threshold - 1, threshold, threshold + 1, threshold // 2, threshold // 3])
    huge = st.sampled_from([min(35 * threshold, 2**63 - 1), 2**62 - 1, 2**62, 2**63 - 1])
    small = st.integers(0, threshold)
    return threshold, draw(st.lists(st.one_of(edge, small, huge), max_size=40))


def brute(amounts, threshold, total=0):
    ends = []
    for row, amount in enumerate(amounts):
        total += amount
        if total >= threshold:
            ends.append(row + 1)
            total = 0
    return ends, total


def fold(amounts, threshold, spans):
    state, ends = torch.zeros(1, dtype=torch.int64), []
    for begin, stop in spans:
        found, state = reset_ends(torch.tensor(amounts[begin:stop], dtype=torch.int64), threshold, state)
        ends += [begin + end for end in found.tolist()]
    return ends, state.item()


@given(stream=streams(), cuts=st.lists(st.integers(0, 10**6), max_size=6))
def test_any_chunking_is_the_rule(chunks_of, stream, cuts):
    threshold, amounts = stream
    expected = brute(amounts, threshold)
    assert fold(amounts, threshold, chunks_of(len(amounts), cuts)) == expected
    assert fold(amounts, threshold, [(row, row + 1) for row in range(len(amounts))]) == expected


def test_bars_and_state_hold_every_lot():
    amounts = np.random.default_rng(3).integers(0, 1000, 5000)
    ends, state = reset_ends(torch.from_numpy(amounts), 7777, torch.zeros(1, dtype=torch.int64))
    bars = np.add.reduceat(amounts, [0, *ends[:-1].tolist()])
    bars[-1] = amounts[ends[-2] : ends[-1]].sum()
    assert (bars >= 7777).all()
    assert bars.sum() + state.item() == amounts.sum()


def test_a_sum_equal_to_the_threshold_closes_and_zeros_do_not():
    assert fold([0, 3, 0, 5, 0, 0, 8, 0], 8, [(0, 8)]) == ([4, 7], 0)


def test_a_trade_of_35_thresholds_closes_one_bar_and_restarts_at_zero():
    assert fold([1, 350, 9, 1], 10, [(0, 4)]) == ([2, 4], 0)


def test_a_prefix_sum_would_wrap_but_the_rule_does_not():
    amounts = [2**62 - 1] * 12
    assert fold(amounts, 2**62 - 1, [(0, 5), (5, 12)]) == (list(range(1, 13)), 0)


def test_outputs_are_written_and_fresh(monkeypatch):
    amounts, state = torch.tensor([5, 5, 5]), torch.tensor([4])
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    ends, after = reset_ends(amounts, 9, state)
    assert (ends.tolist(), after.tolist(), state.tolist()) == ([1, 3], [0], [4])
    ends, after = reset_ends(amounts[:0], 9, state)
    assert (ends.tolist(), after.tolist()) == ([], [4])
    assert after.data_ptr() != state.data_ptr()


@pytest.mark.parametrize("threshold", [0, -1, 2**62])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold must be in \[1, 2\^62\)"):
        reset_ends(torch.tensor([1]), threshold, torch.tensor([0]))


def test_wrong_inputs_are_refused():
    zero = torch.tensor([0])
    with pytest.raises(ValueError, match="must not be negative, it is at row 2"):
        reset_ends(torch.tensor([1, 2, -3]), 9, zero)
    with pytest.raises(TypeError, match=r"amount must be a tensor of torch.int64, got torch.float64"):
        reset_ends(torch.tensor([1.0], dtype=torch.float64), 9, zero)
    with pytest.raises(ValueError, match=r"state must have shape \[1\], got \[2\]"):
        reset_ends(torch.tensor([1]), 9, torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="on one device"):
        reset_ends(torch.tensor([1]), 9, zero.to("meta"))


def test_the_op_keeps_its_contract_with_torch():
    torch.library.opcheck(module._reset_ends, (torch.tensor([4, 5, 1]), 7, torch.tensor([2])))


def test_a_strided_column_is_taken():
    table = torch.tensor([[5, 0], [5, 0], [5, 0]])
    assert reset_ends(table[:, 0], 10, torch.tensor([0]))[0].tolist() == [2]


def simulated_stream(draw, trial):
    """A small stream of any kind, its threshold, and what is open before it."""
    threshold = int(draw.choice([1, 2, 7, 30, 100, 2**59, module.GPU_THRESHOLD_LIMIT - 1]))
    rows = int(draw.choice([0, 1, 2, 7, 8, 9, 16, 17, 31, 32, 33])) if trial % 10 else 85
    most = int(draw.choice([1, threshold // 12 + 1, threshold // 3 + 1, threshold, min(3 * threshold, 2**62)]))
    amounts = draw.integers(0, most, rows, endpoint=True)
    if trial % 5 == 1:
        amounts[:] = 1
    elif trial % 5 == 2:
        amounts[draw.random(rows) < 0.8] = 0
    elif trial % 5 == 3:
        amounts[draw.random(rows) < 0.1] = min(35 * threshold, 2**63 - 1)
    if rows and draw.random() < 0.3:
        partial = sum(amounts[: draw.integers(1, rows + 1)].tolist())
        threshold = min(max(1, partial), module.GPU_THRESHOLD_LIMIT - 1)
    return amounts, threshold, int(draw.integers(0, threshold))


def follow(trials):
    for trial in trials:
        amounts, threshold, carried = simulated_stream(np.random.default_rng(trial), trial)
        ends, state = launch_reset_ends(amounts, threshold, np.array([carried]))
        assert (ends.tolist(), state.tolist()[0]) == brute(amounts.tolist(), threshold, carried), trial


@pytest.mark.sim
def test_blocks_and_nodes_compose_to_the_rule():
    assert len(levels.widths_of(-(-85 // levels.BLOCK_ROWS))) == 3
    follow(range(200))


@pytest.mark.sim
@pytest.mark.slow
def test_many_more_streams_in_the_simulator():
    follow(range(200, 1500))


@pytest.mark.sim
@pytest.mark.parametrize("threshold", [1, 3, 8, 9, 16, 17, 31, 64, 65, 1000])
def test_bars_that_end_on_every_border_of_blocks_and_nodes(threshold):
    for amounts in ([1] * 67, [0, 2] * 33, [threshold, *[0] * 63, 1, 1]):
        ends, state = launch_reset_ends(np.array(amounts), threshold, np.array([0]))
        assert (ends.tolist(), state.tolist()[0]) == brute(amounts, threshold)


@pytest.mark.sim
def test_an_open_sum_at_the_threshold_closes_at_the_first_row_as_on_the_cpu():
    for carried in (9, 10, 2**63 - 1):
        ends, state = launch_reset_ends(np.array([0, 4, 5, 1]), 9, np.array([carried]))
        assert (ends.tolist(), state.tolist()) == ([1, 3], [1])


@pytest.mark.sim
def test_the_launcher_refuses_what_a_block_cannot_hold():
    with pytest.raises(ValueError, match="on a GPU threshold must be below"):
        launch_reset_ends(np.array([1]), module.GPU_THRESHOLD_LIMIT, np.array([0]))
    with pytest.raises(ValueError, match="must not be negative, it is at row 9"):
        launch_reset_ends(np.array([1] * 9 + [-1] * 9), 4, np.array([0]))


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [0, 1, 2047, 2048, 2049, 99_991, 131_073, 20_000_001])
@pytest.mark.parametrize("threshold", [1, 10_000, 60_000, 500_000, 5_000_000, 100_000_000, 10**12])
@pytest.mark.parametrize("flat", [False, True])
def test_cuda_is_the_cpu(rows, threshold, flat):
    amounts = torch.randint(0, 1000, (rows,), generator=torch.Generator().manual_seed(rows))
    amounts = torch.full_like(amounts, 500) if flat else amounts
    expected = reset_ends(amounts, threshold, torch.tensor([threshold // 3]))
    for _ in range(2):
        got = reset_ends(amounts.cuda(), threshold, torch.tensor([threshold // 3]).cuda())
        assert all(torch.equal(a, b.cpu()) for a, b in zip(expected, got, strict=True))
