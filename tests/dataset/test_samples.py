"""Samples: what each sees, why rows are none, uniqueness; against plain loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.core.config import StreamSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.dataset.samples import average_uniqueness, find_samples, last_known, pool_labels
from gpu_pipeline.dataset.streams import book_rows, feature_rows
from tests.dataset.market import S, depth, features, labels

BARS = StreamSection.model_validate({"from": "features", "window": 4})
BOOK = StreamSection.model_validate({"from": "book", "window": 3})


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=25))
def test_uniqueness_against_a_plain_loop(lives):
    start, end = [s for s, _ in lives], [s + life for s, life in lives]
    rows = max(end) + 1
    alive = [sum(s < row <= e for s, e in zip(start, end, strict=True)) for row in range(rows)]
    wanted = [np.mean([1 / alive[row] for row in range(s + 1, e + 1)]) for s, e in zip(start, end, strict=True)]
    found = average_uniqueness(torch.tensor(start), torch.tensor(end), rows)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_uniqueness_of_labels_that_only_touch_is_one():
    assert average_uniqueness(torch.tensor([0, 3, 5]), torch.tensor([3, 5, 9]), 10).tolist() == [1.0, 1.0, 1.0]
    assert average_uniqueness(torch.tensor([0, 0]), torch.tensor([4, 4]), 5).tolist() == [0.5, 0.5]


def plain_last_known(known, decision_known):
    return max((row for row, time in enumerate(known) if time < decision_known), default=-1)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_other_streams_are_seen_strictly_before(grid, closes):
    made = features("AAA", len(closes), warmup=0)
    closes = torch.tensor(sorted(closes))
    bars = feature_rows("bars", BARS, [replace(made, time_ns=closes, known_ns=closes)])
    book = depth("AAA", 7 * S * (len(grid) - 1))
    times = torch.tensor(sorted(grid))
    rows = book_rows("book", BOOK, [replace(book, time_ns=times, known_ns=times)])
    assert last_known(rows, bars).tolist() == [plain_last_known(times.tolist(), close) for close in closes.tolist()]


def test_a_second_stream_of_the_same_bars_sees_the_decision_bar_unless_it_is_late():
    made = features("AAA", 20, gap_s=3)
    bars = feature_rows("bars", BARS, [made])
    again = feature_rows("again", StreamSection.model_validate({"from": "features", "window": 9}), [made])
    assert last_known(again, bars).tolist() == list(range(20))
    late = StreamSection.model_validate({"from": "features", "window": 9, "latency": "1s"})
    found = last_known(feature_rows("late", late, [made]), bars).tolist()
    known = (made.known_ns + S).tolist()
    assert found == [plain_last_known(known, time) for time in made.known_ns.tolist()]


def sample_tables(rows=60, shorter_s=0):
    made = features("AAA", rows, warmup=5)
    return made, labels(made), depth("AAA", int(made.time_ns[-1]) - shorter_s * S)


def found_samples(made, label, book):
    bars = feature_rows("bars", BARS, [made])
    streams = [bars, book_rows("book", BOOK, [book])]
    return find_samples(streams, bars, pool_labels("up", [label], bars))


def plain_eligible(made, label, book, present):
    """Row -> the first reason that it is no sample, or None."""
    short = [i for i, name in enumerate(made.names) if name.endswith("_db_s") and name not in made.levels]
    finite = np.isfinite(made.values.numpy()[:, short]).all(1)
    first = int(np.argmax(finite))
    reasons = []
    for row in range(len(made)):
        last = plain_last_known(book.known_ns.tolist(), int(made.known_ns[row]))
        full = row - BARS.window + 1 >= first and last - BOOK.window + 1 >= 0
        checks = {
            "no_label": bool(label.valid[row]),
            "short_feature_not_finite": bool(finite[row]),
            "nothing_known_yet": last >= 0,
            "window_not_full": full,
            "book_ended": int(made.known_ns[row]) - int(book.known_ns[last]) <= 7 * S,
            "book_row_missing": all(present[max(0, last - BOOK.window + 1) : last + 1]),
        }
        reasons.append(next((reason for reason, holds in checks.items() if not holds), None))
    return reasons


def test_reasons_against_a_plain_loop():
    made, label, book = sample_tables(shorter_s=220)
    values = made.values.clone()
    values[30, 0] = float("nan")
    values[35, 2] = float("nan")
    valid = label.valid.clone()
    valid[[7, 40]] = False
    missing = book.valid.clone()
    missing[25] = False
    late = book.known_ns + 90 * S
    made, label = replace(made, values=values), replace(label, valid=valid)
    book = replace(book, valid=missing, known_ns=late)
    wanted = plain_eligible(made, label, book, missing.tolist())
    samples = found_samples(made, label, book)
    assert samples.row.tolist() == [row for row, reason in enumerate(wanted) if reason is None]
    assert samples.dropped == {reason: wanted.count(reason) for reason in samples.dropped}
    assert all(samples.dropped.values()), "every reason must occur in this example"
    assert len(samples.row) + sum(samples.dropped.values()) == len(made)


def test_a_value_that_is_missing_before_the_decision_row_is_imputed_not_dropped():
    made, label, book = sample_tables()
    before = found_samples(made, label, book)
    values = made.values.clone()
    values[30, 0] = float("nan")
    after = found_samples(replace(made, values=values), label, book)
    assert set(before.row.tolist()) - set(after.row.tolist()) == {30}


def test_symbols_with_equal_times_are_ordered_by_time_then_symbol_and_never_mixed():
    one = features("AAA", 40, seed=1)
    other = replace(features("BBB", 40, seed=2), time_ns=one.time_ns, known_ns=one.known_ns)
    bars = feature_rows("bars", BARS, [one, other])
    until = int(one.time_ns[-1])
    book = book_rows("book", BOOK, [depth("AAA", until), depth("BBB", until + 70 * S)])
    samples = find_samples([bars, book], bars, pool_labels("up", [labels(one), labels(other)], bars))
    keys = list(zip(bars.time_ns[samples.row].tolist(), samples.symbol_id.tolist(), samples.row.tolist(), strict=True))
    assert keys == sorted(keys)
    assert samples.symbol_id[:4].tolist() in ([0, 1, 0, 1], [0, 0, 1, 1])
    for rows, last in zip((bars, book), samples.index.T, strict=True):
        for step in range(rows.section.window):
            assert torch.equal(rows.symbol_id[last - step], samples.symbol_id)


def test_errors_count_the_reasons_and_name_the_way_out():
    made, label, book = sample_tables()
    nothing = replace(made, values=torch.full_like(made.values, float("nan")))
    with pytest.raises(
        InputError, match=r"none of 60 rows is a sample: no label 5, short feature not finite 55; .*drop"
    ):
        found_samples(nothing, label, book)
    bars = feature_rows("bars", BARS, [made])
    with pytest.raises(InputError, match=r"label 'up' has \[59\] rows, the stream 'bars' \[60\]; .*rerun labels and"):
        pool_labels("up", [labels(features("AAA", 59))], bars)
    own = label.known_row.clone()
    own[9] = 9
    with pytest.raises(InputError, match=r"label 'up', row 9: ends at or before its own bar"):
        pool_labels("up", [replace(label, known_row=own)], bars)
