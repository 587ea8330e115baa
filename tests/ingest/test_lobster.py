"""A LOBSTER day: the depth tensor shows the file's levels, hidden executions leave the book alone, CSV is Parquet."""

from __future__ import annotations

import datetime as dt
import gzip
import shutil
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import torch

from gpu_pipeline.book.snapshots import Config as Grid
from gpu_pipeline.book.snapshots import make
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookSnapshots, Trades
from gpu_pipeline.ingest import _book_files, _lobster_files, _read
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._read import open_stream
from gpu_pipeline.ingest._streams import shared_symbol
from gpu_pipeline.ingest.lobster import Config, files

LEVELS = 5
SECOND = 10**9
MIDNIGHT = int(dt.datetime(2012, 6, 21, tzinfo=ZoneInfo("America/New_York")).timestamp()) * SECOND
BOOK = ("time_ns", "known_ns", "offsets", "bid_count", "price_ticks", "quantity_lots")


@pytest.fixture(scope="module")
def day(market_data: Path) -> Path:
    folder = market_data / "lobster_amzn_20120621"
    if not folder.is_dir():
        pytest.skip(f"no LOBSTER day in {folder}")
    return folder


@pytest.fixture(scope="module")
def table(day: Path) -> pd.DataFrame:
    return pd.read_parquet(day / "AMZN_L5.parquet")


def config_of(path: Path, **values: Any) -> Config:
    return Config(path=str(path), date="2012-06-21", **values)


def read(config: Config, stream: str, **request: Any) -> Any:
    opened = open_stream("lobster", config, ReadRequest(stream, "AMZN", **request))
    pieces = list(opened.make(opened.symbol))
    return Trades.concat(pieces) if stream == "trades" else (_book_files.joined(pieces), pieces[-1].report)


@pytest.fixture(scope="module")
def book(day: Path) -> BookSnapshots:
    return read(config_of(day / "AMZN_L5.parquet"), "book")[0]


def test_a_snapshot_after_every_message(book: BookSnapshots, table: pd.DataFrame) -> None:
    assert (book.time_ns.numpy() == MIDNIGHT + table["time_ns"].to_numpy()).all()
    assert (str(book.symbol.price_tick), str(book.symbol.quantity_lot)) == ("0.01", "1")
    assert bool((book.bid_count == LEVELS).all()) and bool((torch.diff(book.offsets) == 2 * LEVELS).all())


def test_the_tensor_shows_the_levels_of_the_file(book: BookSnapshots, table: pd.DataFrame) -> None:
    depth = make(book, Grid(cadence="10s", near_levels=LEVELS, deep_bins=None, max_gap="1hour"))
    assert len(depth) == (57_599 - 34_200) // 10
    times = MIDNIGHT + table["time_ns"].to_numpy()
    rows = np.searchsorted(times, depth.time_ns.numpy(), side="right") - 1
    assert (rows >= 0).all() and bool(depth.valid.all())
    for channel, (name, step) in enumerate((("bid_px", 100), ("bid_sz", 1), ("ask_px", 100), ("ask_sz", 1))):
        expected = table[[f"{name}_{level}" for level in range(1, LEVELS + 1)]].to_numpy()[rows]
        assert (depth.depth[:, :, channel].numpy() * step == expected).all()
    assert not bool(depth.beyond.any())


def test_hidden_executions_leave_the_book_alone(book: BookSnapshots, table: pd.DataFrame) -> None:
    hidden = np.flatnonzero(table["type"].to_numpy() == 5)[1:]
    for column in (book.price_ticks, book.quantity_lots):
        levels = column.view(-1, 2 * LEVELS).numpy()
        assert (levels[hidden] == levels[hidden - 1]).all()
    seen = np.flatnonzero(table["type"].to_numpy() == 4)
    shown = torch.stack([book.price_ticks, book.quantity_lots]).view(2, -1, 2 * LEVELS).numpy()
    assert (shown[:, seen] != shown[:, seen - 1]).any((0, 2)).all()


