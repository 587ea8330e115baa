"""What every data source must keep, files not yet written included.

A source that reads files has a module of its name in tests/ingest/samples with `write(folder, rows)`, which writes the
given trades in the source's format and returns the values of its `Config`. Where that module says `HOLDS = "book"` or
`HOLDS = "quotes"`, it is given messages of a book or quotes instead; where it says `"bars"`, minute bars. So has a
source that reads tables of a server.
"""

from __future__ import annotations

import importlib
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from gpu_pipeline.core import plugins
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options, Plugin
from gpu_pipeline.core.schema import Bars, BookEvents, BookSnapshots, Quotes, Symbol, Trades
from gpu_pipeline.ingest._raw import TENSORS, RawTrades, ReadRequest, Units
from gpu_pipeline.ingest._read import open_stream, read_stream
from tests.conformance.options import example
from tests.ingest.samples.rows import messages, minutes, quotes, rows

NAMES = plugins.names("sources")
READ_FILES = [name for name in NAMES if hasattr(plugins.load("sources", name).module, "files")]
READ_TABLES = [name for name in NAMES if hasattr(plugins.load("sources", name).module, "tables")]
REQUEST = ReadRequest("trades", "BTCUSDT", limit=3_000)
SOME = 3
WRITTEN: dict[str, Any] = {"trades": rows, "book": messages, "quotes": quotes, "bars": minutes}


def holds(name: str) -> str:
    """What the sample of a source is made of."""
    try:
        return str(getattr(importlib.import_module(f"tests.ingest.samples.{name}"), "HOLDS", "trades"))
    except ModuleNotFoundError:
        return "trades"


OF_TRADES = [name for name in NAMES if holds(name) == "trades"]
FILES_OF_TRADES = [name for name in OF_TRADES if name in READ_FILES]
OF_BARS = [name for name in NAMES if holds(name) == "bars"]
OTHERS = [name for name in NAMES if name not in (*OF_TRADES, *OF_BARS)]
FILES_OF_OTHERS = [name for name in OTHERS if name in READ_FILES]


def sample(name: str, folder: Path, written: Any = None) -> tuple[Plugin, Options]:
    plugin = plugins.load("sources", name)
    if name not in READ_FILES + READ_TABLES:
        return plugin, example(plugin.config)
    try:
        writer: Any = importlib.import_module(f"tests.ingest.samples.{name}")
    except ModuleNotFoundError:
        pytest.fail(f"add tests/ingest/samples/{name}.py with write(folder, rows) -> values of the source's Config")
    return plugin, plugin.config(**writer.write(folder, written or WRITTEN[holds(name)]()))


def test_there_are_sources() -> None:
    assert {"binance", "parquet", "simulated"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_config_is_strict_frozen_and_documented(name: str) -> None:
    plugin = plugins.load("sources", name)
    config = example(plugin.config)
    assert issubclass(plugin.config, Options)
    assert plugin.summary and plugin.config.__doc__ and plugin.function.__doc__
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config, next(iter(plugin.config.model_fields)), None)
    with pytest.raises(ValidationError, match="Extra inputs"):
        plugin.config(no_such_key=1)


def columns_of(item: RawTrades | Trades) -> dict[str, torch.Tensor]:
    if isinstance(item, Trades):
        return {name: getattr(item, name) for name in Trades.COLUMNS}
    found = {name: getattr(item, name) for name in TENSORS if getattr(item, name) is not None}
    return {name: value.units if isinstance(value, Units) else value for name, value in found.items()}


@pytest.mark.parametrize("name", OF_TRADES)
def test_it_reads_the_same_twice_in_columns_of_one_length(name: str, tmp_path: Path) -> None:
    plugin, config = sample(name, tmp_path)
    first, again = (list(islice(plugin.function(config, REQUEST), SOME)) for _ in range(2))
    assert first
    for one, other in zip(first, again, strict=True):
        assert isinstance(one, RawTrades | Trades)
        columns, repeated = columns_of(one), columns_of(other)
        assert {len(column) for column in columns.values()} == {len(one)}
        assert all(columns[key].equal(repeated[key]) for key in columns)
        assert columns["time_ns"].dtype == torch.int64
        assert "is_buyer_maker" not in columns or columns["is_buyer_maker"].dtype == torch.bool


