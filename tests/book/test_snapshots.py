"""Depth tensors against a plain loop over grid times, written from the definition alone."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gpu_pipeline.book.snapshots import Config, DeepBins, make
from gpu_pipeline.core.errors import InputError
from tests.book.market import SECOND, SYMBOL, book_of, random_book, random_sides

SMALL = Config(near_levels=3, deep_bins=DeepBins(count=2, levels_each=2), max_gap="25s")


def seen_by_hand(book, moment_ns):
    """Index of the snapshot that a cell known at `moment_ns` sees, or None."""
    times = zip(book.time_ns.tolist(), book.known_ns.tolist(), strict=True)
    seen = [index for index, (time, known) in enumerate(times) if time <= moment_ns and known <= moment_ns]
    return seen[-1] if seen else None


def sides_of(book, index):
    begin, end = book.offsets[index], book.offsets[index + 1]
    middle = begin + book.bid_count[index]
    rows = list(zip(book.price_ticks.tolist(), book.quantity_lots.tolist(), strict=True))
    return rows[begin:middle], rows[middle:end]


def side_by_hand(levels, near, bins):
    """(price, quantity) per near level and bin, and the lots beyond."""
    groups = [levels[i : i + 1] for i in range(near)]
    at = near
    for size in bins:
        groups.append(levels[at : at + size])
        at += size
    out, last = [], math.nan
    for group in groups:
        lots = sum(quantity for _, quantity in group)
        last = float(group[-1][0]) if group else last
        weighted = sum(price * quantity for price, quantity in group)
        out.append((float(Fraction(weighted, lots)) if lots else last, float(lots)))
    return out, sum(quantity for _, quantity in levels[at:])


@pytest.mark.parametrize("tolerance", ["0ms", "500ms", "3s"])
@pytest.mark.parametrize("delay_s", [0.0, 6.0])
def test_every_cell_equals_the_plain_loop(tolerance, delay_s):
    book = random_book(1, 100, mean_gap_s=12.0, delay_s=delay_s)
    config = SMALL.model_copy(update={"tolerance": tolerance})
    depth = make(book, config)
    wait = {"0ms": 0, "500ms": SECOND // 2, "3s": 3 * SECOND}[tolerance]
    first = -(-(int(book.time_ns[0]) - wait) // (10 * SECOND))
    last = (int(book.time_ns[-1]) - wait) // (10 * SECOND)
    assert depth.time_ns.tolist() == [g * 10 * SECOND for g in range(first, last + 1)]
    kinds = set()
    for cell, grid_ns in enumerate(depth.time_ns.tolist()):
        known = grid_ns + wait
        index = seen_by_hand(book, known)
        age = -1 if index is None else known - int(book.time_ns[index])
        kind = "none" if index is None else "fresh" if age <= 10 * SECOND else "filled" if age <= 25 * SECOND else "old"
        kinds.add(kind)
        assert (int(depth.known_ns[cell]), int(depth.age_ns[cell])) == (known, age)
        assert (bool(depth.valid[cell]), bool(depth.filled[cell])) == (kind in ("fresh", "filled"), kind == "filled")
        for side in range(2):
            levels = sides_of(book, index)[side] if kind in ("fresh", "filled") else []
            expected, rest = side_by_hand(levels, 3, [2, 2])
            found = depth.depth[cell, :, 2 * side : 2 * side + 2].tolist()
            assert [quantity for _, quantity in found] == [quantity for _, quantity in expected]
            prices = [price for price, _ in expected]
            assert [price for price, _ in found] == pytest.approx(prices, rel=1e-15, nan_ok=True)
            assert int(depth.beyond[cell, side]) == rest
    assert {"fresh", "filled", "old"} <= kinds


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 50), near=st.integers(1, 15), bins=st.integers(1, 4), each=st.integers(1, 5))
def test_kept_and_binned_and_beyond_is_the_total(seed, near, bins, each):
    book = random_book(seed, 20)
    config = Config(near_levels=near, deep_bins=DeepBins(count=bins, levels_each=each), max_gap="1hour")
    depth = make(book, config)
    for cell in range(len(depth)):
        if depth.valid[cell]:
            index = seen_by_hand(book, int(depth.known_ns[cell]))
            totals = [sum(quantity for _, quantity in side) for side in sides_of(book, index)]
            found = depth.depth[cell, :, 1::2].sum(0) + depth.beyond[cell]
            assert found.tolist() == totals


def same(left, right):
    for name in ("depth", "beyond", "time_ns", "known_ns", "age_ns", "valid", "filled"):
        assert getattr(left, name).numpy().tobytes() == getattr(right, name).numpy().tobytes(), name


def first_snapshots(book, count):
    """The book as it was when only `count` snapshots had been recorded."""
    rows = int(book.offsets[count])
    return replace(
        book,
        time_ns=book.time_ns[:count],
        known_ns=book.known_ns[:count],
        offsets=book.offsets[: count + 1],
        bid_count=book.bid_count[:count],
        price_ticks=book.price_ticks[:rows],
        quantity_lots=book.quantity_lots[:rows],
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 20), count=st.integers(0, 40), delay=st.sampled_from([0.0, 5.0]))
def test_a_cut_history_gives_the_beginning_of_the_whole(seed, count, delay):
    book = random_book(seed, 40, delay_s=delay)
    whole, part = make(book, SMALL), make(first_snapshots(book, count), SMALL)
    names = ("depth", "beyond", "time_ns", "known_ns", "age_ns", "valid", "filled")
    same(replace(whole, **{name: getattr(whole, name)[: len(part)] for name in names}), part)


def test_a_snapshot_at_the_edge_of_the_tolerance_is_seen_and_one_after_it_is_not():
    sides = random_sides(3, 2)
    config = Config(tolerance="100ms", near_levels=2, deep_bins=None)
    on_edge = make(book_of([5 * SECOND, 10 * SECOND + SECOND // 10], sides), config)
    assert on_edge.age_ns.tolist() == [0]
    assert on_edge.depth[0, 0, 0] == sides[1][0][0][0]
    after = make(book_of([5 * SECOND, 10 * SECOND + SECOND // 10 + 1], sides), config)
    assert after.age_ns.tolist() == [5 * SECOND + SECOND // 10]
    assert after.depth[0, 0, 0] == sides[0][0][0][0]


def test_fresh_filled_and_missing_at_their_exact_ages():
    times = [0, 100 * SECOND]
    depth = make(book_of(times, random_sides(1, 2)), Config(near_levels=1, deep_bins=None, max_gap="30s"))
    assert depth.age_ns.tolist() == [*range(0, 100 * SECOND, 10 * SECOND), 0]
    assert depth.filled.tolist() == [False, False, True, True, *[False] * 7]
    assert depth.valid.tolist() == [True] * 4 + [False] * 6 + [True]
    assert depth.depth[~depth.valid][:, :, 1::2].abs().sum() == 0
    assert depth.depth[~depth.valid][:, :, 0::2].isnan().all()


def test_of_snapshots_at_one_time_the_last_counts():
    sides = random_sides(4, 3)
    depth = make(book_of([10 * SECOND] * 3, sides), Config(near_levels=1, deep_bins=None))
    assert depth.depth[0, 0, :2].tolist() == [float(value) for value in sides[2][0][0]]


def test_up_to_divides_the_levels_behind_the_near_ones():
    assert DeepBins(count=10, up_to=1000).sizes(50) == [95] * 10
    assert make(random_book(1), Config(deep_bins={"count": 10, "up_to": 1000})).depth.shape[1] == 60


def test_no_snapshots_make_an_empty_tensor():
    depth = make(book_of([], []), SMALL)
    assert depth.depth.shape == (0, 5, 4)
    assert depth.beyond.shape == (0, 2)


GOOD = ([(100, 5), (99, 1)], [(101, 2), (103, 4)])


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (([(101, 5)], [(101, 2)]), r"snapshot 1 at 1970-01-01 00:00:11.000000 UTC, level, row 4: .*locked book"),
        (([(102, 5)], [(101, 2)]), r"snapshot 1 at 1970-01-01 00:00:11.000000 UTC, level, row 4: .*crossed book"),
        (([(100, 5), (100, 1)], [(101, 2)]), r"level, row 5: levels must stand best first.*value 100"),
        (([(99, 5), (100, 1)], [(101, 2)]), r"level, row 5: levels must stand best first.*value 100"),
        (([(100, 5)], [(102, 2), (101, 2)]), r"level, row 6: levels must stand best first.*value 101"),
        (([(100, -5)], [(102, 2)]), r"level, row 4: a quantity must not be negative .value -5.; repair or cut"),
        (([(100, 2**53)], [(102, 2)]), r"book of BTCUSDT: depth_tensor: quantity_lots must be in .0, 2\^53"),
    ],
)
def test_malformed_snapshots_are_named(sides, message):
    with pytest.raises(InputError, match=message):
        make(book_of([10 * SECOND, 11 * SECOND, 21 * SECOND], [GOOD, sides, GOOD]), SMALL)


def test_times_that_fall_and_counts_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"snapshot 1 .*times must not fall"):
        make(book_of([10 * SECOND, 9 * SECOND], [GOOD, GOOD]), SMALL)
    book = book_of([10 * SECOND], [GOOD])
    with pytest.raises(InputError, match="bid_count must lie within its levels"):
        make(replace(book, bid_count=torch.tensor([5])), SMALL)


def test_one_sided_books_are_not_malformed():
    depth = make(book_of([10 * SECOND, 20 * SECOND], [([(100, 5)], []), ([], [(101, 5)])]), SMALL)
    assert depth.valid.tolist() == [True, True]
    assert depth.depth[0, :, 2].isnan().all()
    assert depth.depth[1, :, 0].isnan().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cadence": "0s"}, "cadence must be longer than 0"),
        ({"max_gap": "5s"}, "max_gap must be at least the cadence .10s., got 5s"),
        ({"deep_bins": {"count": 10}}, "exactly one of 'levels_each' and 'up_to'"),
        ({"deep_bins": {"count": 10, "up_to": 1001}}, "1001 - 50 levels do not make 10 equal bins"),
        ({"deep_bins": {"count": 10, "up_to": 50}}, "50 - 50 levels do not make 10 equal bins"),
        ({"fill": "cubic"}, "Input should be .forward_fill. or .linear."),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValidationError, match=message):
        Config(**options)


def test_prices_and_lots_stay_in_ticks_and_lots():
    depth = make(book_of([10 * SECOND], [GOOD]), Config(near_levels=2, deep_bins=None))
    assert depth.symbol == SYMBOL
    assert depth.depth[0].tolist() == [[100.0, 5.0, 101.0, 2.0], [99.0, 1.0, 103.0, 4.0]]
