"""Snapshots in tall form: grouped by time, levels best first, other symbols passed over, any pieces the same."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookSnapshots
from gpu_pipeline.ingest import _book_files, _read, _tall
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._read import open_stream
from gpu_pipeline.ingest.tall_snapshots import Config
from tests.ingest.samples import tall_snapshots as sample
from tests.ingest.samples.books import books
from tests.ingest.samples.rows import messages

HEADER = "timestamp,symbol,side,level,price,quantity"


def read(config: Config, **request: Any) -> tuple[BookSnapshots, dict[str, Any]]:
    stream = open_stream("tall_snapshots", config, ReadRequest("book", "BTCUSDT", **request))
    pieces = list(stream.make(stream.symbol))
    return _book_files.joined(pieces), pieces[-1].report


def shown(book: BookSnapshots) -> list[tuple[int, list[Any], list[Any]]]:
    """(time in ms, bids, asks) with exact values."""
    exact = [
        (book.symbol.price.exact(ticks), book.symbol.quantity.exact(lots))
        for ticks, lots in zip(book.price_ticks.tolist(), book.quantity_lots.tolist(), strict=True)
    ]
    found = []
    for at, time in enumerate(book.time_ns.tolist()):
        start, stop = book.offsets[at : at + 2].tolist()
        middle = start + int(book.bid_count[at])
        found.append((time // 10**6, exact[start:middle], exact[middle:stop]))
    return found


@pytest.mark.parametrize("columns", [{}, {"level": None}])
def test_every_snapshot_is_the_one_written(tmp_path: Path, columns: dict[str, Any]) -> None:
    config = Config(**sample.write(tmp_path, messages()), columns=columns)
    book, report = read(config)
    assert shown(book) == [(time, bids, asks) for _, time, bids, asks in books(messages())]
    assert report["snapshots_in"] == len(book) and report["checked"] == {"page checksums": 2}


def test_any_pieces_give_the_same_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(**sample.write(tmp_path, messages()))
    whole, report = read(config)
    monkeypatch.setattr(_tall, "PIECE_ROWS", 37)
    monkeypatch.setattr(_read, "KEEP_BYTES", 0)
    again, said = read(config)
    assert shown(again) == shown(whole) and said == report


def csv(folder: Path, *lines: str, header: str = HEADER, **values: Any) -> Config:
    (folder / "book.csv").write_text("\n".join([header, *lines, ""]))
    return Config(path=str(folder / "book.csv"), **values)


def test_rows_of_one_time_are_one_snapshot(tmp_path: Path) -> None:
    config = csv(
        tmp_path,
        "1700000000000,btcusdt,ask,1,101.5,2",
        "1700000000000,btcusdt,bid,1,100,0.5",
        "1700000000000,btcusdt,bid,2,99.5,0",
        "1700000001000,btcusdt,bid,1,100,3",
        "1700000001000,ETHUSDT,bid,1,7.001,3",
    )
    book, report = read(config)
    assert shown(book) == [
        (1_700_000_000_000, [(Decimal("100.0"), Decimal("0.5"))], [(Decimal("101.5"), Decimal("2.0"))]),
        (1_700_000_001_000, [(Decimal("100.0"), Decimal("3.0"))], []),
    ]
    # The finest price is that of this symbol.
    assert str(book.symbol.price_tick) == "0.1" and report["levels_without_quantity"] == 1


def test_levels_keep_the_order_that_the_file_gives_them(tmp_path: Path) -> None:
    """A book that is out of order stays so: the book stage counts it."""
    lines = ("1700000000000,BTCUSDT,bid,2,101,1", "1700000000000,BTCUSDT,bid,1,100,1")
    assert read(csv(tmp_path, *lines))[0].price_ticks.tolist() == [100, 101]
    assert read(csv(tmp_path, *lines, columns={"level": None}))[0].price_ticks.tolist() == [101, 100]


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (["1700000001000,BTCUSDT,bid,1,1,1", "1700000000000,BTCUSDT,bid,1,1,1"], "row 2: its time steps back"),
        (["1700000001000,BTCUSDT,bid,1,1,1", "1700000001000,BTCUSDT,up,2,1,1"], "row 2: a level needs its side"),
        (["1700000001000,BTCUSDT,bid,1,1,1", "1700000001000,BTCUSDT,bid,,1,1"], "row 2: a level needs its number"),
        (["1700000001000,BTCUSDT,bid,1,,1"], "row 1: a price must be a number"),
        ([",BTCUSDT,bid,1,1,1"], "row 1: a snapshot needs a time"),
        (["1700000001000,XRPUSDT,bid,1,1,1"], "holds no row of BTCUSDT; it has XRPUSDT; set instrument"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, lines: list[str], match: str) -> None:
    with pytest.raises(InputError, match=match):
        read(csv(tmp_path, *lines))


def test_times_that_step_back_can_be_counted(tmp_path: Path) -> None:
    lines = ("1700000001000,X,bid,1,1,1", "1700000000000,X,bid,1,2,1")
    book, report = read(csv(tmp_path, *lines, on_time_back="count", instrument=None))
    assert book.time_ns.tolist() == [1_700_000_001 * 10**9] * 2 and report["times_set_back"] == 1