def test_trades_are_the_executions(day: Path, table: pd.DataFrame) -> None:
    trades = read(config_of(day / "AMZN_L5.parquet"), "trades")
    expected = table[table["type"].isin((4, 5))]
    # 63 hidden executions lie between two cents.
    assert str(trades.symbol.price_tick) == "0.001"
    assert (trades.price_ticks.numpy() * 10 == expected["price"].to_numpy()).all()
    assert (trades.quantity_lots.numpy() == expected["size"].to_numpy()).all()
    assert (trades.time_ns.numpy() == MIDNIGHT + expected["time_ns"].to_numpy()).all()
    # A resting buy order (1) is hit by a taker who sells.
    assert (trades.is_buyer_maker.numpy() == (expected["direction"].to_numpy() == 1)).all()
    assert {name: trades.report[name] for name in ("rows_out", "executions_hidden", "cross_trades", "halts")} == {
        "rows_out": 8_974 + 2_445,
        "executions_hidden": 2_445,
        "cross_trades": 0,
        "halts": 0,
    }
    seen = read(config_of(day / "AMZN_L5.parquet", hidden="drop"), "trades")
    assert len(seen) == 8_974 and str(seen.symbol.price_tick) == "0.01"
    assert seen.report["executions_hidden"] == 2_445


def test_takers_of_visible_orders_trade_at_the_touch_before(day: Path, table: pd.DataFrame) -> None:
    """The side again from the book: a buyer takes from the best ask, a seller from the best bid."""
    trades = read(config_of(day / "AMZN_L5.parquet", hidden="drop"), "trades")
    before = table.shift(1)[table["type"] == 4]
    sold = trades.is_buyer_maker.numpy()
    touch = np.where(sold, before["bid_px_1"], before["ask_px_1"])
    assert (trades.price_ticks.numpy() * 100 == touch).mean() > 0.999


def test_streams_share_the_finer_step(day: Path) -> None:
    opened = [
        open_stream("lobster", config_of(day / "AMZN_L5.parquet"), ReadRequest(name, "AMZN", limit=5_000))
        for name in ("trades", "book")
    ]
    symbol = shared_symbol(opened)
    assert str(symbol.price_tick) == "0.001"
    trades, book = (next(stream.make(symbol)) for stream in opened)
    assert trades.symbol == book.symbol == symbol and len(trades) == len(book) == 5_000
    assert int(book.price_ticks[0]) == 223_180


def slices(day: Path, folder: Path) -> Path:
    """The pair under its published name, which holds the day."""
    for kind in ("message", "orderbook"):
        name = f"AMZN_2012-06-21_34200000_57600000_{kind}_5.csv"
        shutil.copyfile(day / f"AMZN_L5_{kind}_slice.csv", folder / name)
    return folder


