"""A feed that ends before another is silent, not gone: its grid goes on to the common end, filled and then missing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.book import _stage, snapshots
from gpu_pipeline.book.snapshots import Config, DeepBins
from gpu_pipeline.core.config import StreamSection, check_config
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.core.units import DAY_NS
from gpu_pipeline.dataset._align import aligned_rows
from tests.book.market import (
    DEPTH_COLUMNS,
    SECOND,
    SYMBOL,
    as_events,
    book_of,
    cut,
    folded,
    in_pieces,
    random_book,
    random_events,
    same,
)

CPU = torch.device("cpu")
BOTH = ([(100, 5), (99, 1)], [(101, 2), (103, 4)])
OPTIONS = {"near_levels": 1, "deep_bins": None, "cadence": "10s", "max_gap": "25s"}


def stage(folder: Path, feeds, **options):
    """The depth of each symbol after the stage, and what its manifest says."""
    source = {"source": "tests.bars.source"}
    symbols = {name: replace(SYMBOL, name=name) for name in feeds}
    values = {"name": "t", "symbols": [*feeds], "ingest": {"trades": source, "book": source}}
    config = check_config({**values, "book": OPTIONS | options})
    said = _stage.write(folder, config, symbols, lambda symbol: iter(feeds[symbol.name]), Trace())
    return {name: _stage.load(folder, symbol, CPU) for name, symbol in symbols.items()}, said


def named(piece, name):
    return replace(piece, symbol=replace(SYMBOL, name=name))


@pytest.mark.parametrize("kind", ["snapshots", "events"])
def test_an_ended_asset_is_filled_up_to_max_gap_and_missing_to_the_common_end(tmp_path, kind):
    """Grid times 10 .. 80 s. AAA speaks every 10 s; BBB for the last time at 22 s, CCC at 42 s."""
    books = {
        "AAA": book_of([time * SECOND for time in range(10, 90, 10)], [BOTH] * 8),
        "BBB": book_of([10 * SECOND, 22 * SECOND], [BOTH] * 2),
        "CCC": book_of([10 * SECOND, 20 * SECOND, 42 * SECOND], [BOTH] * 3),
    }
    feeds = {name: [named(book if kind == "snapshots" else as_events(book), name)] for name, book in books.items()}
    depth, said = stage(tmp_path, feeds)
    for made in depth.values():
        assert made.time_ns.tolist() == [time * SECOND for time in range(10, 90, 10)]
    ended = depth["BBB"]
    assert ended.age_ns.tolist() == [age * SECOND for age in (0, 10, 8, 18, 28, 38, 48, 58)]
    assert ended.valid.tolist() == [True] * 4 + [False] * 4
    assert ended.filled.tolist() == [False] * 3 + [True] + [False] * 4
    assert ended.depth[~ended.valid][:, :, 1::2].abs().sum() == 0 and ended.beyond[~ended.valid].abs().sum() == 0
    assert ended.depth[~ended.valid][:, :, 0::2].isnan().all()
    counts = {name: (entry["cells"], entry["filled"], entry["missing"]) for name, entry in said["symbols"].items()}
    assert counts == {"AAA": (8, 0, 0), "BBB": (8, 1, 4), "CCC": (8, 2, 2)}
    section = {"from": "book", "window": 1, "assets": "all", "min_assets_required": 2}
    rows = aligned_rows("book", StreamSection.model_validate(section), list(depth.values()))
    assert rows.time_ns.tolist() == depth["AAA"].time_ns.tolist()
    shown = rows.values.reshape(8, 4, 3)
    assert (shown[4:, [1, 3], 1] == 0).all() and shown[4:, [0, 2], 1].isnan().all()
    assert shown[:4, :, 1].isfinite().all() and float(shown[3, 1, 1]) == math.log(6)
    assert rows.filled.tolist() == [0, 0, 0, 2, 0, 1, 0, 0]
    assert rows.missing_cells == {"AAA": 0, "BBB": 4, "CCC": 2}
    assert rows.barred["too_few_assets"].nonzero().flatten().tolist() == [6, 7]


def test_the_reference_itself_may_end_early(tmp_path):
    feeds = {
        "AAA": [named(book_of([10 * SECOND, 20 * SECOND], [BOTH] * 2), "AAA")],
        "BBB": [named(book_of([time * SECOND for time in range(10, 90, 10)], [BOTH] * 8), "BBB")],
    }
    depth, _ = stage(tmp_path, feeds)
    section = StreamSection.model_validate({"from": "book", "window": 1, "assets": "all", "min_assets_required": 1})
    rows = aligned_rows("book", section, list(depth.values()))
    assert len(rows) == 8
    assert rows.barred["reference_missing"].nonzero().flatten().tolist() == [4, 5, 6, 7]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 30),
    count=st.integers(1, 39),
    kind=st.sampled_from([random_book, random_events]),
    delay=st.sampled_from([0.0, 6.0]),
)
def test_whether_a_feed_goes_on_changes_no_cell_before_it_does(seed, count, kind, delay):
    config = Config(near_levels=2, deep_bins=DeepBins(count=1, levels_each=2), max_gap="25s", tolerance="500ms")
    book = kind(seed, 40, delay_s=delay)
    count = min(count, len(book) - 1)
    whole = folded(snapshots, config, [book])
    _, state = snapshots.step(cut(book, slice(0, count)), config, None)
    first, _ = snapshots.step(cut(book, slice(0, count)), config, None)
    rest, _ = snapshots.end(config, state, int(book.time_ns[-1]))
    made = {name: torch.cat((getattr(first, name), getattr(rest, name))) for name in DEPTH_COLUMNS}
    border = int(torch.maximum(book.time_ns, book.known_ns)[count:].min())
    before = int((whole.known_ns < border).sum())
    assert before <= len(made["depth"]) == len(whole)
    same(*(replace(whole, **{name: part[name][:before] for name in DEPTH_COLUMNS}) for part in (made, vars(whole))))


def test_a_long_silence_is_written_a_day_at_a_time(tmp_path, monkeypatch):
    feeds = {
        "AAA": [named(random_book(3, 30), "AAA")],
        "BBB": [named(book_of([1_583_000_000 * SECOND], [BOTH]), "BBB")],
    }
    sizes, give = [], _stage.Account.give
    monkeypatch.setattr(_stage.Account, "give", lambda self, depth: (sizes.append(len(depth)), give(self, depth)))
    depth, said = stage(tmp_path, feeds)
    assert int(depth["AAA"].time_ns[-1]) == int(depth["BBB"].time_ns[-1]) == 1_583_000_000 * SECOND
    assert max(sizes) == DAY_NS // (10 * SECOND) < len(depth["AAA"]) == said["symbols"]["AAA"]["cells"]
    assert not depth["AAA"].valid[-50_000:].any()


def test_pieces_give_the_same_files(tmp_path):
    feeds = {name: named(random_book(seed, count), name) for name, seed, count in (("AAA", 1, 60), ("BBB", 2, 25))}
    stage(tmp_path / "whole", {name: [piece] for name, piece in feeds.items()})
    stage(tmp_path / "cut", {name: in_pieces(piece, [3, 7, 20]) for name, piece in feeds.items()})
    for name in ("AAA.safetensors", "BBB.safetensors", "quality.parquet"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
