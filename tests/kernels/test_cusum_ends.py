"""Cusum bars against de Prado's filter (AFML, snippet 2.4) on integer logarithms made by Python's decimal."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.cusum_ends as module
from kernels._spans import NO_HIGH, NO_LOW
from kernels.cusum_ends import NotPositive, cusum_ends, launch_cusum_ends, new_state, spans_of_logs, spec

DIGITS = Context(prec=50, rounding=ROUND_HALF_EVEN)


@cache
def log_of(ticks: int) -> int:
    return int((DIGITS.ln(Decimal(ticks)) * 10**9).to_integral_value(ROUND_HALF_EVEN))


def snippet(prices, threshold, last=None, up=0, down=0):
    """The filter as printed; returns (ends, y of the last trade, S+, S-)."""
    ends = []
    for row, price in enumerate(prices):
        y = log_of(price)
        move = 0 if last is None else y - last
        up, down, last = max(0, up + move), min(0, down + move), y
        if down <= -threshold:
            down = 0
            ends.append(row + 1)
        elif up >= threshold:
            up = 0
            ends.append(row + 1)
    return ends, last, up, down


def sides(state, last):
    """S+ and S- of a state, given the last y."""
    return (0, 0) if last is None else (last - state[1], last - state[0])


def fold(prices, threshold, spans):
    state, ends = new_state(), []
    for begin, stop in spans:
        found, state = cusum_ends(torch.tensor(prices[begin:stop], dtype=torch.int64), threshold, state)
        ends += [begin + end for end in found.tolist()]
    return ends, state.tolist()


THRESHOLDS = st.one_of(
    st.sampled_from([1, log_of(2), log_of(3) - log_of(2), 10 * log_of(2), 2**62 - 1]), st.integers(1, 10**8)
)


@st.composite
def streams(draw):
    start = draw(st.sampled_from([1, 2, 100, 9_700_000, 2**40, 2**61]))
    step = st.one_of(st.integers(-3, 3), st.sampled_from([-start // 2, start // 3, start, -start, start // 100]))
    prices, price = [], start
    for move in draw(st.lists(step, max_size=40)):
        price = min(max(1, price + move), 2**63 - 1)
        prices.append(price)
    return draw(THRESHOLDS), prices


@given(stream=streams(), cuts=st.lists(st.integers(0, 10**6), max_size=6))
def test_any_chunking_is_the_filter(chunks_of, stream, cuts):
    threshold, prices = stream
    ends, last, up, down = snippet(prices, threshold)
    for spans in (chunks_of(len(prices), cuts), [(row, row + 1) for row in range(len(prices))]):
        found, state = fold(prices, threshold, spans)
        assert (found, sides(state, last)) == (ends, (up, down))


@given(stream=streams())
def test_the_form_that_knows_one_span_is_the_plain_loop_with_two_sides(stream):
    threshold, prices = stream
    array, start = np.array(prices, np.int64), new_state().numpy()
    written = np.zeros((2, len(prices)), np.int64)
    assert spec(array, threshold, start, written[0]) == spans_of_logs(array, threshold, start, written[1])
    assert written[0].tolist() == written[1].tolist()


def test_a_long_walk_is_the_filter():
    steps = np.random.default_rng(5).integers(-40, 41, 20_000)
    prices = (970_000 + np.cumsum(steps)).tolist()
    for threshold in (20_000, 100_000, 400_000):
        ends, last, up, down = snippet(prices, threshold)
        found, state = fold(prices, threshold, [(0, 7_000), (7_000, 7_001), (7_001, 20_000)])
        assert len(ends) > 5
        assert (found, sides(state, last)) == (ends, (up, down))


def test_only_the_side_that_closed_starts_again():
    """100 -> 110 closes upwards; the fall to 99 is measured from 110 by S-, and the rise after it from 99 by S+."""
    threshold = log_of(110) - log_of(100)
    assert fold([100, 105, 110, 112, 100, 99], threshold, [(0, 6)])[0] == [3, 5]
    assert fold([110, 104, 109, 100, 99], threshold, [(0, 5)])[0] == [4]
    assert fold([100, 110, 121], threshold, [(0, 3)])[0] == [2, 3]


def test_a_move_equal_to_the_threshold_closes_and_one_less_does_not():
    move = log_of(101) - log_of(100)
    assert fold([100, 101], move, [(0, 2)])[0] == [2]
    assert fold([100, 101], move + 1, [(0, 2)])[0] == []
    assert fold([101, 100], move, [(0, 2)])[0] == [2]


def test_the_first_trade_moves_nothing():
    assert fold([5], 1, [(0, 1)]) == ([], [log_of(5)] * 2)


def test_outputs_are_written_and_fresh(monkeypatch):
    prices, state = torch.tensor([100, 200, 100]), new_state()
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    ends, after = cusum_ends(prices, 10**8, state)
    assert (ends.tolist(), after.tolist(), state.tolist()) == ([2, 3], [log_of(100)] * 2, [NO_HIGH, NO_LOW])
    ends, kept = cusum_ends(prices[:0], 10**8, after)
    assert (ends.tolist(), kept.tolist()) == ([], after.tolist())
    assert kept.data_ptr() != after.data_ptr()


@pytest.mark.parametrize("threshold", [0, -1, 2**62])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold must be in \[1, 2\^62\) steps of 1e-9, got"):
        cusum_ends(torch.tensor([1]), threshold, new_state())


@pytest.mark.parametrize("price", [0, -5])
def test_prices_without_a_logarithm_are_refused_with_their_row(price):
    with pytest.raises(NotPositive, match="a price must be above 0, it is not at row 2 of the chunk") as caught:
        cusum_ends(torch.tensor([7, 7, price, -9]), 100, new_state())
    assert caught.value.row == 2


def test_wrong_inputs_are_refused():
    with pytest.raises(TypeError, match=r"price_ticks must be a tensor of torch.int64, got torch.float64"):
        cusum_ends(torch.tensor([1.0], dtype=torch.float64), 9, new_state())
    with pytest.raises(ValueError, match=r"state must have shape \[2\], got \[1\]"):
        cusum_ends(torch.tensor([1]), 9, torch.tensor([0]))
    with pytest.raises(ValueError, match="on one device"):
        cusum_ends(torch.tensor([1]), 9, new_state("meta"))


def test_the_op_keeps_its_contract_with_torch():
    torch.library.opcheck(module._cusum_ends, (torch.tensor([4, 5, 9]), 10**8, new_state()))


def small_prices(draw, rows):
    steps = (draw.integers(-3, 4, rows), draw.integers(-1, 2, rows) * 90, np.ones(rows), -np.ones(rows))
    return 1_000 + np.cumsum(steps[draw.integers(0, 4)]).astype(np.int64)


def check_blocks(seed, trials, sizes):
    draw = np.random.default_rng(seed)
    for trial in range(trials):
        threshold = int(draw.choice([1, 2_000_000, 5_000_000, 9_000_000, 90_000_000, 2**61]))
        before = small_prices(draw, int(draw.integers(0, 6))).tolist()
        prices = np.maximum(small_prices(draw, int(draw.choice(sizes))), 1)
        _, last, up, down = snippet(before, threshold)
        start = new_state().numpy() if last is None else np.array([last - down, last - up])
        ends, last, up, down = snippet(prices.tolist(), threshold, last, up, down)
        found, state = launch_cusum_ends(prices, threshold, start)
        assert (found.tolist(), sides(state.tolist(), last)) == (ends, (up, down)), trial


@pytest.mark.sim
def test_two_hundred_streams_in_tiny_blocks_are_the_filter():
    check_blocks(19, 200, [0, 1, 2, 3, 4, 7, 8, 9, 17])


@pytest.mark.sim
@pytest.mark.slow
def test_many_streams_in_tiny_blocks_are_the_filter():
    check_blocks(20, 600, [24, 31, 50, 64])


@pytest.mark.sim
def test_the_launcher_refuses_prices_without_a_logarithm():
    with pytest.raises(NotPositive, match="row 9 of the chunk"):
        launch_cusum_ends(np.array([5] * 9 + [0] * 3 + [-1]), 100, new_state().numpy())


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [0, 1, 2047, 2048, 2049, 99_991, 1_000_000])
@pytest.mark.parametrize("threshold", [1, 20_000, 5_000_000])
def test_cuda_is_the_cpu(rows, threshold):
    steps = torch.randint(-300, 301, (rows,), generator=torch.Generator().manual_seed(rows))
    prices = 9_700_000 + torch.cumsum(steps, 0).clamp(min=-9_000_000)
    expected = cusum_ends(prices, threshold, new_state())
    for _ in range(2):
        got = cusum_ends(prices.cuda(), threshold, new_state("cuda"))
        assert all(torch.equal(a, b.cpu()) for a, b in zip(expected, got, strict=True))
