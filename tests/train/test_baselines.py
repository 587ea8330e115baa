"""Baselines against plain loops; the naive persistence is shown to see the future, the honest one not to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from train.baselines import frequencies, last_ended, majority, persistence, previous_labels


def last_ended_by_loop(row, end_row):
    found = []
    for now in range(len(row)):
        ended = [j for j in range(now) if 0 <= end_row[j] <= row[now]]
        found.append(max(ended, default=-1))
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 12)), max_size=40))
def test_last_ended_is_the_plain_loop(steps):
    decision = np.cumsum([gap for gap, _ in steps], dtype=np.int64)
    t_end = np.array([-1 if life < 0 else at + life for at, (_, life) in zip(decision, steps, strict=True)], np.int64)
    assert last_ended(decision, t_end).tolist() == last_ended_by_loop(decision, t_end)


def test_symbols_do_not_mix():
    decision, t_end = np.array([0, 0, 5, 5, 9, 9]), np.array([4, 9, 8, 20, 20, 20])
    symbol, target = np.array([0, 1, 0, 1, 0, 1]), np.array([1, 0, 0, 1, 1, 1])
    assert previous_labels(target, decision, t_end, symbol).tolist() == [-1, -1, 1, -1, 0, 0]


def market(samples: int = 4000, life: int = 20, seed: int = 0):
    """A random walk: the label of sample i is the sign of its next `life` steps, so neighbours share most of them."""
    walk = np.random.default_rng(seed).normal(size=samples + life).cumsum()
    target = (walk[life:] > walk[:-life]).astype(np.int64)
    decision = np.arange(samples, dtype=np.int64)
    return target, decision, decision + life


def test_the_naive_persistence_leaks():
    target, decision, t_end = market()
    train, test = np.arange(2800), np.arange(2900, 4000)
    honest = previous_labels(target, decision, t_end, np.zeros_like(target))
    source = last_ended(decision, t_end)
    assert (t_end[source[source >= 0]] <= decision[source >= 0]).all()
    naive = np.r_[-1, target[:-1]]
    assert (t_end[:-1] > decision[1:]).all()
    scores = [
        roc_auc_score(target[test], persistence(previous, target, train, 2)[test, 1]) for previous in (naive, honest)
    ]
    # Nothing about a random walk can be known beforehand: what scores high has looked ahead.
    assert scores[0] > 0.8
    assert abs(scores[1] - 0.5) < 0.15


def test_the_table_is_the_training_parts():
    target = np.array([0, 1, 1, 0, 1, 0, 0, 1, -1, 1])
    previous = np.array([-1, 0, 1, 1, 0, 1, 0, 0, 1, 2])
    train = np.arange(6)
    table = {0: [0, 2], 1: [2, 1]}
    overall = [3 / 6, 3 / 6]
    rows = [np.array(table[p]) / sum(table[p]) if p in table else overall for p in previous]
    found = persistence(previous, target, train, 3)
    np.testing.assert_allclose(found[:, :2], rows)
    assert (found[:, 2] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1)


def test_the_future_does_not_change_the_table():
    target, decision, t_end = market(500)
    previous = previous_labels(target, decision, t_end, np.zeros_like(target))
    train = np.arange(300)
    turned = np.r_[target[:300], 1 - target[300:]]
    changed = persistence(previous, turned, train, 2)
    assert np.array_equal(changed, persistence(previous, target, train, 2))


def test_majority_is_the_training_frequencies():
    target = np.array([0, 2, 2, -1, 2])
    assert frequencies(target, 3).tolist() == [0.25, 0, 0.75]
    assert majority(target, 3, 2).tolist() == [[0.25, 0, 0.75]] * 2


@pytest.mark.parametrize("samples", [0, 1])
def test_no_past(samples):
    zeros = np.zeros(samples, np.int64)
    assert last_ended(zeros, zeros).tolist() == [-1] * samples
