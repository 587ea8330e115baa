"""Every metric: scikit-learn's value where it has one, bootstrap counts as repeated rows, NaN where undefined."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from gpu_pipeline.core import plugins

NAMES = plugins.names("metrics")


def auc(target, probability, weight):
    if probability.shape[1] == 2:
        return sk.roc_auc_score(target, probability[:, 1], sample_weight=weight)
    return sk.roc_auc_score(target, probability, sample_weight=weight, multi_class="ovr", average="macro")


ORACLES = {
    "auc": auc,
    "accuracy": lambda t, p, w: sk.accuracy_score(t, p.argmax(1), sample_weight=w),
    "f1_macro": lambda t, p, w: sk.f1_score(t, p.argmax(1), sample_weight=w, average="macro"),
    "f1_weighted": lambda t, p, w: sk.f1_score(t, p.argmax(1), sample_weight=w, average="weighted"),
    "log_loss": lambda t, p, w: sk.log_loss(t, p, sample_weight=w, labels=range(p.shape[1])),
}


def draw(seed: int, samples: int, classes: int, steps: int):
    """Targets with every class, probabilities on a grid of `steps` (so that scores tie), weights."""
    random = np.random.default_rng(seed)
    target = np.r_[np.arange(classes), random.integers(0, classes, samples)]
    raw = random.integers(1, steps + 1, (len(target), classes)).astype(np.float64)
    return target, raw / raw.sum(1, keepdims=True), random.uniform(0.1, 3, len(target))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [2, 3, 5])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), samples=st.integers(0, 200), steps=st.sampled_from([2, 5, 1000]))
def test_agrees_with_sklearn(name, classes, seed, samples, steps):
    if name not in ORACLES:
        pytest.skip(f"scikit-learn has no '{name}'")
    target, probability, weight = draw(seed, samples, classes, steps)
    got = plugins.load("metrics", name).function(target, probability, weight)
    assert got == pytest.approx(ORACLES[name](target, probability, weight), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [2, 4])
def test_counts_are_repeated_rows(name, classes):
    compute = plugins.load("metrics", name).function
    target, probability, _ = draw(3, 300, classes, 7)
    counts = np.random.default_rng(4).integers(0, 4, len(target))
    repeated = compute(np.repeat(target, counts), np.repeat(probability, counts, 0), np.ones(counts.sum()))
    assert compute(target, probability, counts.astype(np.float64)) == pytest.approx(repeated, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_says_which_way_is_better(name):
    plugin = plugins.load("metrics", name)
    target = np.array([0, 1, 0, 1, 1])
    right = np.where(np.eye(2)[target] == 1, 0.9, 0.1)
    good = plugin.function(target, right, np.ones(5))
    bad = plugin.function(target, right[:, ::-1], np.ones(5))
    assert (good > bad) == plugin.module.MAXIMIZE


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_judge_is_nan(name):
    compute = plugins.load("metrics", name).function
    assert np.isnan(compute(np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0)))
    assert np.isnan(compute(np.array([0, 1]), np.full((2, 2), 0.5), np.zeros(2)))


def test_auc_needs_two_classes():
    compute = plugins.load("metrics", "auc").function
    probability = np.random.default_rng(0).dirichlet([1, 1, 1], 6)
    assert np.isnan(compute(np.zeros(6, np.int64), probability, np.ones(6)))
    # A class that does not occur has no curve: the mean is over the two that have one.
    target = np.array([0, 1, 0, 1, 1, 0])
    curves = [sk.roc_auc_score(target == column, probability[:, column]) for column in (0, 1)]
    assert compute(target, probability, np.ones(6)) == pytest.approx(np.mean(curves))


def test_log_loss_of_an_impossible_class_is_finite():
    compute = plugins.load("metrics", "log_loss").function
    value = compute(np.array([1]), np.array([[1.0, 0.0]]), np.ones(1))
    assert value == pytest.approx(-np.log(np.finfo(np.float64).eps))


@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_resamples_take_seconds(name):
    compute = plugins.load("metrics", name).function
    target, probability, weight = draw(5, 3000, 2, 10**6)
    started = time.perf_counter()
    for _ in range(200):
        compute(target, probability, weight)
    assert time.perf_counter() - started < 2
