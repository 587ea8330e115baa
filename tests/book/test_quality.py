"""The quality of a day by hand, and the same rows however the stream is cut."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.book._quality import COUNTS, MEASURES, Quality, quantile, table, wrong
from gpu_pipeline.book.snapshots import Config, make
from tests.book.market import (
    SECOND,
    SYMBOL,
    as_events,
    book_of,
    events_of,
    in_pieces,
    random_book,
    random_events,
    replayed,
    rows_of,
)

DAY = 86_400 * SECOND
BID, ASK = [(100, 5), (99, 1)], [(102, 2), (103, 4)]


def quality_of(pieces, depth=None, max_gap_s=30, jump_percent=5.0):
    made = Quality(SYMBOL, max_gap_s * SECOND, jump_percent)
    for piece in pieces:
        made.add(piece)
    made.close()
    if depth is not None:
        made.cells(depth)
    return made.rows()


@pytest.mark.parametrize("kind", ["snapshots", "events"])
def test_a_hand_made_day(kind):
    sides = [
        (BID, ASK),
        ([(103, 5)], [(102, 2)]),  # crossed, the mid moves by 1.5
        ([(104, 5)], [(102, 2)]),  # still crossed
        ([(102, 5)], [(102, 2)]),  # locked
        ([(100, 1)], []),
        ([], [(102, 1)]),
        ([], []),
        ([(120, 5)], [(124, 2)]),  # a jump from 102 to 122
    ]
    times = [DAY + at * SECOND for at in (1, 2, 3, 4, 5, 6, 7, 107)]
    book = book_of(times, sides)
    (row,) = quality_of([book if kind == "snapshots" else as_events(book)])
    found = {name: row[name] for name in COUNTS if row[name]}
    levels = 14 if kind == "snapshots" else 22
    assert found == {
        "updates": 8, "rows": levels, "crossed": 2, "locked": 1, "inversions": 1, "missing_bid": 1, "missing_ask": 1,
        "empty": 1, "jumps": 1, "gaps": 1,
    }  # fmt: skip
    assert (row["symbol"], row["day"]) == ("BTCUSDT", "1970-01-02")
    assert row["updates_per_s"] == pytest.approx(7 / 106)
    assert (row["gap_longest_s"], row["gap_total_s"]) == (100.0, 100.0)
    spreads = (row["spread_least"], row["spread_median"], row["spread_p99"])
    assert spreads == (-0.02, 0.0, 0.04)
    # The first books of 1 s to 10 s and of 100 s to 110 s.
    assert (row["levels_bid"], row["levels_ask"]) == (1.5, 1.5)
    assert row["quantity_1"] == pytest.approx((5 + 2 + 5 + 2) / 4 * 0.001)
    assert row["quantity_5"] is None
    assert wrong(row) == {"crossed": 2, "locked": 1, "empty": 1}


def test_malformed_snapshots_are_counted():
    sides = [(BID, ASK), ([(99, 5), (100, 1)], ASK), ([(100, -5)], ASK), (BID, ASK)]
    (row,) = quality_of([book_of([10, 20, 30, 25], sides)])
    assert wrong(row) == {"clock_back": 1, "unsorted": 1, "negative": 1}


def test_days_are_utc_days_and_cells_are_counted_in_theirs():
    book = book_of([DAY - 15 * SECOND, DAY + 30 * SECOND], [(BID, ASK), (BID, ASK)])
    depth = make(book, Config(near_levels=1, deep_bins=None, max_gap="20s"))
    before, after = quality_of([book], depth)
    assert (before["day"], before["cells"], before["fresh"]) == ("1970-01-01", 1, 1)
    assert (after["day"], after["cells"], after["fresh"]) == ("1970-01-02", 4, 1)
    assert (after["filled"], after["missing"], after["gaps"]) == (1, 2, 1)
    assert (before["updates_per_s"], after["age_longest_s"]) == (None, 35.0)


@pytest.mark.parametrize("make_book", [random_book, random_events])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 20), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_any_cut_gives_the_same_rows(make_book, seed, cuts):
    book = make_book(seed, 60, mean_gap_s=4_000.0)
    assert quality_of(in_pieces(book, cuts)) == quality_of([book])


@pytest.mark.parametrize("seed", range(3))
def test_counts_of_a_random_feed_are_those_of_a_plain_loop(seed):
    events = random_events(seed, 80)
    expected = Counter()
    for update in sorted(set(events.update_id.tolist())):
        until = [row for row in rows_of(events) if row[5] <= update]
        bids, asks, _ = replayed(events_of(until), 1 << 62)
        expected["updates"] += 1
        expected["empty"] += not bids and not asks
        expected["missing_bid"] += not bids and bool(asks)
        expected["missing_ask"] += bool(bids) and not asks
        expected["crossed"] += bool(bids and asks) and bids[0][0] > asks[0][0]
    rows = quality_of([events])
    assert {name: sum(row[name] for row in rows) for name in expected} == dict(expected)


def test_quantiles_of_counted_values():
    assert quantile({1: 1, 2: 1, 3: 1}, 0.5) == 2
    assert quantile({1: 98, 7: 2}, 0.99) == 7
    assert quantile({1: 99, 7: 1}, 0.99) == 1
    assert quantile({}, 0.5) is None


def test_the_table_holds_every_column():
    rows = quality_of([random_book(1)])
    made = table(rows)
    assert made.column_names == ["symbol", "day", *COUNTS, *MEASURES]
    assert made.to_pylist()[0]["day"].isoformat() == rows[0]["day"]
    assert table([]).num_rows == 0
