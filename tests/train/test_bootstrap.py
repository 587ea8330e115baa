"""Blocks and intervals: plain loops, and coverage where samples depend on each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.bootstrap import block_length, interval, label_life, resamples


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=40))
def test_label_life_is_the_plain_count(steps):
    decision = np.cumsum([gap for gap, _ in steps], dtype=np.int64)
    t_end = decision + np.array([life for _, life in steps])
    counts = [sum(d < other <= e for other in decision) for d, e in zip(decision, t_end, strict=True)]
    assert label_life(decision, t_end) == pytest.approx(np.mean(counts))


def test_block_length():
    assert [block_length(life) for life in (0, 5, 5.01, 40)] == [10, 10, 11, 80]


@settings(max_examples=50, deadline=None)
@given(samples=st.integers(20, 200), block=st.integers(1, 60), seed=st.integers(0, 1000))
def test_resamples_are_blocks(samples, block, seed):
    drawn = list(resamples(samples, block, 5, seed))
    assert len(drawn) == (5 if samples >= 2 * block else 0)
    random = np.random.default_rng(seed)
    for counts in drawn:
        assert counts.sum() == samples
        assert (counts >= 0).all()
        pieces = -(-samples // block)
        rows = [start + at for start in random.integers(0, samples - block + 1, pieces) for at in range(block)][
            :samples
        ]
        assert np.array_equal(counts, np.bincount(rows, minlength=samples))


def test_seeds():
    first, again, other = (np.array(list(resamples(100, 10, 3, seed))) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_interval_is_the_percentiles():
    values = np.r_[np.arange(101.0), np.nan]
    assert interval(values, 0.9) == pytest.approx((5, 95))
    assert all(np.isnan(interval(np.array([np.nan]), 0.9)))
    assert all(np.isnan(interval(np.zeros(0), 0.9)))


def test_covers_the_truth_where_an_iid_bootstrap_does_not():
    random, life, samples, covered = np.random.default_rng(5), 20, 1200, {"block": 0, "iid": 0}
    for market in range(60):
        noise = random.normal(size=samples + life)
        hits = np.convolve(noise, np.ones(life), "valid")[:samples] > 0
        for name, block in (("block", 2 * life), ("iid", 1)):
            shares = np.array([counts @ hits / samples for counts in resamples(samples, block, 100, market)])
            low, high = interval(shares, 0.95)
            covered[name] += low <= 0.5 <= high
    assert covered["block"] >= 48
    assert covered["iid"] <= 35
