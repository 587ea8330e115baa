"""Imbalance bars against their definition in Python's integers and floats, to the last bit of the expectations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.imbalance_ends as module
from kernels._expectations import CAP, COUNTING, ROOM, check_rule, power, threshold_near
from kernels.imbalance_ends import imbalance_ends, initial_state, launch_imbalance_ends
from tests.kernels import expectations
from tests.kernels.expectations import STREAMS, Rule, draw_rule, ends_by_hand

OFFSET = True


def fold(signed, rule, spans):
    """Ends counted from the first trade and the words of the state, from chunks of the op."""
    state, ends = initial_state(rule.expected_ticks, rule.expected), []
    for begin, stop in spans:
        amount, sign = expectations.columns(signed[begin:stop])
        found, state = imbalance_ends(amount, sign, *rule.keys, state)
        ends += [begin + end for end in found.tolist()]
    return ends, state.tolist()


def test_ten_thousand_streams_are_the_rule():
    draw = np.random.default_rng(1)
    for trial in range(10_000):
        rule = draw_rule(draw)
        signed = STREAMS[trial % len(STREAMS)](draw, int(draw.integers(0, 26)))
        expected = ends_by_hand(signed, rule, OFFSET)[:2]
        cut = int(draw.integers(0, len(signed) + 1))
        assert fold(signed, rule, [(0, cut), (cut, len(signed))]) == expected, trial


@given(
    signed=st.lists(st.one_of(st.integers(-3, 3), st.integers(1 - 2**63, 2**63 - 1)), max_size=40),
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 10**6), max_size=6),
)
def test_any_chunking_is_the_rule(chunks_of, signed, seed, cuts):
    rule = draw_rule(np.random.default_rng(seed))
    expected = ends_by_hand(signed, rule, OFFSET)[:2]
    assert fold(signed, rule, chunks_of(len(signed), cuts)) == expected
    assert fold(signed, rule, [(row, row + 1) for row in range(len(signed))]) == expected


def test_figures_that_fit_on_paper():
    # a = 1/2 and a decay of 1/2 a trade; E_T = 4 and E_v = 2 make the first threshold 8.
    rule = Rule(2, 6, 3, 3, 4, 2.0)
    ends, words = fold([9, 1, -4, -4, 0, 0, 0, 0, 3, 3], rule, [(0, 10)])
    # Bar 1 waits for min_ticks: n = 2, theta = 10: E_T = 3, E_v = 2/4 + 3/4 * 5 = 4.25, threshold 12.75 -> 13.
    # Bar 2 closes at max_ticks: n = 6, theta = -8: E_T = 4.5, E_v = (4.25 + 63 * -4/3) / 64, threshold 5.607 -> 6.
    assert ends == [2, 8, 10]
    second = (4.25 + 63 * (-8 / 6)) / 64
    assert threshold_near(4.5 * abs(second)) == 6
    # Bar 3: n = 2, theta = 6: E_T = 3.25, E_v = second / 4 + 3/4 * 3.
    mean = second / 4 + 2.25
    assert words[:3] == [0, round(3.25 * mean), 0]
    floats = torch.tensor(words[3:]).view(torch.float64)
    assert floats[0] == 3.25 and abs(floats[1] - mean) < 1e-15


def test_without_an_expectation_the_first_bar_closes_by_count():
    rule = Rule(2, 50, 3, 3, 5)
    ends, words = fold([100, 100, 100, 100, -390, 9, 1], rule, [(0, 3), (3, 7)])
    # Its theta / n is 2, so the threshold becomes 5 * 2.
    assert ends == [5, 7]
    assert initial_state(5, None).tolist()[:3] == [0, COUNTING, 0]
    assert words[1] == threshold_near(3.5 * (2 / 4 + 0.75 * 5))


@pytest.mark.parametrize("kind", expectations.ADVERSARIES)
@pytest.mark.parametrize("seed", range(3))
def test_bars_and_thresholds_stay_within_their_bounds(kind, seed):
    signed = expectations.ADVERSARIES[kind](5_000)
    rule = draw_rule(np.random.default_rng(seed))
    expected, _, thresholds = ends_by_hand(signed, rule, OFFSET)
    ends, words = fold(signed, rule, [(0, 1_234), (1_234, 5_000)])
    assert ends == expected
    lengths = np.diff([0, *ends])
    assert lengths.min() >= rule.min_ticks and lengths.max() <= rule.max_ticks
    assert len(ends) >= 5_000 // rule.max_ticks
    most = max(1, *(min(abs(value), CAP) for value in signed))
    assert all(1 <= threshold <= min(rule.max_ticks * most, CAP) for threshold in [*thresholds, words[1]])


def test_theta_stops_at_the_cap_instead_of_wrapping():
    rule = Rule(6, 100, 10, 10, 10, 1.0)
    huge = 2**63 - 1
    state = fold([huge] * 5, rule, [(0, 5)])[1]
    assert state[:3] == [5, 10, CAP]
    assert fold([-huge] * 5, rule, [(0, 5)])[1][2] == -CAP
    ends, words = fold([huge] * 6, rule, [(0, 6)])
    assert ends == [6] and words[1] == CAP


def test_no_end_depends_on_a_later_trade():
    draw = np.random.default_rng(8)
    rule, signed = Rule(3, 60, 20, 10, 20), STREAMS[1](draw, 2_000)
    whole, _ = fold(signed, rule, [(0, 2_000)])
    for stop in (1, 2, 777, 1_999):
        assert fold(signed, rule, [(0, stop)])[0] == [end for end in whole if end <= stop]


def test_one_amount_counts_for_every_trade():
    sign = torch.from_numpy(np.random.default_rng(2).integers(-1, 2, 3_000).astype(np.int8))
    each, rule = torch.full((3_000,), 7), (5, 200, 20, 30)
    one = imbalance_ends(torch.tensor([7]), sign, *rule, initial_state(50, None))
    assert all(map(torch.equal, one, imbalance_ends(each, sign, *rule, initial_state(50, None))))


def test_outputs_are_written_and_fresh(monkeypatch):
    amount, sign, state = torch.tensor([5] * 5), torch.ones(5, dtype=torch.int8), initial_state(2, 5.0)
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    kept = state.clone()
    ends, after = imbalance_ends(amount, sign, 1, 9, 3, 3, state)
    assert ends.tolist() == [2, 4] and state.equal(kept) and not after.equal(kept)
    ends, after = imbalance_ends(amount[:0], sign[:0], 1, 9, 3, 3, state)
    assert ends.tolist() == [] and after.equal(state) and after.data_ptr() != state.data_ptr()


def test_a_strided_column_is_taken():
    table = torch.tensor([[5, 0], [5, 0], [5, 0]])
    sign = torch.ones(3, dtype=torch.int8)
    assert imbalance_ends(table[:, 0], sign, 1, 9, 3, 3, initial_state(2, 5.0))[0].tolist() == [2]


def test_wrong_inputs_are_refused():
    amount, sign, state = torch.tensor([1, 2, 3]), torch.ones(3, dtype=torch.int8), initial_state(2, 5.0)
    for bounds in ((0, 5), (6, 5), (1, 2**53 + 1)):
        with pytest.raises(ValueError, match=r"1 <= min_ticks <= max_ticks <= 2\^53 is the rule, got"):
            imbalance_ends(amount, sign, *bounds, 3, 3, state)
    for spans, name in (((0, 3), "span_bars"), ((3, 0), "span_ticks")):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            imbalance_ends(amount, sign, 1, 5, *spans, state)
    with pytest.raises(ValueError, match=r"amount must have one value per sign \(3\) or one, got 2"):
        imbalance_ends(amount[:2], sign, 1, 5, 3, 3, state)
    with pytest.raises(TypeError, match=r"sign must be a tensor of torch.int8, got torch.int64"):
        imbalance_ends(amount, amount, 1, 5, 3, 3, state)
    with pytest.raises(ValueError, match=r"state must have shape \[5\], got \[7\]"):
        imbalance_ends(amount, sign, 1, 5, 3, 3, torch.zeros(7, dtype=torch.int64))
    with pytest.raises(ValueError, match="on one device"):
        imbalance_ends(amount, sign, 1, 5, 3, 3, state.to("meta"))
    with pytest.raises(ValueError, match=r"expected_ticks must be in \[1, 2\^53\], got 0"):
        initial_state(0, 1.0)
    with pytest.raises(ValueError, match="must be finite, got inf; None measures it"):
        initial_state(1, float("inf"))


@pytest.mark.parametrize("value", [0.0, 0.49, 1.4999999, 1.5, 2.5, 4503599627370497.5, 2.0**61, 2.0**62, 1e300])
def test_a_threshold_is_the_nearest_integer_within_its_bounds(value):
    assert threshold_near(value) == expectations.nearest(value)


@pytest.mark.parametrize("span", [1, 2, 500, 10**6])
def test_the_decay_of_a_bar_has_the_bits_of_repeated_squaring(span):
    decay = check_rule("test", 1, 1, 1, span)[1]
    for exponent in (1, 2, 3, 63, 64, 10_007):
        assert power(decay, exponent) == expectations.power(decay, exponent)
        assert power(decay, exponent) == pytest.approx(decay**exponent, rel=1e-11)


def test_the_op_keeps_its_contract_with_torch():
    arguments = (torch.tensor([4, 5, 1]), torch.ones(3, dtype=torch.int8), 1, 5, 0.5, 0.5, initial_state(2, 3.0))
    torch.library.opcheck(module._imbalance_ends, arguments)


def columns_of(signed):
    return [column.numpy() for column in expectations.columns(signed)]


def keys_of(rule):
    return rule.min_ticks, rule.max_ticks, *check_rule("test", *rule.keys)


def launched(signed, rule, words):
    """Ends and words of the state after, from the kernel in the simulator."""
    means = words[module.MEANS :].view(np.float64)
    ends = launch_imbalance_ends(*columns_of(signed), keys_of(rule), words, means)
    return ends.tolist(), words.tolist()


def check_tiles(seed, trials, rows):
    draw = np.random.default_rng(seed)
    for trial in range(trials):
        rule = draw_rule(draw)
        signed = STREAMS[trial % len(STREAMS)](draw, int(draw.choice(rows)))
        words = initial_state(rule.expected_ticks, rule.expected).numpy()
        assert launched(signed, rule, words) == ends_by_hand(signed, rule, OFFSET)[:2], trial


@pytest.mark.sim
def test_a_state_of_longer_bars_closes_at_once():
    rule, words = Rule(2, 3, 5, 5, 3, 1.0), initial_state(3, 50.0).numpy()
    words[0] = 9
    op = words.copy()
    assert launched([1, 1, 1, 1], rule, words)[0] == [1, 4]
    assert module.spec(*columns_of([1] * 4), 0, keys_of(rule), op, op[module.MEANS :].view(np.float64), [0] * 3, 0) == 2
    assert op.tolist() == words.tolist()


@pytest.mark.sim
def test_tiles_compose_to_the_rule():
    check_tiles(17, 200, [0, 1, 7, 8, 9, 16, 17])


@pytest.mark.sim
@pytest.mark.slow
def test_many_tiles_compose_to_the_rule():
    check_tiles(18, 600, [24, 31, 50, 64])


@pytest.mark.sim
@pytest.mark.parametrize("amounts", [[ROOM] * 20, [ROOM + 1] * 20, [1] * 9 + [2**63 - 1] * 12 + [-3] * 9])
def test_tiles_that_running_sums_may_not_hold_are_walked(amounts):
    for rule in (Rule(14, 50, 10, 10, 20), Rule(1, 50, 10, 10, 20, float(ROOM)), Rule(3, 50, 10, 10, 20, 2.0)):
        words = initial_state(rule.expected_ticks, rule.expected).numpy()
        assert launched(amounts, rule, words) == ends_by_hand(amounts, rule, OFFSET)[:2]


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [0, 1, 2047, 2048, 2049, 99_991, 1_000_000])
@pytest.mark.parametrize("expected", [None, 30.0])
def test_cuda_is_the_cpu(rows, expected):
    random = torch.Generator().manual_seed(rows)
    amount = torch.randint(0, 1000, (rows,), generator=random)
    sign = torch.randint(-1, 2, (rows,), generator=random).to(torch.int8)
    for rule in ((10, 5_000, 50, 100), (1, 40, 3, 7), (2_000, 9_000, 100, 2_000)):
        state = initial_state(max(rule[0], 30), expected)
        wanted = imbalance_ends(amount, sign, *rule, state)
        for _ in range(2):
            got = imbalance_ends(amount.cuda(), sign.cuda(), *rule, state.cuda())
            assert all(torch.equal(a, b.cpu()) for a, b in zip(wanted, got, strict=True))
