"""Four recorded instruments on a grid of one second: quantity conserved, ages, and nothing of the future."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_pipeline.book import snapshots
from gpu_pipeline.book._audit import compare
from gpu_pipeline.book._quality import Quality, wrong
from gpu_pipeline.book.snapshots import Config, make
from gpu_pipeline.core.config import StreamSection
from gpu_pipeline.dataset._align import aligned_rows
from tests.book.market import DEPTH_COLUMNS, SECOND, cut, folded, in_pieces, rows_of, same
from tests.book.recorded import INSTRUMENTS, quotes_of, recorded

CONFIG = Config(cadence="1s", near_levels=20, deep_bins={"count": 10, "levels_each": 20}, max_gap="10s")
NAMES = sorted(INSTRUMENTS)
TIMES = ("time_ns", "known_ns")


def totals_by_second(events):
    """Per grid second the lots and the levels of each side, and the best prices, from plain dictionaries."""
    sides, lots, made, cell = {1: {}, -1: {}}, {1: 0, -1: 0}, {}, None
    for time_ns, known_ns, side, price, quantity, _ in rows_of(events):
        seen = -(-max(time_ns, known_ns) // SECOND)
        cell = seen if cell is None else cell
        for due in range(cell, seen):
            best = max(sides[1], default=None), min(sides[-1], default=None)
            made[due * SECOND] = (lots[1], lots[-1], *best)
        cell = seen
        if side == 0:
            sides, lots = {1: {}, -1: {}}, {1: 0, -1: 0}
            continue
        lots[side] += quantity - sides[side].pop(price, 0)
        if quantity:
            sides[side][price] = quantity
    return made


@pytest.mark.parametrize("name", NAMES)
def test_kept_and_binned_and_beyond_is_the_total_of_each_side(market_data: Path, name):
    events = recorded(market_data, name)
    depth = make(events, CONFIG)
    expected = totals_by_second(events)
    assert len(depth) > 300
    assert bool(depth.valid.all())
    found = (depth.depth[:, :, 1::2].sum(1).long() + depth.beyond).tolist()
    best = depth.depth[:, 0, 0::2].long().tolist()
    compared = [
        (*found[i], *best[i]) == expected[time] for i, time in enumerate(depth.time_ns.tolist()) if time in expected
    ]
    assert len(compared) > 300
    assert all(compared)
    assert bool((depth.age_ns >= 0).all())
    assert bool((depth.depth[:, 0, 0] < depth.depth[:, 0, 2]).all())


@pytest.mark.parametrize("name", NAMES)
def test_altering_every_event_after_a_time_changes_nothing_at_or_before_it(market_data: Path, name):
    events = cut(recorded(market_data, name), slice(0, 60_000))
    whole, relaxed = make(events, CONFIG), CONFIG.model_copy(update={"on_bad_book": "keep"})
    for share in (0.3, 0.7):
        at = int(share * len(events))
        moment = torch.maximum(events.time_ns, events.known_ns)[at]
        changed, count = make(altered_after(events, at), relaxed), int((whole.known_ns < moment).sum())
        assert count > 5
        cells = [
            replace(made, **{column: getattr(made, column)[:count] for column in DEPTH_COLUMNS})
            for made in (whole, changed)
        ]
        same(*cells)
        assert not torch.equal(whole.depth[count:], changed.depth[count : len(whole)])


def altered_after(events, at):
    """Every event from row `at` on with the other side, another quantity, and a third of a second later."""
    later = torch.arange(len(events)) >= at
    columns = {name: torch.where(later, getattr(events, name) + SECOND // 3, getattr(events, name)) for name in TIMES}
    return replace(
        events,
        side=torch.where(later & (events.side != 0), -events.side, events.side),
        quantity_lots=torch.where(later, events.quantity_lots * 3 + 1, events.quantity_lots),
        **columns,
    )


def test_the_four_side_by_side_change_nothing_at_or_before_a_time_by_what_comes_after_it(market_data: Path):
    section = StreamSection.model_validate({"from": "book", "window": 1, "assets": "all", "min_assets_required": 1})
    feeds = [cut(recorded(market_data, name), slice(0, 60_000)) for name in NAMES]
    relaxed = CONFIG.model_copy(update={"on_bad_book": "keep"})
    moment = min(int(events.known_ns[40_000]) for events in feeds)
    seen = [torch.maximum(events.time_ns, events.known_ns) for events in feeds]
    others = [altered_after(events, int((when <= moment).sum())) for events, when in zip(feeds, seen, strict=True)]
    whole, changed = (
        aligned_rows("book", section, [make(events, relaxed) for events in made]) for made in (feeds, others)
    )
    count = int((whole.known_ns <= moment).sum())
    assert whole.values.shape[1] == 30 * 4 * 4 and count > 5
    for name in ("values", "time_ns", "known_ns", "missing", "filled"):
        before = [getattr(rows, name)[:count].numpy().tobytes() for rows in (whole, changed)]
        assert before[0] == before[1], name
    rest = [rows.values[count : len(whole)].nan_to_num(-7.0) for rows in (whole, changed)]
    assert not torch.equal(rest[0], rest[1][: len(rest[0])])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_altering_any_one_event_changes_nothing_before_it_is_seen(market_data: Path, name):
    """Single events, drawn from the whole recording: the tensor up to them is the same, and some are felt after it."""
    events, relaxed = recorded(market_data, name), CONFIG.model_copy(update={"on_bad_book": "keep"})
    whole, felt = make(events, relaxed), 0
    for at in np.random.default_rng(4).integers(2_000, len(events), 40).tolist():
        lots = events.quantity_lots.clone()
        lots[at] = lots[at] * 3 + 1
        changed = make(replace(events, quantity_lots=lots), relaxed)
        count = int((whole.known_ns < torch.maximum(events.time_ns, events.known_ns)[at]).sum())
        same(
            *(replace(d, **{column: getattr(d, column)[:count] for column in DEPTH_COLUMNS}) for d in (whole, changed))
        )
        felt += not torch.equal(whole.beyond, changed.beyond) or not torch.equal(
            whole.depth[:, :, 1::2], changed.depth[:, :, 1::2]
        )
    assert felt >= 10


def test_pieces_give_the_whole(market_data: Path):
    events = cut(recorded(market_data, "usdm_btcusdt"), slice(0, 120_000))
    same(folded(snapshots, CONFIG, in_pieces(events, range(1_234, 120_000, 17_771))), make(events, CONFIG))


@pytest.mark.parametrize("name", NAMES)
def test_the_best_levels_are_the_quotes_of_the_venue(market_data: Path, name):
    events = recorded(market_data, name)
    quotes, ids = quotes_of(market_data, name)
    found = compare(iter(in_pieces(events, [100_000, 200_001])), iter([quotes]))
    assert found.compared == len(ids & set(events.update_id.tolist())) > 500
    assert (found.equal, found.differences) == (found.compared, [])
    quality = Quality(events.symbol, 10 * SECOND, 5.0)
    quality.add(events)
    quality.close()
    assert [wrong(row) for row in quality.rows()] == [{}, {}]


def test_the_naive_order_would_be_seen(market_data: Path):
    """A snapshot that replaces the book when it arrives forgets messages that were recorded before it."""
    seen = {}
    for name in ("spot_btcusdt", "usdm_btcusdt"):
        events = recorded(market_data, name, naive=True)
        found = compare(iter([events]), iter([quotes_of(market_data, name)[0]]))
        quality = Quality(events.symbol, 10 * SECOND, 5.0)
        quality.add(events)
        crossed = sum(row["crossed"] for row in quality.rows())
        if len(events) < len(recorded(market_data, name)):
            seen[name] = (crossed, found.compared - found.equal)
    assert seen
    assert any(crossed and unequal for crossed, unequal in seen.values()), seen
