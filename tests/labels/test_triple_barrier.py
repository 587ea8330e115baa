"""Triple barrier against a plain loop, TA-Lib's ATR, hand-worked examples and the real day."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import talib
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.bars._make import make_bars
from gpu_pipeline.core.errors import ConfigError, InputError
from gpu_pipeline.core.schema import Labels
from gpu_pipeline.labels._barriers import average_true_range
from gpu_pipeline.labels._make import make_labels
from tests.bars.market import real_day
from tests.labels.market import SECOND, barriers_by_hand, bars_of, random_bars

CODE = {"up": 1, "down": -1, "both": -1, "timeout": 0, None: 0}


def equal_to_hand(labels: Labels, bars, expected) -> None:
    close_ns = bars.close_timestamp.tolist()
    assert labels.code.tolist() == [CODE[which] for which, _, _ in expected]
    assert labels.valid.tolist() == [which is not None for which, _, _ in expected]
    assert labels.known_row.tolist() == [row for _, row, _ in expected]
    assert labels.t_end.tolist() == [close_ns[row] if row >= 0 else -1 for _, row, _ in expected]
    np.testing.assert_allclose(labels.label_return.numpy(), [r for _, _, r in expected], rtol=1e-12, atol=1e-15)
    assert labels.weight.tolist() == [1.0] * len(bars)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(0, 160),
    barriers=st.tuples(st.sampled_from([0.5, 1.0, 2.0, 5.0]), st.sampled_from([0.5, 1.0, 3.0])),
    horizon=st.integers(1, 40),
    window=st.integers(1, 20),
    entry=st.sampled_from(["close", "next_open"]),
)
def test_every_label_equals_the_plain_loop(seed, rows, barriers, horizon, window, entry):
    bars = random_bars(seed, rows)
    options = {"take_profit": barriers[0], "stop_loss": barriers[1], "horizon_bars": horizon, "atr": window}
    labels = make_labels(bars, "triple_barrier", entry=entry, **options)
    equal_to_hand(labels, bars, barriers_by_hand(bars, *barriers, horizon, window, entry))


def test_the_plain_loop_meets_every_outcome():
    outcomes = {
        which
        for seed in range(20)
        for which, _, _ in barriers_by_hand(random_bars(seed, 200, jumps=0.9), 1.0, 1.0, 3, 5, "close")
    }
    assert outcomes == {"up", "down", "both", "timeout", None}


@pytest.mark.parametrize("window", [1, 2, 14])
def test_the_range_is_talibs(window):
    bars = random_bars(3, 500)
    high, low, close = (getattr(bars, name).numpy() for name in ("high", "low", "close"))
    np.testing.assert_allclose(
        average_true_range(bars, window).numpy(), talib.ATR(high, low, close, window), rtol=1e-12
    )


# Bars 0 to 3 have a range of 2 around 100 and close at 100, so ATR(2) is 2 from bar 2 on; the entry is bar 2's close.
FLAT = [(100, 101, 99, 100)] * 3


def label_of_bar_two(after, **options):
    """The label at bar 2 (entry 100, barriers 104 and 98 unless asked otherwise) and the bars."""
    bars = bars_of(*zip(*[*FLAT, *after], strict=True))
    values = {"take_profit": 2.0, "stop_loss": 1.0, "horizon_bars": len(after), "atr": 2} | options
    labels = make_labels(bars, "triple_barrier", **values)
    return int(labels.code[2]), int(labels.known_row[2]), round(float(labels.label_return[2]), 12), bars, labels


@pytest.mark.parametrize(
    ("after", "code", "row", "exit_price"),
    [
        ([(100, 103, 99, 103), (103, 104, 102, 103)], 1, 4, 104),  # touches the profit barrier exactly
        ([(100, 101, 98, 99), (99, 105, 98, 100)], -1, 3, 98),  # touches the stop exactly
        ([(100, 105, 97, 104)], -1, 3, 98),  # both in one bar: the stop
        ([(106, 107, 105, 106)], 1, 3, 106),  # opens beyond the profit barrier: leaves at the open
        ([(95, 96, 94, 95)], -1, 3, 95),  # opens beyond the stop: leaves at the open
        ([(100, 101, 99, 100), (100, 102, 99, 101)], 0, 4, 101),  # timeout: leaves at the last close
    ],
)
def test_examples_by_hand(after, code, row, exit_price):
    found = label_of_bar_two(after)
    assert found[:3] == (code, row, round(exit_price / 100 - 1, 12))
    assert int(found[4].t_end[2]) == int(found[3].close_timestamp[row])


def test_next_open_moves_entry_and_barriers_together():
    after = [(102, 103, 101, 102), (102, 106, 101, 105)]
    code, row, result, _, _ = label_of_bar_two(after, entry="next_open")
    assert (code, row, result) == (1, 4, round(106 / 102 - 1, 12))
    assert label_of_bar_two(after)[:2] == (1, 4)


def test_no_label_without_the_whole_horizon_even_where_a_barrier_was_touched():
    after = [(100, 110, 100, 110), (110, 111, 109, 110)]
    assert label_of_bar_two(after, horizon_bars=2)[4].valid.tolist() == [False, False, True, False, False]
    assert not label_of_bar_two(after, horizon_bars=3)[4].valid.any()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1_000), stop=st.integers(0, 120), horizon=st.integers(1, 20))
def test_labels_of_a_prefix_are_labels_of_the_whole(seed, stop, horizon):
    bars = random_bars(seed, 120)
    whole = make_labels(bars, "triple_barrier", horizon_bars=horizon, atr=5)
    part = make_labels(bars.select(slice(0, stop)), "triple_barrier", horizon_bars=horizon, atr=5)
    inside = torch.arange(stop) + horizon < stop
    for name in ("code", "valid", "t_end", "label_return", "known_row"):
        left, right = getattr(part, name)[inside], getattr(whole, name)[:stop][inside]
        assert left.numpy().tobytes() == right.numpy().tobytes(), name
    assert not part.valid[~inside].any()


def test_a_label_never_ends_before_its_bar_nor_after_its_horizon():
    bars = random_bars(5, 400)
    labels = make_labels(bars, "triple_barrier", horizon_bars=12)
    life = (labels.known_row - torch.arange(400))[labels.valid]
    assert 1 <= int(life.min()) <= int(life.max()) <= 12
    assert bool((labels.t_end > bars.close_timestamp)[labels.valid].all())


@pytest.mark.parametrize(
    ("classes", "names", "mapping"),
    [
        ("binary", ("not_take_profit", "take_profit"), {-1: 0, 0: 0, 1: 1}),
        ("codes", ("stop_loss", "timeout", "take_profit"), {-1: 0, 0: 1, 1: 2}),
    ],
)
def test_classes(classes, names, mapping):
    labels = make_labels(random_bars(1, 50), "triple_barrier", classes=classes, label="target")
    assert (labels.name, labels.class_names, labels.classes) == ("target", names, mapping)
    assert labels.codes == {1: "take_profit", -1: "stop_loss", 0: "timeout"}


def test_dropping_labels_that_cross_a_gap():
    bars = random_bars(2, 200)
    opens = bars.open_timestamp.clone()
    opens[100:] += 3600 * SECOND
    columns = dict(bars.columns, open_timestamp=opens, close_timestamp=opens + 60 * SECOND - 1)
    gapped = type(bars)(bars.symbol, bars.name, columns)
    wide = {"take_profit": 4.0, "stop_loss": 4.0, "horizon_bars": 20}
    allowed = make_labels(gapped, "triple_barrier", **wide)
    dropped = make_labels(gapped, "triple_barrier", **wide, cross_gap="drop", gap="30min")
    rows = torch.arange(200)
    crossing = allowed.valid & (rows < 100) & (allowed.known_row >= 100)
    assert int(crossing.sum()) > 3
    assert dropped.valid.equal(allowed.valid & ~crossing)
    assert dropped.code[dropped.valid].equal(allowed.code[dropped.valid])
    assert dropped.t_end[crossing].tolist() == [-1] * int(crossing.sum())
    assert make_labels(bars, "triple_barrier", cross_gap="drop", gap="30min").valid.equal(
        make_labels(bars, "triple_barrier").valid
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"take_profit": 0}, "make_labels: take_profit: Input should be greater than 0"),
        ({"stop_loss": math.inf}, "make_labels: stop_loss: Input should be a finite number"),
        ({"cross_gap": "drop"}, "'gap' and 'cross_gap: drop' belong together"),
        ({"gap": "1hour"}, "'gap' and 'cross_gap: drop' belong together"),
        ({"cross_gap": "close"}, "Input should be 'allow' or 'drop'"),
        ({"horizon": 3}, "horizon: unknown key .*did you mean 'horizon_bars'"),
        ({"classes": "all"}, "make_labels: classes: Input should be 'binary' or 'codes'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make_labels(random_bars(0, 30), "triple_barrier", **options)


def test_partial_bars_have_no_labels():
    bars = random_bars(0, 30)
    bars.columns["is_partial"][7] = True
    with pytest.raises(InputError, match=r"labels of test, row 7: partial bars have no labels; use bars.complete\(\)"):
        make_labels(bars, "triple_barrier")


def test_the_real_day(market_data: Path):
    bars = make_bars(real_day(market_data), threshold=50_000)
    labels = make_labels(bars, "triple_barrier", take_profit=2.0, stop_loss=1.0, horizon_bars=100, atr=14)
    expected = barriers_by_hand(bars, 2.0, 1.0, 100, 14, "close")
    equal_to_hand(labels, bars, expected)
    codes = labels.code[labels.valid]
    counts = [int((codes == code).sum()) for code in (1, -1, 0)]
    assert sum(counts) == len(bars) - 14 - 100
    assert counts[2] == 0
    assert 0.2 < counts[0] / sum(counts) < 0.5
