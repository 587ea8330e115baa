"""The parallel CPU forms of the reset and carry rules against their plain loops, on streams of every kind."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

import kernels._stretches as stretches
import kernels.carry_ends as carry
import kernels.reset_ends as reset
from kernels._blocks import NO_ROW
from kernels._stretches import PIECE, STRETCH

RULES = {"reset": (reset, reset.reset_ends), "carry": (carry, carry.carry_ends)}
SIZES = [1, STRETCH - 1, STRETCH, STRETCH + 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 65, 5 * PIECE - 1]
KINDS = ("ones", "uniform", "mostly zero", "heavy tail", "spikes", "enormous", "flat then dense")


def stream(draw, kind, rows):
    """Amounts of a kind, and a threshold that makes anything from bars of one trade to none at all."""
    length = float(draw.choice([0.3, 1, 3, 20, 90, 700, 5000, 10**6]))
    amounts = draw.integers(0, 1000, rows)
    if kind == "ones":
        amounts[:] = 1
    elif kind == "mostly zero":
        amounts[draw.random(rows) < 0.95] = 0
    elif kind == "heavy tail":
        amounts = (20 * draw.random(rows) ** -1.5).clip(max=2**50).astype(np.int64)
    elif kind == "enormous":
        amounts = draw.integers(0, 2**63 - 1, rows, endpoint=True) >> draw.choice([0, 1, 3, 8, 20], rows)
    elif kind == "flat then dense":
        amounts[: rows // 2] = 0
    threshold = int(min(2**62 - 1, max(1, float(amounts.mean()) * length)))
    if kind == "spikes":
        amounts[draw.random(rows) < 0.002] = min(35 * threshold, 2**63 - 1)
    if draw.random() < 0.3:
        stop = int(draw.integers(1, min(rows, 900) + 1))
        threshold = min(2**62 - 1, max(1, sum(amounts[:stop].tolist())))
    return np.ascontiguousarray(amounts, np.int64), threshold


def plain(module, amounts, threshold):
    ends = np.full(len(amounts), -77)
    bars, state, bad = module.spec(amounts, threshold, np.zeros(1, np.int64), ends)
    assert bad == NO_ROW
    return ends[:bars].tolist(), state


def fold(op, amounts, threshold, cuts):
    state, ends = torch.zeros(1, dtype=torch.int64), []
    for begin, stop in pairwise([0, *sorted(cuts), len(amounts)]):
        found, state = op(torch.from_numpy(amounts[begin:stop]), threshold, state)
        ends += (found + begin).tolist()
    return ends, state.item()


def compare(monkeypatch, rule, seeds):
    module, op = RULES[rule]
    monkeypatch.setattr(stretches, "ROWS_PER_THREAD", PIECE)
    for seed in seeds:
        draw = np.random.default_rng(seed)
        rows = int(draw.choice(SIZES)) if seed % 4 == 0 else int(draw.integers(1, 6000))
        amounts, threshold = stream(draw, KINDS[seed % len(KINDS)], rows)
        threads, chunks = int(draw.integers(1, 5)), int(draw.integers(0, 3))
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        expected = plain(module, amounts, threshold)
        ends, left, bits = module._close(amounts, threshold, 0 if rule == "carry" else threshold)
        state = left if rule == "carry" else threshold - left
        assert (ends.tolist(), state) == expected and bits >= 0, (rule, seed)
        assert fold(op, amounts, threshold, draw.integers(0, rows + 1, chunks).tolist()) == expected, (rule, seed)


@pytest.mark.parametrize("rule", RULES)
def test_thousands_of_streams_follow_the_plain_loop(monkeypatch, rule):
    compare(monkeypatch, rule, range(5_000))


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_many_more_streams_follow_the_plain_loop(monkeypatch, rule):
    compare(monkeypatch, rule, range(5_000, 60_000))


@pytest.mark.parametrize("rule", RULES)
def test_parts_whose_guess_never_meets_the_truth_follow_the_plain_loop(monkeypatch, rule):
    module, op = RULES[rule]
    monkeypatch.setattr(stretches, "ROWS_PER_THREAD", PIECE)
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for threshold in (7, 1000, 4097, 50_021):
            amounts = np.ones(40 * PIECE + 13, np.int64)
            assert fold(op, amounts, threshold, []) == plain(module, amounts, threshold)


@pytest.mark.parametrize("rule", RULES)
def test_the_first_negative_row_is_named_whatever_the_parts(monkeypatch, rule):
    monkeypatch.setattr(stretches, "ROWS_PER_THREAD", PIECE)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    amounts = np.full(7 * PIECE, 3)
    for first in (0, 63, PIECE, 3 * PIECE + 5, 7 * PIECE - 1):
        for value in (-1, -(2**63)):
            amounts[:] = 3
            amounts[first] = amounts[-1] = value
            with pytest.raises(ValueError, match=f"must not be negative, it is at row {first} of the chunk"):
                fold(RULES[rule][1], amounts, 50, [])


@pytest.mark.parametrize("rule", RULES)
def test_outputs_of_the_parallel_form_are_written_and_fresh(monkeypatch, rule):
    op = RULES[rule][1]
    monkeypatch.setattr(stretches, "ROWS_PER_THREAD", PIECE)
    amounts = torch.from_numpy(np.random.default_rng(1).integers(0, 9, 3 * PIECE))
    expected = op(amounts, 400, torch.tensor([399]))
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    got = op(amounts, 400, torch.tensor([399]))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert got[0][0] == int((amounts.cumsum(0) > 0).nonzero()[0]) + 1
