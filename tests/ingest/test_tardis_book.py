"""Tardis order books from rows written by hand: snapshot runs, deletes, what stands before the first snapshot."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.ingest import _book_files, _read, _wide
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._read import open_stream
from gpu_pipeline.ingest.tardis_book import Config
from tests.ingest.samples import tardis_book as sample
from tests.ingest.samples.books import books
from tests.ingest.samples.rows import messages
from tests.ingest.test_tall_snapshots import shown

HEADER = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
T = 1_700_000_000_000_000


def read(config: Config, **request: Any) -> tuple[Any, list[Any]]:
    stream = open_stream("tardis_book", config, ReadRequest("book", "BTCUSDT", **request))
    return stream.symbol, list(stream.make(stream.symbol))


def written(folder: Path, *lines: str, header: str = HEADER, **values: Any) -> Config:
    (folder / "book.csv").write_text("\n".join([header, *lines, ""]))
    return Config(path=str(folder / "book.csv"), **values)


def row(time: int, local: int, snapshot: str, side: str, price: object, amount: object, name: str = "BTCUSDT") -> str:
    return f"deribit,{name},{T + time},{T + local},{snapshot},{side},{price},{amount}"


LINES = (
    row(0, 1, "false", "bid", 90, 1),
    # A snapshot run whose rows came at two local times.
    row(10, 20, "true", "bid", 100, 1),
    row(10, 25, "true", "ask", 101, 2),
    row(11, 30, "false", "bid", 100, 0),
    row(11, 30, "false", "bid", 99.5, 4),
    row(12, 30, "false", "ask", 101, 3),
    row(9, 40, "false", "ask", 102, 5),
    row(50, 60, "true", "ask", 103, 1),
)


def events(pieces: list[Any]) -> list[tuple[Any, ...]]:
    """(us since T: when, known; side, price, quantity) of every event."""
    found = []
    for piece in pieces:
        columns = (piece.time_ns, piece.known_ns, piece.side, piece.price_ticks, piece.quantity_lots)
        for time, known, side, ticks, lots in zip(*(column.tolist() for column in columns), strict=True):
            price, amount = piece.symbol.price.exact(ticks), piece.symbol.quantity.exact(lots)
            found.append((time // 1_000 - T, known // 1_000 - T, side, float(price), float(amount)))
    return found


def test_incremental_rows_by_hand(tmp_path: Path) -> None:
    symbol, pieces = read(written(tmp_path, *LINES))
    assert (symbol.price_tick, symbol.quantity_lot) == (Decimal("0.1"), Decimal(1))
    assert events(pieces) == [
        (10, 25, 0, 0, 0),
        (10, 25, 1, 100, 1),
        (10, 25, -1, 101, 2),
        (11, 30, 1, 100, 0),
        (11, 30, 1, 99.5, 4),
        (12, 30, -1, 101, 3),
        # The exchange's clock stepped back.
        (12, 40, -1, 102, 5),
        (50, 60, 0, 0, 0),
        (50, 60, -1, 103, 1),
    ]
    report = pieces[-1].report
    assert report["snapshots"] == {"applied": 2, "stale": 0} and report["times_set_back"] == 1
    assert (report["messages"]["before_snapshot"], report["messages"]["applied"]) == (1, 3)


def test_any_pieces_give_the_same_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(**sample.write(tmp_path, messages()))
    symbol, pieces = read(config)
    monkeypatch.setattr("gpu_pipeline.ingest._csv.BLOCK_BYTES", 700)
    monkeypatch.setattr(_read, "KEEP_BYTES", 0)
    same, again = read(config)
    assert len(again) > len(pieces) and same == symbol and events(again) == events(pieces)
    assert again[-1].report == pieces[-1].report


def test_rows_of_other_symbols_are_passed_over(tmp_path: Path) -> None:
    lines = [row(0, 1, "true", "bid", 100, 1), row(0, 1, "true", "bid", 7.25, 1, "ETHUSDT")]
    _, pieces = read(written(tmp_path, *lines))
    assert events(pieces) == [(0, 1, 0, 0, 0), (0, 1, 1, 100, 1)]
    with pytest.raises(InputError, match="holds no row of BTCUSDT; it has ETHUSDT"):
        read(written(tmp_path, lines[1]))


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ([row(0, 1, "true", "bid", 100, -1)], "row 1: a quantity must not be negative"),
        ([row(0, 1, "true", "buyer", 100, 1)], "row 1: a level needs its side"),
        ([LINES[1], row(0, 1, "maybe", "bid", 100, 1)], "row 2: is_snapshot must be true or false"),
        ([LINES[0]], "nothing is left"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, lines: list[str], match: str) -> None:
    with pytest.raises(InputError, match=match):
        read(written(tmp_path, *lines))


def wide(folder: Path, levels: int) -> Config:
    """Every book of the messages as a row; levels that are not there are empty cells."""
    cells = [f"{side}s[{at}].{what}" for at in range(levels) for side in ("ask", "bid") for what in ("price", "amount")]
    lines = []
    for _, time, bids, asks in books(messages()):
        row: list[object] = ["binance", "BTCUSDT", time * 1_000, time * 1_000 + 250]
        for at in range(levels):
            for side in (asks, bids):
                row += side[at] if at < len(side) else ("", "")
        lines.append(",".join(map(str, row)))
    header = ",".join(["exchange,symbol,timestamp,local_timestamp", *cells])
    return written(folder, *lines, header=header, data_type=f"book_snapshot_{levels}")


@pytest.mark.parametrize("levels", [25, 5])
def test_wide_snapshots_are_the_ones_written(tmp_path: Path, levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = wide(tmp_path, levels)
    _, pieces = read(config)
    book = _book_files.joined(pieces)
    assert shown(book) == [(time, bids[:levels], asks[:levels]) for _, time, bids, asks in books(messages())]
    assert (book.known_ns - book.time_ns).max() == 250_000
    monkeypatch.setattr(_wide, "PIECE_LEVELS", 70 * levels)
    _, again = read(config)
    assert len(again) > 3 and shown(_book_files.joined(again)) == shown(book)
    assert again[-1].report == pieces[-1].report


def test_a_wide_file_must_have_all_its_levels(tmp_path: Path) -> None:
    config = wide(tmp_path, 5).model_copy(update={"data_type": "book_snapshot_25"})
    with pytest.raises(InputError, match=r"has no column for bids\[5\].price"):
        read(config)


def test_parquet_of_the_same_rows(tmp_path: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet as pq

    config = wide(tmp_path, 5)
    pq.write_table(pyarrow.csv.read_csv(tmp_path / "book.csv"), tmp_path / "book.parquet", row_group_size=31)
    whole = config.model_copy(update={"path": str(tmp_path / "book.parquet")})
    assert shown(_book_files.joined(read(whole)[1])) == shown(_book_files.joined(read(config)[1]))
    incremental = written(tmp_path, *LINES)
    pq.write_table(pyarrow.csv.read_csv(tmp_path / "book.csv"), tmp_path / "changes.parquet")
    same = incremental.model_copy(update={"path": str(tmp_path / "changes.parquet")})
    assert events(read(same)[1]) == events(read(incremental)[1])
