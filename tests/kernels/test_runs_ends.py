"""Runs bars against their definition in Python's integers and floats, to the last bit of the expectations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.runs_ends as module
from kernels._expectations import CAP, COUNTING, ROOM, check_rule, threshold_near
from kernels.runs_ends import initial_state, launch_runs_ends, runs_ends
from tests.kernels import expectations
from tests.kernels.expectations import STREAMS, Rule, draw_rule, ends_by_hand

OFFSET = False


def fold(signed, rule, spans):
    """Ends counted from the first trade and the words of the state, from chunks of the op."""
    state, ends = initial_state(rule.expected_ticks, rule.expected), []
    for begin, stop in spans:
        amount, sign = expectations.columns(signed[begin:stop])
        found, state = runs_ends(amount, sign, *rule.keys, state)
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
    # a = 1/2 and a decay of 1/2 a trade; E_T = 4 and e_buy = e_sell = 2 make the first threshold 8.
    rule = Rule(2, 6, 3, 3, 4, 2.0)
    ends, words = fold([9, -1, -4, 2, -4, -1, 0, 1, 3, -3, -3], rule, [(0, 11)])
    # Bar 1 waits for min_ticks: n = 2, B = 9, S = 1: E_T = 3, e_buy = 2/4 + 3/4 * 4.5 = 3.875, e_sell = 0.875,
    # threshold 11.625 -> 12. Bar 2 closes at max_ticks: n = 6, B = 3, S = 9: E_T = 4.5, e_buy = (3.875 + 63 / 2) / 64,
    # e_sell = (0.875 + 63 * 3/2) / 64 = 1.490234375, threshold 6.706 -> 7.
    assert ends == [2, 8]
    assert words[:4] == [3, 7, 3, 6]
    floats = torch.tensor(words[4:]).view(torch.float64)
    assert floats.tolist() == [4.5, (3.875 + 31.5) / 64, 1.490234375]
    assert fold([-1], rule, [(0, 1)])[1][:4] == [1, 8, 0, 1]


def test_without_an_expectation_the_first_bar_closes_by_count():
    rule = Rule(2, 50, 3, 3, 5)
    ends, words = fold([100, 100, -100, 100, -90, 299, 1, 0], rule, [(0, 3), (3, 8)])
    # Its B / n is 60 and its S / n 38, so the threshold becomes 5 * 60.
    assert ends == [5, 7]
    assert initial_state(5, None).tolist()[:4] == [0, COUNTING, 0, 0]
    assert words[:4] == [1, threshold_near(3.5 * (60 / 4 + 0.75 * 150)), 0, 0]


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


def test_sums_stop_at_the_cap_instead_of_wrapping():
    rule = Rule(6, 100, 10, 10, 10, 1.0)
    huge = 2**63 - 1
    assert fold([huge, -huge, huge, -huge, huge], rule, [(0, 5)])[1][:4] == [5, 10, CAP, CAP]
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
    one = runs_ends(torch.tensor([7]), sign, *rule, initial_state(50, None))
    assert all(map(torch.equal, one, runs_ends(each, sign, *rule, initial_state(50, None))))


def test_outputs_are_written_and_fresh(monkeypatch):
    amount, sign, state = torch.tensor([5] * 5), torch.ones(5, dtype=torch.int8), initial_state(2, 5.0)
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    kept = state.clone()
    ends, after = runs_ends(amount, sign, 1, 9, 3, 3, state)
    assert ends.tolist() == [2, 4] and state.equal(kept) and not after.equal(kept)
    ends, after = runs_ends(amount[:0], sign[:0], 1, 9, 3, 3, state)
    assert ends.tolist() == [] and after.equal(state) and after.data_ptr() != state.data_ptr()


def test_a_strided_column_is_taken():
    table = torch.tensor([[5, 0], [5, 0], [5, 0]])
    sign = torch.ones(3, dtype=torch.int8)
    assert runs_ends(table[:, 0], sign, 1, 9, 3, 3, initial_state(2, 5.0))[0].tolist() == [2]


def test_wrong_inputs_are_refused():
    amount, sign, state = torch.tensor([1, 2, 3]), torch.ones(3, dtype=torch.int8), initial_state(2, 5.0)
    for bounds in ((0, 5), (6, 5), (1, 2**53 + 1)):
        with pytest.raises(ValueError, match=r"1 <= min_ticks <= max_ticks <= 2\^53 is the rule, got"):
            runs_ends(amount, sign, *bounds, 3, 3, state)
    for spans, name in (((0, 3), "span_bars"), ((3, 0), "span_ticks")):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            runs_ends(amount, sign, 1, 5, *spans, state)
    with pytest.raises(ValueError, match=r"amount must have one value per sign \(3\) or one, got 2"):
        runs_ends(amount[:2], sign, 1, 5, 3, 3, state)
    with pytest.raises(TypeError, match=r"sign must be a tensor of torch.int8, got torch.int64"):
        runs_ends(amount, amount, 1, 5, 3, 3, state)
    with pytest.raises(ValueError, match=r"state must have shape \[7\], got \[5\]"):
        runs_ends(amount, sign, 1, 5, 3, 3, torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="on one device"):
        runs_ends(amount, sign, 1, 5, 3, 3, state.to("meta"))
    with pytest.raises(ValueError, match=r"expected_ticks must be in \[1, 2\^53\], got 0"):
        initial_state(0, 1.0)
    with pytest.raises(ValueError, match="must be finite, got inf; None measures it"):
        initial_state(1, float("inf"))


def test_the_op_keeps_its_contract_with_torch():
    arguments = (torch.tensor([4, 5, 1]), torch.ones(3, dtype=torch.int8), 1, 5, 0.5, 0.5, initial_state(2, 3.0))
    torch.library.opcheck(module._runs_ends, arguments)


def columns_of(signed):
    return [column.numpy() for column in expectations.columns(signed)]


def keys_of(rule):
    return rule.min_ticks, rule.max_ticks, *check_rule("test", *rule.keys)


def launched(signed, rule, words):
    """Ends and words of the state after, from the kernel in the simulator."""
    means = words[module.MEANS :].view(np.float64)
    ends = launch_runs_ends(*columns_of(signed), keys_of(rule), words, means)
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
        wanted = runs_ends(amount, sign, *rule, state)
        for _ in range(2):
            got = runs_ends(amount.cuda(), sign.cuda(), *rule, state.cuda())
            assert all(torch.equal(a, b.cpu()) for a, b in zip(wanted, got, strict=True))