def test_csv_is_parquet(day: Path, tmp_path: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Config(path=str(slices(day, tmp_path) / "*.csv"))
    assert [path.name.split("_")[4] for path in files(pair, "AMZN")] == ["message", "orderbook"]
    (tmp_path / "whole").mkdir()
    table.head(2_000).to_parquet(tmp_path / "whole" / "AMZN.parquet")
    whole = config_of(tmp_path / "whole" / "AMZN.parquet")
    first, report = read(pair, "book")
    second, _ = read(whole, "book")
    assert len(first) == 2_000 and report["checked"] == {"none there": 1}
    assert report["snapshots_in"] == 2_000 and report["dropped"] == {} and report["times_set_back"] == 0
    assert all(getattr(first, name).equal(getattr(second, name)) for name in BOOK)
    trades, others = read(pair, "trades"), read(whole, "trades")
    assert all(getattr(trades, name).equal(getattr(others, name)) for name in Trades.COLUMNS)
    assert trades.report["executions_hidden"] == others.report["executions_hidden"] > 0
    monkeypatch.setattr(_lobster_files, "PIECE_LEVELS", 1_700)
    monkeypatch.setattr(_read, "KEEP_BYTES", 0)
    again, said = read(pair, "book")
    assert all(getattr(again, name).equal(getattr(first, name)) for name in BOOK) and said == report


def test_trades_in_any_pieces_are_the_same(day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in pieces without an execution, and packed."""
    for path in slices(day, tmp_path).glob("*.csv"):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    whole = read(Config(path=str(tmp_path / "*message*.csv")), "trades")
    monkeypatch.setattr("gpu_pipeline.ingest._csv.BLOCK_BYTES", 500)
    monkeypatch.setattr(_read, "KEEP_BYTES", 0)
    again = read(Config(path=str(tmp_path / "*message*.csv.gz")), "trades")
    assert all(getattr(again, name).equal(getattr(whole, name)) for name in Trades.COLUMNS)
    assert again.report == whole.report


def write_pair(folder: Path, messages: list[str], books: list[str]) -> Config:
    for kind, lines in (("message", messages), ("orderbook", books)):
        (folder / f"X_2024-07-01_{kind}.csv").write_text("\n".join(lines) + "\n")
    return Config(path=str(folder / "X_2024-07-01_message.csv"))


MESSAGE = "34200.000000001,1,7,10,1000000,1"
ROW = "1000100,5,1000000,10,9999999999,0,-9999999999,0"


def test_empty_levels_are_left_out(tmp_path: Path) -> None:
    config = write_pair(tmp_path, [MESSAGE], [ROW])
    book, report = read(config, "book")
    midnight = int(dt.datetime(2024, 7, 1, 4, tzinfo=dt.UTC).timestamp()) * SECOND
    assert book.time_ns.tolist() == [midnight + 34_200 * SECOND + 1]
    assert (book.offsets.tolist(), book.bid_count.tolist()) == ([0, 2], [1])
    exact = [str(book.symbol.price.exact(ticks)) for ticks in book.price_ticks.tolist()]
    assert exact == ["100.00", "100.01"] and book.quantity_lots.tolist() == [10, 5]
    assert report["levels_without_quantity"] == 0


def test_bounds_in_time_and_number(tmp_path: Path) -> None:
    times = ("34200.5", "34201.5", "34201.2", "34203.5", "34204.5")
    lines = [f"{time},1,7,10,1000000,1" for time in times]
    config = write_pair(tmp_path, lines, [ROW] * 5)
    whole, report = read(config, "book")
    assert report["times_set_back"] == 1 and bool((torch.diff(whole.time_ns) >= 0).all())
    start, end = int(whole.time_ns[1]), int(whole.time_ns[4])
    cut, said = read(config, "book", start_ns=start, end_ns=end, limit=2)
    assert cut.time_ns.equal(whole.time_ns[1:3]) and said["before_start"] == 1
    assert len(read(config, "book", start_ns=start, end_ns=end)[0]) == 3


@pytest.mark.parametrize(
    ("messages", "books", "stream", "match"),
    [
        ([MESSAGE, MESSAGE], [ROW], "book", "orderbook.csv, row 2: has fewer rows than X_2024-07-01_message.csv"),
        ([MESSAGE], [ROW, ROW], "book", "row 2: has more rows"),
        ([MESSAGE], ["1,2,3"], "book", "has 3 columns; a row of the book has four for each level"),
        (["1,2,3"], [ROW], "book", "has 3 columns; a message has 6"),
        (["99999999.0,1,7,10,1000000,1"], [ROW], "book", "row 1: time must be a time of the day"),
        ([MESSAGE], ["1000100,-5,1000000,10"], "book", "row 1: a quantity must not be negative"),
        ([MESSAGE], ["1000100,5,,10"], "book", "row 1: a price must be a number"),
        ([MESSAGE, "34200.5,4,7,10,0,1"], [ROW, ROW], "trades", "executions, row 1: a price must be above 0"),
        ([MESSAGE, "34200.5,4,7,10,1000000,0"], [ROW, ROW], "trades", "executions, row 1: a trade needs its side"),
        ([MESSAGE, "34200.5,,7,10,1000000,1"], [ROW, ROW], "trades", "row 2: type must be a whole number"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, messages: list[str], books: list[str], stream: str, match: str) -> None:
    config = write_pair(tmp_path, messages, books)
    with pytest.raises(InputError, match=match):
        read(config, stream)


def test_the_day_must_be_known(tmp_path: Path) -> None:
    write_pair(tmp_path, [MESSAGE], [ROW])
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("2024-07-01", "slice")))
    with pytest.raises(InputError, match="its name does not hold the day of its times; set date"):
        read(Config(path=str(tmp_path)), "book")
    assert len(read(config_of(tmp_path / "X_slice_message.csv"), "book")[0]) == 1
    with pytest.raises(InputError, match="is no message file"):
        read(config_of(tmp_path / "X_slice_orderbook.csv"), "book")
    (tmp_path / "X_slice_orderbook.csv").unlink()
    with pytest.raises(InputError, match=r"X_slice_orderbook.csv: no such file"):
        read(config_of(tmp_path / "X_slice_message.csv"), "book")


def test_bad_levels_can_be_dropped(tmp_path: Path) -> None:
    config = write_pair(tmp_path, [MESSAGE] * 2, [ROW, "1000100,-5,1000000,10,1000200,1,999900,1"])
    book, report = read(config, "book", on_bad_row="drop")
    assert torch.diff(book.offsets).tolist() == [2, 3] and report["dropped"] == {"quantity_negative": 1}
