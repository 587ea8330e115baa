"""Depth tensors from pieces of snapshots and of events: the same cells however they are cut, nothing of the future."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.book import _replayed, snapshots
from gpu_pipeline.book.snapshots import Config, DeepBins, make
from gpu_pipeline.core.errors import InputError
from tests.book.market import (
    DEPTH_COLUMNS,
    SECOND,
    as_events,
    as_snapshots,
    book_of,
    cut,
    events_of,
    folded,
    in_pieces,
    random_book,
    random_events,
    replayed,
    rows_of,
    same,
)

SMALL = Config(near_levels=2, deep_bins=DeepBins(count=2, levels_each=2), max_gap="25s", tolerance="500ms")
CUTS = st.lists(st.integers(0, 400), max_size=6)
BID, ASK = [(100, 5), (99, 1)], [(101, 2), (103, 4)]


def kept(depth, count):
    return replace(depth, **{name: getattr(depth, name)[:count] for name in DEPTH_COLUMNS})


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 30), cuts=CUTS, delay=st.sampled_from([0.0, 8.0]))
def test_snapshots_in_pieces_are_the_whole(seed, cuts, delay):
    book = random_book(seed, 60, delay_s=delay)
    same(folded(snapshots, SMALL, in_pieces(book, cuts)), make(book, SMALL))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 30), cuts=CUTS, delay=st.sampled_from([0.0, 8.0]))
def test_events_in_pieces_are_the_whole(seed, cuts, delay):
    """Pieces end inside messages too."""
    events = random_events(seed, delay_s=delay)
    same(folded(snapshots, SMALL, in_pieces(events, cuts)), make(events, SMALL))


@pytest.mark.parametrize("delay_s", [0.0, 5.0])
def test_events_give_what_dictionaries_give(delay_s):
    kinds = set()
    for seed in range(4):
        kinds |= check_with_dictionaries(random_events(seed, 150, mean_gap_s=6.0, delay_s=delay_s))
    assert {"fresh", "filled", "empty"} <= kinds


def check_with_dictionaries(events):
    depth, kinds = make(events, SMALL), set()
    assert len(depth) > 20
    for cell, moment in enumerate(depth.known_ns.tolist()):
        bids, asks, last = replayed(events, moment)
        age = -1 if last is None else moment - last
        there = last is not None and age <= 25 * SECOND and bool(bids or asks)
        kinds.add("filled" if there and age > 10 * SECOND else "fresh" if there else "empty" if last else "none")
        assert (int(depth.age_ns[cell]), bool(depth.valid[cell])) == (age, there)
        assert bool(depth.filled[cell]) == (there and age > 10 * SECOND)
        for side, levels in enumerate((bids, asks)):
            found = depth.depth[cell, :2, 2 * side : 2 * side + 2].tolist()
            shown = levels if there else []
            assert found[: len(shown)] == [[float(price), float(lots)] for price, lots in shown[:2]]
            total = depth.depth[cell, :, 2 * side + 1].sum() + depth.beyond[cell, side]
            assert total == sum(lots for _, lots in shown)
    return kinds


@pytest.mark.parametrize("rows_each", [1, 3000])
def test_cells_in_small_batches_are_the_same(monkeypatch, rows_each):
    events = random_events(3, 200)
    whole = make(events, SMALL)
    monkeypatch.setattr(_replayed, "ROWS_EACH", rows_each)
    same(make(events, SMALL), whole)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 30), delay=st.sampled_from([0.0, 8.0]))
def test_snapshots_and_the_events_they_are_made_of_give_the_same(seed, delay):
    events = random_events(seed, 50, delay_s=delay)
    same(make(as_snapshots(events), SMALL), make(events, SMALL))
    books = as_snapshots(random_events(seed + 100, 50, delay_s=delay))
    same(make(as_events(books), SMALL), make(books, SMALL))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 30), at=st.integers(1, 300), delay=st.sampled_from([0.0, 8.0]), factor=st.integers(2, 5))
def test_altering_what_comes_after_a_time_changes_nothing_at_or_before_it(seed, at, delay, factor):
    """Later rows get other sides, prices, quantities and later times; so do snapshots."""
    events = random_events(seed, delay_s=delay)
    at = min(at, len(events) - 1)
    other = [
        (time + factor * SECOND, known + factor * SECOND, side, price + side * factor, quantity * factor, update)
        for time, known, side, price, quantity, update in rows_of(events)[at:]
    ]
    altered = events_of([*rows_of(events)[:at], *other])
    moment = torch.maximum(events.time_ns, events.known_ns)[at]
    relaxed = SMALL.model_copy(update={"on_bad_book": "keep"})
    whole, changed = make(events, relaxed), make(altered, relaxed)
    count = int((whole.known_ns < moment).sum())
    assert int((whole.time_ns <= whole.known_ns).sum()) == len(whole)
    same(kept(changed, count), kept(whole, count))


def test_an_event_is_seen_neither_before_its_time_nor_before_it_is_known():
    rows = [(5 * SECOND, 5 * SECOND, 1, 100, 7, 1), (10 * SECOND, 11 * SECOND, 1, 100, 8, 2)]
    rows += [(12 * SECOND, 12 * SECOND, 1, 100, 9, 3), (30 * SECOND, 30 * SECOND, 1, 100, 1, 4)]
    depth = make(events_of(rows), Config(near_levels=1, deep_bins=None))
    assert depth.time_ns.tolist() == [10 * SECOND, 20 * SECOND, 30 * SECOND]
    assert depth.depth[:, 0, 1].tolist() == [7.0, 9.0, 1.0]
    assert depth.age_ns.tolist() == [5 * SECOND, 8 * SECOND, 0]
    waits = make(events_of(rows), Config(near_levels=1, deep_bins=None, tolerance="1s"))
    assert waits.depth[:2, 0, 1].tolist() == [8.0, 9.0]
    assert waits.age_ns.tolist() == [SECOND, 9 * SECOND]


@pytest.mark.parametrize("kind", ["snapshots", "events"])
def test_a_book_four_tenths_after_the_grid_is_seen_only_with_enough_tolerance(kind):
    """Grid times 10, 20, 30 s; books at 5, 20.4 and 35 s."""
    book = book_of(
        [5 * SECOND, 20 * SECOND + 4 * SECOND // 10, 35 * SECOND], [(BID, ASK), ([(100, 6)], ASK), (BID, ASK)]
    )
    book = book if kind == "snapshots" else as_events(book)
    exact = make(book, Config(near_levels=1, deep_bins=None))
    assert exact.depth[:, 0, 1].tolist() == [5.0, 5.0, 6.0]
    assert exact.age_ns.tolist() == [5 * SECOND, 15 * SECOND, 96 * SECOND // 10]
    assert exact.filled.tolist() == [False, True, False]
    patient = make(book, Config(near_levels=1, deep_bins=None, tolerance="500ms"))
    assert patient.time_ns.tolist() == exact.time_ns.tolist()
    assert patient.depth[:, 0, 1].tolist() == [5.0, 6.0, 6.0]
    assert patient.age_ns.tolist() == [55 * SECOND // 10, SECOND // 10, 101 * SECOND // 10]
    assert (patient.known_ns - patient.time_ns).tolist() == [SECOND // 2] * 3


@pytest.mark.parametrize("kind", ["snapshots", "events"])
def test_a_silent_feed_is_filled_up_to_max_gap_and_missing_after_it(kind):
    book = book_of([10 * SECOND, 70 * SECOND], [(BID, ASK), (BID, ASK)])
    depth = make(book if kind == "snapshots" else as_events(book), Config(near_levels=1, deep_bins=None, max_gap="30s"))
    assert depth.filled.tolist() == [False, False, True, True, False, False, False]
    assert depth.valid.tolist() == [True, True, True, True, False, False, True]
    assert depth.age_ns.tolist() == [0, *range(10 * SECOND, 60 * SECOND, 10 * SECOND), 0]
    assert depth.depth[~depth.valid][:, :, 1::2].abs().sum() == 0


@pytest.mark.parametrize("kind", ["snapshots", "events"])
def test_an_emptied_book_is_missing_until_the_next_one(kind):
    book = book_of([10 * SECOND, 15 * SECOND, 35 * SECOND, 40 * SECOND], [(BID, ASK), ([], []), (BID, ASK), (BID, ASK)])
    depth = make(book if kind == "snapshots" else as_events(book), Config(near_levels=1, deep_bins=None))
    assert depth.valid.tolist() == [True, False, False, True]
    assert depth.age_ns.tolist() == [0, 5 * SECOND, 15 * SECOND, 0]


def test_of_two_messages_at_one_time_both_count():
    rows = [(10 * SECOND, 10 * SECOND, 1, 100, 7, 1), (10 * SECOND, 10 * SECOND, 1, 101, 8, 2)]
    depth = make(events_of(rows), Config(near_levels=1, deep_bins=None))
    assert depth.depth[0, 0].tolist()[:2] == [101.0, 8.0]
    pieces = [events_of(rows[:1]), events_of(rows[1:])]
    same(folded(snapshots, Config(near_levels=1, deep_bins=None), pieces), depth)


MALFORMED = [
    ("crossed", ([(102, 5)], [(101, 2)])),
    ("locked", ([(101, 5)], [(101, 2)])),
    ("unsorted", ([(99, 5), (100, 1)], [(101, 2)])),
    ("negative", ([(99, -5)], [(101, 2)])),
]


@pytest.mark.parametrize(("kind", "sides"), MALFORMED)
def test_a_malformed_snapshot_is_an_error_or_left_out_or_kept(kind, sides):
    book = book_of([10 * SECOND, 11 * SECOND, 20 * SECOND], [(BID, ASK), sides, sides])
    options = {"near_levels": 2, "deep_bins": None}
    with pytest.raises(InputError, match=r"snapshot 1 at .*, level, row \d"):
        make(book, Config(**options))
    dropped = Config(**options, on_bad_book="drop")
    depth = make(book, dropped)
    assert depth.depth[0].tolist() == [[100.0, 5.0, 101.0, 2.0], [99.0, 1.0, 103.0, 4.0]]
    assert len(depth) == 1
    assert snapshots.step(book, dropped, None)[1].bad == {**dict.fromkeys(snapshots.RULES, 0), kind: 2}
    keep = Config(**options, on_bad_book="keep")
    if kind == "negative":
        with pytest.raises(InputError, match="a quantity must not be negative"):
            make(book, keep)
    else:
        assert make(book, keep).depth[1, 0].tolist() == [float(x) for side in sides for x in side[0]]


def test_rows_of_malformed_snapshots_count_from_the_beginning_of_the_stream():
    book = book_of([10 * SECOND, 11 * SECOND, 12 * SECOND], [(BID, ASK), (BID, ASK), ([(99, -5)], ASK)])
    with pytest.raises(InputError, match=r"snapshot 2 at 1970-01-01 00:00:12.000000 UTC, level, row 8: .*value -5"):
        folded(snapshots, SMALL, in_pieces(book, [1, 2]))


@pytest.mark.parametrize("cuts", [[], [1]])
def test_a_clock_that_goes_back_is_an_error_or_left_out(cuts):
    book = book_of([10 * SECOND, 9 * SECOND, 20 * SECOND], [(BID, ASK), ([(98, 1)], ASK), (BID, ASK)])
    pieces = in_pieces(book, cuts)
    with pytest.raises(InputError, match=r"snapshot 1 .*times must not fall"):
        folded(snapshots, SMALL, pieces)
    left_out = SMALL.model_copy(update={"on_bad_book": "drop", "tolerance": "0ms"})
    assert folded(snapshots, left_out, pieces).depth[:, 0, 0].tolist() == [100.0, 100.0]
    events = events_of([(10, 10, 1, 100, 1, 1), (9, 10, 1, 100, 1, 2)])
    with pytest.raises(InputError, match=r"book events of BTCUSDT, row 1: time_ns must not fall"):
        folded(snapshots, left_out, in_pieces(events, cuts))


def test_a_replayed_book_that_is_crossed_is_an_error_or_missing_or_kept():
    rows = [(5 * SECOND, 5 * SECOND, 1, 100, 7, 1), (5 * SECOND, 5 * SECOND, -1, 102, 7, 1)]
    rows += [(12 * SECOND, 12 * SECOND, 1, 103, 2, 2), (21 * SECOND, 21 * SECOND, 1, 103, 0, 3)]
    rows += [(30 * SECOND, 30 * SECOND, 1, 99, 1, 4)]
    events, options = events_of(rows), {"near_levels": 1, "deep_bins": None}
    with pytest.raises(InputError, match=r"book of BTCUSDT, replayed to 1970-01-01 00:00:20.*crossed book"):
        make(events, Config(**options))
    assert make(events, Config(**options, on_bad_book="drop")).valid.tolist() == [True, False, True]
    kept_book = make(events, Config(**options, on_bad_book="keep"))
    assert kept_book.valid.tolist() == [True, True, True]
    assert kept_book.depth[1, 0].tolist() == [103.0, 2.0, 102.0, 7.0]


def test_an_event_that_is_none_is_named():
    events = events_of([(5, 5, 1, 100, 7, 1), (6, 6, 1, 100, -7, 2)])
    with pytest.raises(InputError, match=r"book events of BTCUSDT after the first 0: replay: .*event 1 "):
        make(events, SMALL)


def test_a_long_history_leaves_little_behind():
    """What waits is the last snapshot, and the events since the last cell."""
    state = None
    for piece in in_pieces(random_book(1, 400, mean_gap_s=1.0), range(0, 400, 20)):
        _, state = snapshots.step(piece, SMALL, state)
        assert len(state.source.books) <= 2
    state = None
    events = random_events(1, 400)
    for piece in in_pieces(events, range(0, len(events), 50)):
        _, state = snapshots.step(piece, SMALL, state)
        assert len(state.source.events) <= len(piece)
    assert cut(events, slice(0, 0)).time_ns.tolist() == []
