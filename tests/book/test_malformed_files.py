"""Files with malformed books, by the command line: refused in one line with file and row, or counted, as configured."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_pipeline.cli import main
from gpu_pipeline.core.store import read_json
from tests.book.test_audit import run_file

OPEN_MS = 1_700_000_000_000
BOOK = {"near_levels": 2, "deep_bins": None, "cadence": "1s", "max_gap": "5s"}
SOUND = [("bid", 100.0, 5), ("bid", 99.0, 1), ("ask", 101.0, 2), ("ask", 103.0, 4)]
UNSORTED = [("bid", 99.0, 5), ("bid", 100.0, 1), *SOUND[2:]]
NEGATIVE = [("bid", 100.0, -5), *SOUND[1:]]


def run(folder: Path, second, at_ms=1_000, source=(), book=()):
    """A run to the book stage over three snapshots in one file, the second as given; its exit code."""
    snapshots = [(OPEN_MS, SOUND), (OPEN_MS + at_ms, second), (OPEN_MS + 2_500, SOUND)]
    lines = ["timestamp,symbol,side,level,price,quantity"]
    for time, levels in snapshots:
        at = {"bid": 0, "ask": 0}
        for side, price, quantity in levels:
            at[side] += 1
            lines.append(f"{time},BTCUSDT,{side},{at[side]},{price},{quantity}")
    (folder / "feed.csv").write_text("\n".join(lines) + "\n")
    ingest = {"book": {"source": "tall_snapshots", "path": str(folder / "feed.csv"), **dict(source)}}
    return main(["run", str(run_file(folder, ingest, BOOK | dict(book))), "--to", "book"])


def said_of(folder: Path, stage):
    return read_json(folder / "runs/t" / stage / "manifest.json")


@pytest.mark.parametrize(
    ("second", "kind", "row", "rule"),
    [
        ([("bid", 102.0, 5), *SOUND[2:]], "crossed", 4, "the best bid must lie below the best ask (crossed book)"),
        ([("bid", 101.0, 5), *SOUND[2:]], "locked", 4, "the best bid must lie below the best ask (locked book)"),
        (UNSORTED, "unsorted", 5, "levels must stand best first, each price once (value 100)"),
    ],
)
def test_books_that_are_none_are_refused_left_out_or_kept(tmp_path, capsys, second, kind, row, rule):
    assert run(tmp_path, second) == 2
    where = f"{tmp_path}/feed.csv: book of BTCUSDT, snapshot 1 at 2023-11-14 22:13:21.000000 UTC, level, row {row}"
    assert f"{where}: {rule}" in capsys.readouterr().err
    for choice in ("drop", "keep"):
        assert run(tmp_path, second, book={"on_bad_book": choice}) == 0
        said = said_of(tmp_path, "book")
        assert said["symbols"]["BTCUSDT"]["bad_books"] == {kind: 1}
        assert said["quality"][0][kind] == 1


def test_a_missing_side_is_shown_and_counted(tmp_path):
    assert run(tmp_path, SOUND[:2]) == 0
    day = said_of(tmp_path, "book")["quality"][0]
    assert (day["missing_ask"], day["missing_bid"], day["updates"]) == (1, 0, 3)


def test_a_negative_size_is_refused_with_its_row_or_dropped_and_counted(tmp_path, capsys):
    assert run(tmp_path, NEGATIVE) == 2
    assert f"{tmp_path}/feed.csv, row 5: a quantity must not be negative (value " in capsys.readouterr().err
    assert run(tmp_path, NEGATIVE, source={"on_bad_row": "drop"}) == 0
    assert said_of(tmp_path, "clean")["streams"]["book"]["BTCUSDT"]["dropped"] == {"quantity_negative": 1}


def test_a_clock_that_goes_back_is_refused_with_its_row_or_counted(tmp_path, capsys):
    assert run(tmp_path, SOUND, at_ms=-1_000) == 2
    assert f"{tmp_path}/feed.csv, row 5: its time steps back" in capsys.readouterr().err
    assert run(tmp_path, SOUND, at_ms=-1_000, source={"on_time_back": "count"}) == 0
    assert said_of(tmp_path, "clean")["streams"]["book"]["BTCUSDT"]["times_set_back"] == 1