@pytest.mark.parametrize("name", OF_TRADES)
def test_pieces_count_their_rows(name: str, tmp_path: Path) -> None:
    plugin, config = sample(name, tmp_path)
    due: dict[Any, int] = {}
    for item in islice(plugin.function(config, REQUEST), SOME):
        file = item.file if isinstance(item, RawTrades) else None
        assert item.first_row == due.get(file, 0)
        due[file] = item.first_row + len(item)


@pytest.mark.parametrize("name", OF_TRADES)
def test_clean_trades_keep_the_rules(name: str, tmp_path: Path) -> None:
    _, config = sample(name, tmp_path)
    trades = Trades.concat(list(read_stream(name, config, REQUEST)))
    assert trades.report["rows_out"] == len(trades) > 0
    assert bool((torch.diff(trades.time_ns) >= 0).all())
    assert bool((torch.diff(trades.trade_id) > 0).all())
    assert bool((trades.price_ticks > 0).all()) and bool((trades.quantity_lots >= 0).all())
    assert trades.notional.equal(trades.price_ticks * trades.quantity_lots)
    assert {getattr(trades, column).dtype for column in Trades.COLUMNS[:-1]} == {torch.int64}
    assert trades.first_row == 0


@pytest.mark.parametrize("name", FILES_OF_TRADES)
def test_file_sources_give_what_was_written(name: str, tmp_path: Path) -> None:
    written = rows()
    plugin, config = sample(name, tmp_path, written)
    files = plugin.module.files(config, "BTCUSDT")
    assert files and all(path.is_file() for path in files)
    pieces = list(read_stream(name, config, REQUEST))
    trades = Trades.concat(pieces)
    symbol = trades.symbol
    found = zip(*(getattr(trades, column).tolist() for column in Trades.COLUMNS), strict=True)
    exact = [
        (at, time // 1_000_000, symbol.price.exact(ticks), symbol.quantity.exact(lots), maker)
        for time, ticks, lots, _, at, maker in found
    ]
    assert exact == written
    assert (str(symbol.price_tick), str(symbol.quantity_lot)) == ("0.01", "0.001")
    notional = sum(price * size for _, _, price, size, _ in written)
    assert symbol.notional.exact(int(trades.notional.sum())) == notional


@pytest.mark.parametrize("name", READ_FILES)
def test_file_sources_name_what_is_missing(name: str, tmp_path: Path) -> None:
    plugin, config = sample(name, tmp_path)
    for path in plugin.module.files(config, "BTCUSDT"):
        path.unlink()
    with pytest.raises(InputError):
        plugin.module.files(config, "BTCUSDT")
    with pytest.raises(InputError):
        list(plugin.function(config, REQUEST))


@pytest.mark.parametrize("name", FILES_OF_TRADES)
def test_file_sources_survive_files_cut_anywhere(name: str, tmp_path: Path) -> None:
    """A file cut short is one clear error, or (plain text at a line's end) the rows before the cut."""
    written = rows(40)
    plugin, config = sample(name, tmp_path, written)
    path = plugin.module.files(config, "BTCUSDT")[-1]
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        try:
            trades = Trades.concat(list(read_stream(name, config, REQUEST)))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            kept = list(takewhile(lambda row: row[0] <= int(trades.trade_id[-1]), written))  # noqa: B023
            assert trades.trade_id.tolist() == [row[0] for row in kept]


@pytest.mark.parametrize("name", OF_TRADES)
def test_books_come_in_order(name: str, tmp_path: Path) -> None:
    """A source that also makes books hands them over as snapshots whose times do not fall."""
    plugin, config = sample(name, tmp_path)
    if name in READ_FILES:
        return
    request = ReadRequest("book", "BTCUSDT", limit=3_000)
    item = next(plugin.function(config, request), None)
    if isinstance(item, BookSnapshots):
        assert len(item.offsets) == len(item) + 1 and int(item.offsets[-1]) == len(item.price_ticks)
        assert bool((torch.diff(item.time_ns) >= 0).all())
        assert bool((item.known_ns >= item.time_ns).all())


def read_all(name: str, config: Options) -> Any:
    stream = open_stream(name, config, ReadRequest("other", "BTCUSDT"))
    return stream.symbol, list(stream.make(stream.symbol))


@pytest.mark.parametrize("name", OTHERS)
def test_books_and_quotes_keep_the_rules(name: str, tmp_path: Path) -> None:
    _, config = sample(name, tmp_path)
    symbol, pieces = read_all(name, config)
    assert (str(symbol.price_tick), str(symbol.quantity_lot)) == ("0.01", "0.001")
    again = read_all(name, config)[1]
    assert {type(piece) for piece in pieces} <= ({Quotes} if holds(name) == "quotes" else {BookEvents, BookSnapshots})
    for column in ("time_ns", "known_ns"):
        values = torch.cat([getattr(piece, column) for piece in pieces])
        assert values.equal(torch.cat([getattr(piece, column) for piece in again]))
        assert bool((torch.diff(values) >= 0).all())
    assert all(bool((piece.known_ns >= piece.time_ns).all()) for piece in pieces)


Level = tuple[int, Any]


def last_book(pieces: list[Any], symbol: Symbol) -> dict[Level, Any]:
    """(side, price) -> quantity at the end of events or snapshots."""
    book: dict[Level, Any] = {}
    for piece in pieces:
        if isinstance(piece, BookSnapshots):
            start, stop = int(piece.offsets[-2]), int(piece.offsets[-1])
            sides = [1 if at < start + int(piece.bid_count[-1]) else -1 for at in range(start, stop)]
            book, prices, lots = {}, piece.price_ticks[start:stop].tolist(), piece.quantity_lots[start:stop].tolist()
        else:
            sides, prices, lots = (getattr(piece, name).tolist() for name in ("side", "price_ticks", "quantity_lots"))
        for side, price, quantity in zip(sides, prices, lots, strict=True):
            book = {} if side == 0 else book
            book[side, symbol.price.exact(price)] = symbol.quantity.exact(quantity)
    return {key: quantity for key, quantity in book.items() if quantity and key[0]}


@pytest.mark.parametrize("name", [name for name in OTHERS if holds(name) == "book"])
def test_books_end_as_they_were_written(name: str, tmp_path: Path) -> None:
    written = messages()
    plugin, config = sample(name, tmp_path, written)
    assert name in READ_TABLES or all(path.is_file() for path in plugin.module.files(config, "BTCUSDT"))
    symbol, pieces = read_all(name, config)
    book = {(side, price): size for _, _, levels in written for side, price, size in levels}
    assert last_book(pieces, symbol) == {key: size for key, size in book.items() if size}


@pytest.mark.parametrize("name", [name for name in OTHERS if holds(name) == "quotes"])
def test_quotes_are_what_was_written(name: str, tmp_path: Path) -> None:
    _, config = sample(name, tmp_path)
    symbol, pieces = read_all(name, config)
    names = ("update_id", "time_ns", "bid_ticks", "bid_lots", "ask_ticks", "ask_lots")
    found = zip(*(torch.cat([getattr(piece, column) for piece in pieces]).tolist() for column in names), strict=True)
    price, size = symbol.price.exact, symbol.quantity.exact
    exact = [(at, ns // 10**6, price(bid), size(many), price(ask), size(few)) for at, ns, bid, many, ask, few in found]
    assert exact == quotes()


@pytest.mark.parametrize("name", OF_BARS)
def test_bars_are_what_was_written(name: str, tmp_path: Path) -> None:
    _, config = sample(name, tmp_path)
    symbol, pieces = read_all(name, config)
    assert {type(piece) for piece in pieces} == {Bars}
    bars = Bars.concat(pieces)
    assert (str(symbol.price_tick), str(symbol.quantity_lot)) == ("0.01", "0.001")
    columns = ("open", "high", "low", "close", "volume", "dollar_volume")
    found = zip(bars.open_timestamp.tolist(), *(bars.columns[column].tolist() for column in columns), strict=True)
    assert [(ns // 10**6, *values) for ns, *values in found] == [(at, *map(float, rest)) for at, *rest in minutes()]
    assert pieces[-1].report["rows_out"] == len(bars) and bars.last_trade_row.tolist() == list(range(len(bars)))


@pytest.mark.parametrize("name", [*FILES_OF_OTHERS, *OF_BARS])
def test_what_is_no_trades_cut_anywhere(name: str, tmp_path: Path) -> None:
    """A file cut short is one clear error, or (plain text at a line's end) what stands before the cut."""
    plugin, config = sample(name, tmp_path)
    path = plugin.module.files(config, "BTCUSDT")[-1]
    whole, most = path.read_bytes(), sum(len(piece) for piece in read_all(name, config)[1])
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        try:
            pieces = read_all(name, config)[1]
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert sum(len(piece) for piece in pieces) <= most
