"""The report's table of the order book, and what it warns of."""

from __future__ import annotations

from pathlib import Path

import torch

from gpu_pipeline.book import _stage
from gpu_pipeline.core.config import check_config
from gpu_pipeline.core.store import read_table
from gpu_pipeline.core.trace import Trace
from tests.book.market import SYMBOL, in_pieces, random_book, random_events, same
from train import _page
from train._warnings import warnings

CPU = torch.device("cpu")
OPTIONS = {"near_levels": 3, "deep_bins": {"count": 2, "levels_each": 2}}


def stage(folder: Path, pieces, **options):
    source = {"source": "tests.bars.source"}
    values = {
        "name": "t",
        "symbols": ["BTCUSDT"],
        "ingest": {"trades": source, "book": source},
        "book": OPTIONS | options,
    }
    return _stage.write(folder, check_config(values), {"BTCUSDT": SYMBOL}, lambda symbol: iter(pieces), Trace())


def test_the_manifest_and_the_file_hold_the_quality_of_each_day(tmp_path):
    said = stage(tmp_path, [random_events(4, 200)], cadence="2s")
    (day,) = said["quality"]
    (row,) = read_table(tmp_path / "quality.parquet").to_pylist()
    assert {**day, "day": None} == {**row, "day": None}
    assert (day["day"], day["updates"], day["cells"]) == ("2020-02-22", 200, said["symbols"]["BTCUSDT"]["cells"])
    assert day["empty"] > 0
    assert said["symbols"]["BTCUSDT"]["events"] == said["rows_in"] == day["rows"]
    assert day["fresh"] + day["filled"] + day["missing"] == day["cells"]


def test_pieces_give_the_same_files(tmp_path):
    for make_book in (random_book, random_events):
        book = make_book(5, 100)
        whole = stage(tmp_path / "whole", [book])
        assert stage(tmp_path / "cut", in_pieces(book, [3, 7, 50])) == whole
        for name in ("BTCUSDT.safetensors", "quality.parquet"):
            assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        same(*(_stage.load(tmp_path / name, SYMBOL, CPU) for name in ("cut", "whole")))
        assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["BTCUSDT.safetensors", "quality.parquet"]


def test_the_page_shows_the_days_and_warns_of_what_is_wrong(tmp_path):
    said = stage(tmp_path, [random_events(4, 200)], cadence="2s")
    page = _page.book_table(said["quality"])
    assert "<td>2020-02-22</td><td>200</td>" in page
    assert page.count("<tr>") == 2
    told = warnings({}, {}, {}, {}, {}, said)
    empty = said["quality"][0]["empty"]
    assert f"{empty} times the book of BTCUSDT had no level: its feed has gaps." in told
    assert any("grid times of BTCUSDT have no book that is recent enough" in line for line in told)
    assert warnings({}, {}, {}, {}, {}, None) == []


def test_of_many_days_the_last_are_shown(tmp_path):
    said = stage(tmp_path, [random_book(1, 100, mean_gap_s=86_400.0)], cadence="6hour")
    page = _page.book_table(said["quality"])
    assert page.count("<tr>") == 1 + _page.DAYS_SHOWN
    assert f"{len(said['quality']) - _page.DAYS_SHOWN:,} earlier days are in book/quality.parquet" in page
    assert said["quality"][-1]["day"] in page
    assert said["quality"][0]["day"] not in page
