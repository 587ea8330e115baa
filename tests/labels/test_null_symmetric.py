"""The null gate's label: equal to the plain loop, and a fair coin on fair coins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.labels._make import make_labels
from tests.labels.market import barriers_by_hand, bars_of, random_bars


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(0, 150), horizon=st.integers(1, 20), window=st.integers(1, 14))
def test_every_label_equals_the_plain_loop(seed, rows, horizon, window):
    bars = random_bars(seed, rows, jumps=0.6)
    labels = make_labels(bars, "null_symmetric", horizon_bars=horizon, atr=window)
    expected = barriers_by_hand(bars, 1.0, 1.0, horizon, window, "next_open")
    decided = [which in ("up", "down") for which, _, _ in expected]
    assert labels.valid.tolist() == decided
    code = {"up": 1, "down": -1}
    assert labels.code.tolist() == [code.get(which, 0) for which, _, _ in expected]
    assert labels.known_row.tolist() == [row if ok else -1 for ok, (_, row, _) in zip(decided, expected, strict=True)]
    returns = [value if ok else np.nan for ok, (_, _, value) in zip(decided, expected, strict=True)]
    np.testing.assert_allclose(labels.label_return.numpy(), returns, rtol=1e-12, atol=1e-15)


def test_timeouts_and_ties_have_no_label():
    flat = [(100, 101, 99, 100)] * 3
    tie = bars_of(*zip(*[*flat, (100, 110, 90, 100)], strict=True))
    assert not make_labels(tie, "null_symmetric", horizon_bars=1, atr=2).valid.any()
    quiet = bars_of(*zip(*[*flat, (100, 101, 99, 100)], strict=True))
    assert not make_labels(quiet, "null_symmetric", horizon_bars=1, atr=2).valid.any()
    up = bars_of(*zip(*[*flat, (100, 102, 99, 100)], strict=True))
    labels = make_labels(up, "null_symmetric", horizon_bars=1, atr=2)
    assert (int(labels.code[2]), int(labels.known_row[2])) == (1, 3)
    assert float(labels.label_return[2]) == pytest.approx(0.02, abs=1e-15)


def test_on_fair_coins_up_and_down_are_equally_likely():
    shares, errors = [], []
    for seed in range(8):
        draw = np.random.default_rng(seed)
        path = 100_000 + np.cumsum(draw.choice([-1, 1], (4_000, 16)).ravel()).reshape(4_000, 16)
        bars = bars_of(path[:, 0], path.max(1), path.min(1), path[:, -1])
        labels = make_labels(bars, "null_symmetric", horizon_bars=100, atr=14)
        codes = labels.code[labels.valid]
        shares.append(float((codes == 1).double().mean()))
        errors.append(1 / len(codes))
    standard_error = np.std(shares, ddof=1) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - 0.5) <= 3 * standard_error
    assert standard_error < 0.02


@pytest.mark.parametrize(("classes", "names"), [("binary", ("not_up", "up")), ("codes", ("down", "up"))])
def test_classes(classes, names):
    labels = make_labels(random_bars(1, 50), "null_symmetric", classes=classes)
    assert (labels.class_names, labels.classes) == (names, {-1: 0, 1: 1})
