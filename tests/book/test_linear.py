"""`fill: linear` against a plain loop in fractions, by hand, in pieces; what becomes known later changes no cell."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.book import snapshots
from gpu_pipeline.book.snapshots import Config, DeepBins, make
from gpu_pipeline.core.errors import InputError
from tests.book.market import DEPTH_COLUMNS, SECOND, as_events, book_of, folded, in_pieces, random_book, same

# Cells of 10 s that wait for 40 s: the last snapshot is older than the cadence, and one lies behind the grid time.
LINEAR = Config(
    near_levels=2, deep_bins=DeepBins(count=1, levels_each=2), tolerance="40s", max_gap="60s", fill="linear"
)
FORWARD = LINEAR.model_copy(update={"fill": "forward_fill"})
BIDS, ASKS = [(100, 5), (98, 1)], [(104, 2), (108, 4)]
HIGHER = ([(110, 10), (99, 6)], [(114, 6), (120, 8)])


def plain_pair(book, grid_ns, config=LINEAR):
    """(before, after, share) of a cell that is interpolated, else None: from the definition, one snapshot at a time."""
    moment = grid_ns + config.grid.tolerance_ns
    rows = list(zip(book.time_ns.tolist(), book.known_ns.tolist(), strict=True))
    known = [index for index, (time, told) in enumerate(rows) if time <= moment and told <= moment]
    if not known or not config.grid.cadence_ns < moment - rows[known[-1]][0] <= config.max_gap_ns:
        return None
    before = [index for index in known if rows[index][0] <= grid_ns]
    after = [index for index in known if rows[index][0] > grid_ns]
    if not before or not after:
        return None
    low, high = rows[before[-1]][0], rows[after[0]][0]
    return None if high - low > config.max_gap_ns else (before[-1], after[0], Fraction(grid_ns - low, high - low))


def shown(book, index):
    """The cell of one snapshot alone: the same form, on a grid that has only this one."""
    begin, stop = int(book.offsets[index]), int(book.offsets[index + 1])
    rows = list(zip(book.price_ticks.tolist(), book.quantity_lots.tolist(), strict=True))[begin:stop]
    bids = int(book.bid_count[index])
    alone = make(book_of([10 * SECOND], [(rows[:bids], rows[bids:])]), FORWARD.model_copy(update={"tolerance": "0ms"}))
    return alone.depth[0], alone.beyond[0]


@pytest.mark.parametrize("delay_s", [0.0, 15.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_cell_equals_the_plain_loop(seed, delay_s):
    book = random_book(seed, 150, mean_gap_s=12.0, delay_s=delay_s)
    depth, forward = make(book, LINEAR), make(book, FORWARD)
    count = 0
    for cell, grid_ns in enumerate(depth.time_ns.tolist()):
        pair = plain_pair(book, grid_ns)
        if pair is None:
            found, expected = depth.depth[cell], forward.depth[cell]
            assert found.numpy().tobytes() == expected.numpy().tobytes()
            continue
        count += 1
        (low, rest_low), (high, rest_high) = (shown(book, index) for index in pair[:2])
        share = pair[2]
        for found, a, b in zip(*(part.flatten().tolist() for part in (depth.depth[cell], low, high)), strict=True):
            assert found == pytest.approx(float(Fraction(a) + (Fraction(b) - Fraction(a)) * share), rel=1e-14)
        for found, a, b in zip(depth.beyond[cell].tolist(), rest_low.tolist(), rest_high.tolist(), strict=True):
            assert abs(found - (a + (b - a) * share)) <= Fraction(1, 2)
    assert count > 5
    state = snapshots.end(LINEAR, snapshots.step(book, LINEAR, None)[1])[1]
    assert state.interpolated == count
    same(depth, forward, [name for name in DEPTH_COLUMNS if name not in ("depth", "beyond")])
    assert bool(depth.filled.any())


def test_by_hand():
    """Grid time 100 s, moment 140 s: snapshots at 90 and 115 s, the last one 25 s old."""
    book = book_of([90 * SECOND, 115 * SECOND, 160 * SECOND], [(BIDS, ASKS), HIGHER, (BIDS, ASKS)])
    depth = make(book, LINEAR)
    cell = depth.time_ns.tolist().index(100 * SECOND)
    assert depth.depth[cell, :2].tolist() == [[104.0, 7.0, 108.0, 3.6], [98.4, 3.0, 112.8, 5.6]]
    assert (int(depth.age_ns[cell]), int(depth.known_ns[cell])) == (25 * SECOND, 140 * SECOND)
    assert bool(depth.valid[cell]) and bool(depth.filled[cell])
    forward = make(book, FORWARD)
    assert forward.depth[cell, 0].tolist() == [110.0, 10.0, 114.0, 6.0]


def test_at_a_snapshot_s_own_time_its_book_is_shown():
    book = book_of([100 * SECOND, 115 * SECOND, 160 * SECOND], [(BIDS, ASKS), HIGHER, (BIDS, ASKS)])
    depth = make(book, LINEAR)
    cell = depth.time_ns.tolist().index(100 * SECOND)
    assert depth.depth[cell, :2].tolist() == [[100.0, 5.0, 104.0, 2.0], [98.0, 1.0, 108.0, 4.0]]


def test_the_last_book_is_kept_where_there_is_no_pair():
    """Fresh cells, a pair too far apart, a side that one of them lacks, an emptied book: as with forward_fill."""
    cases = [
        ([90, 135, 180], [(BIDS, ASKS)] * 3),
        ([40, 115, 160], [(BIDS, ASKS), HIGHER, (BIDS, ASKS)]),
        ([90, 115, 160], [([], ASKS), HIGHER, (BIDS, ASKS)]),
        ([90, 95, 115, 160], [(BIDS, ASKS), ([], []), HIGHER, (BIDS, ASKS)]),
    ]
    for times, sides in cases:
        book = book_of([time * SECOND for time in times], sides)
        left, right = make(book, LINEAR), make(book, FORWARD)
        cell = left.time_ns.tolist().index(100 * SECOND)
        assert left.depth[cell].numpy().tobytes() == right.depth[cell].numpy().tobytes()
        assert bool(left.valid[cell])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 30), tolerance=st.sampled_from(["0ms", "500ms", "10s"]))
def test_a_tolerance_within_the_cadence_leaves_nothing_to_interpolate(seed, tolerance):
    book = random_book(seed, 60, mean_gap_s=15.0, delay_s=4.0)
    left, right = (make(book, config.model_copy(update={"tolerance": tolerance})) for config in (LINEAR, FORWARD))
    same(left, right)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 30), cuts=st.lists(st.integers(0, 60), max_size=6), delay=st.sampled_from([0.0, 20.0]))
def test_pieces_give_the_whole(seed, cuts, delay):
    book = random_book(seed, 60, mean_gap_s=12.0, delay_s=delay)
    same(folded(snapshots, LINEAR, in_pieces(book, cuts)), make(book, LINEAR))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 30), share=st.floats(0.1, 0.9), delay=st.sampled_from([0.0, 20.0]), late=st.booleans())
def test_what_becomes_known_later_changes_nothing_known_before(seed, share, delay, late):
    """Every snapshot that is not known by a moment gets other prices and quantities, or arrives much later."""
    book = random_book(seed, 60, mean_gap_s=12.0, delay_s=delay)
    seen_ns = torch.maximum(book.time_ns, book.known_ns)
    moment = int(seen_ns.sort().values[int(share * len(book))])
    later = seen_ns > moment
    rows = torch.repeat_interleave(later, book.offsets.diff())
    altered = replace(
        book,
        price_ticks=torch.where(rows, book.price_ticks + 7, book.price_ticks),
        quantity_lots=torch.where(rows, book.quantity_lots * 3 + 1, book.quantity_lots),
        known_ns=torch.where(later & late, book.known_ns + 100 * SECOND, book.known_ns),
    )
    whole, changed = make(book, LINEAR), make(altered, LINEAR)
    count = int((whole.known_ns <= moment).sum())
    same(*(replace(made, **{name: getattr(made, name)[:count] for name in DEPTH_COLUMNS}) for made in (whole, changed)))


def test_a_late_snapshot_behind_the_grid_time_neither_serves_nor_bars():
    """105 s becomes known at 150 s: the cell of 100 s, decided at 140 s, goes from 90 to 115 s as if it were absent."""
    sides = [(BIDS, ASKS), ([(120, 99)], [(130, 9)]), HIGHER, (BIDS, ASKS)]
    times, known = [90, 105, 115, 160], [90, 150, 115, 160]
    late = book_of([t * SECOND for t in times], sides, [k * SECOND for k in known])
    without = book_of([t * SECOND for t in (90, 115, 160)], [sides[0], sides[2], sides[3]])
    cell = make(late, LINEAR).time_ns.tolist().index(100 * SECOND)
    found, wanted = make(late, LINEAR), make(without, LINEAR)
    assert found.depth[cell].numpy().tobytes() == wanted.depth[cell].numpy().tobytes()
    assert found.depth[cell, 0].tolist() == [104.0, 7.0, 108.0, 3.6]


def test_a_long_history_leaves_little_behind():
    """What waits: the snapshots of one tolerance and the one before them."""
    state, book = None, random_book(1, 400, mean_gap_s=1.0)
    for piece in in_pieces(book, range(0, 400, 20)):
        _, state = snapshots.step(piece, LINEAR, state)
        span = state.source.books.time_ns
        assert not len(span) or int(span[-1] - span[1 if len(span) > 1 else 0]) <= 50 * SECOND


def test_changes_are_refused():
    events = as_events(random_book(1, 20))
    with pytest.raises(InputError, match=r"book of BTCUSDT: fill: linear needs snapshots; .*use forward_fill"):
        make(events, LINEAR)


def test_a_side_that_both_lack_stays_without_a_price():
    book = book_of([90 * SECOND, 115 * SECOND, 160 * SECOND], [([], ASKS), ([], [(106, 6)]), ([], ASKS)])
    depth = make(book, LINEAR)
    cell = depth.time_ns.tolist().index(100 * SECOND)
    assert all(math.isnan(price) for price in depth.depth[cell, :, 0].tolist())
    assert depth.depth[cell, 0, 2:].tolist() == [104.8, 3.6]
