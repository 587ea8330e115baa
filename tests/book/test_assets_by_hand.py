"""Several assets from their feeds to what a decision sees, every cell worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gpu_pipeline.core.config import StreamSection
from gpu_pipeline.dataset._align import aligned_rows
from gpu_pipeline.dataset.samples import last_known
from gpu_pipeline.dataset.streams import feature_rows
from tests.book.market import SECOND, as_events, book_of
from tests.book.test_common_end import named, stage
from tests.dataset.market import features

TENTH = SECOND // 10
# Seconds below count from here, a grid time.
BASE_NS = 1_000 * SECOND


def sides(lots):
    """Bid 100, ask 102; the bid's quantity tells which snapshot it is."""
    return [(100, lots)], [(102, 1)]


def feed_of(kind, name, times, first_lots=1):
    book = book_of(
        [BASE_NS + round(time * 10) * TENTH for time in times], [sides(first_lots + k) for k in range(len(times))]
    )
    return [named(book if kind == "snapshots" else as_events(book), name)]


def shown(rows, assets):
    """Per asset, at each grid time: the bid's lots, 0 where the asset is missing."""
    lots = rows.values.reshape(len(rows), 4, assets)[:, 1].exp() - 1
    return lots.round().long().T.tolist()


@pytest.mark.parametrize("kind", ["snapshots", "events"])
@pytest.mark.parametrize(
    ("tolerance", "late", "gap", "filled"),
    [
        # At 20 s the book of 20.4 s has not come: that of 9 s still stands, filled.
        ("0ms", [1, 1, 2, 3, 4], [1, 1, 1, 0, 2], [0, 1, 1, 0, 0]),
        ("500ms", [1, 2, 3, 4, 4], [1, 1, 1, 0, 2], [0, 1, 1, 0, 0]),
    ],
)
def test_a_late_book_a_gap_and_a_dead_asset(tmp_path, kind, tolerance, late, gap, filled):
    """Grid times 10 to 50 s. LATE comes 0.4 s after them, GAP is silent from 9 to 49 s, DEAD spoke once, long ago."""
    feeds = {
        "EVEN": feed_of(kind, "EVEN", [10, 20, 30, 40, 50.6]),
        "LATE": feed_of(kind, "LATE", [9, 20.4, 30.4, 40.4]),
        "GAP": feed_of(kind, "GAP", [9, 49]),
        "DEAD": feed_of(kind, "DEAD", [-100]),
    }
    depth, _ = stage(tmp_path, feeds, tolerance=tolerance)
    section = StreamSection.model_validate({"from": "book", "window": 1, "assets": "all", "min_assets_required": 3})
    rows = aligned_rows("book", section, [depth[name] for name in feeds])
    assert rows.time_ns.tolist() == [BASE_NS + time * SECOND for time in (10, 20, 30, 40, 50)]
    wait = {"0ms": 0, "500ms": SECOND // 2}[tolerance]
    assert (rows.known_ns - rows.time_ns).tolist() == [wait] * 5
    even = [1, 2, 3, 4, 4]
    assert shown(rows, 4) == [even, late, gap, [0] * 5]
    assert rows.barred["too_few_assets"].nonzero().flatten().tolist() == [3]
    prices = rows.values.reshape(5, 4, 4)
    assert prices[:, 0, 3].isnan().all() and prices[3, 0, 2].isnan()
    assert prices[:, 0, 0].tolist() == [-1.0] * 5
    assert rows.missing_cells == {"EVEN": 0, "LATE": 0, "GAP": 1, "DEAD": 5}
    by_asset = {name: depth[name].filled[-5:].long().tolist() for name in ("EVEN", "LATE", "GAP")}
    assert by_asset["GAP"] == filled
    assert rows.filled.tolist() == [sum(cells) for cells in zip(*by_asset.values(), strict=True)]


@pytest.mark.parametrize("kind", ["snapshots", "events"])
def test_equal_times_on_two_feeds(tmp_path, kind):
    """Books of both assets and a bar carry the very same times: a bar sees the row of the grid time before its own."""
    feeds = {name: feed_of(kind, name, [10, 20, 30, 40], lots) for name, lots in (("AAA", 1), ("BBB", 11))}
    depth, _ = stage(tmp_path, feeds)
    section = StreamSection.model_validate({"from": "book", "window": 1, "assets": "all"})
    rows = aligned_rows("book", section, [depth[name] for name in feeds])
    # Both books of one time stand in one row: between feeds the grid decides, and either is in by its moment.
    assert shown(rows, 2) == [[1, 2, 3, 4], [11, 12, 13, 14]]
    made = features("AAA", 4, warmup=0)
    times = BASE_NS + torch.tensor([20, 20, 21, 40]) * SECOND
    bars = feature_rows("bars", StreamSection.model_validate({"from": "features", "window": 1}), [made])
    bars = replace(bars, time_ns=times, known_ns=times)
    assert last_known(rows, bars).tolist() == [0, 0, 1, 2]


def test_the_quantity_of_a_missing_asset_is_zero_and_not_small(tmp_path):
    depth, _ = stage(
        tmp_path, {"AAA": feed_of("snapshots", "AAA", [10, 20, 30, 90]), "BBB": feed_of("events", "BBB", [10])}
    )
    section = StreamSection.model_validate({"from": "book", "window": 1, "assets": "all", "quantity": "lots"})
    rows = aligned_rows("book", section, [depth["AAA"], depth["BBB"]])
    cells = rows.values.reshape(len(rows), 4, 2)
    assert cells[:, 1, 1].tolist() == [1.0, 1.0, 1.0, *[0.0] * 6]
    assert math.isnan(float(cells[-1, 2, 1]))
