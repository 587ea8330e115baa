from __future__ import annotations

import datetime as dt
import hashlib
import io
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from gpu_pipeline.core import plugins
from gpu_pipeline.core.config import RunConfig, SymbolOptions, check_config
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookSnapshots, Symbol, Trades
from gpu_pipeline.core.trace import Ticker, Trace
from gpu_pipeline.ingest import _book_files, _read, _stage
from gpu_pipeline.ingest._months import months
from gpu_pipeline.ingest._read import read_trades
from tests.ingest.samples import binance as binance_sample
from tests.ingest.samples import parquet as parquet_sample
from tests.ingest.samples.rows import Row, rows

CPU = torch.device("cpu")
SYMBOL = Symbol("BTCUSDT", Decimal("0.01"), Decimal("0.001"))


def configured(ingest: dict[str, Any], symbols: Any = ("BTCUSDT",)) -> RunConfig:
    return check_config(
        {"name": "x", "symbols": symbols if isinstance(symbols, dict) else list(symbols), "ingest": ingest}
    )


def written(folder: Path, config: RunConfig) -> dict[str, Any]:
    return _stage.write(folder, config, CPU, Trace(Console(file=io.StringIO())))


def ticker() -> Ticker:
    return Ticker("test", None, Console(file=io.StringIO()))


@pytest.fixture
def archive(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "in").mkdir()
    return {"source": "binance", **binance_sample.write(tmp_path / "in", rows())}


def test_trades_come_back_as_they_were(tmp_path: Path, archive: dict[str, Any]) -> None:
    config = configured({"trades": archive})
    manifest = written(tmp_path / "out", config)
    symbol = _stage.load_symbols(manifest)["BTCUSDT"]
    assert symbol == SYMBOL
    loaded = list(_stage.load_trades(tmp_path / "out", symbol, CPU))
    files = sorted(path.name for path in (tmp_path / "out" / "BTCUSDT").iterdir())
    assert files == ["BTCUSDT_2024_01.parquet", "BTCUSDT_2024_02.parquet"] and len(loaded) == 2
    assert [part.first_row for part in loaded] == [0, len(loaded[0])]
    whole, read = Trades.concat(loaded), read_trades(archive["path"], "binance", "BTCUSDT", "cpu")
    assert all(getattr(whole, name).equal(getattr(read, name)) for name in Trades.COLUMNS)
    last_of_january = dt.datetime(2024, 2, 1, tzinfo=dt.UTC).timestamp() * 1e9
    assert int(loaded[0].time_ns[-1]) < last_of_january <= int(loaded[1].time_ns[0])


def test_the_manifest_accounts_for_every_trade(tmp_path: Path, archive: dict[str, Any]) -> None:
    manifest = written(tmp_path / "out", configured({"trades": archive}))
    made: list[Row] = rows()
    entry = manifest["symbols"]["BTCUSDT"]
    volume = sum(size for _, _, _, size, _ in made)
    notional = sum(price * size for _, _, price, size, _ in made)
    assert manifest["rows_in"] == manifest["rows_out"] == entry["rows_out"] == len(made)
    assert Decimal(entry["volume"]) == volume == Decimal(entry["volume_lots"]) / 1000
    assert Decimal(entry["notional_quote"]) == notional == Decimal(entry["notional"]) / 100_000
    assert (entry["first_time_ns"], entry["last_time_ns"]) == (made[0][1] * 10**6, made[-1][1] * 10**6)
    assert entry["dropped"] == {} and entry["duplicates"] == entry["times_set_back"] == 0
    assert entry["id_gaps"] == {"count": 0, "missing": 0, "first": []}
    assert entry["checked"] == {"none there": 2} and entry["has_side"] is True


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.parquet")}


def test_same_bytes_in_any_pieces(tmp_path: Path, archive: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured({"trades": archive})
    manifest = written(tmp_path / "a", config)
    monkeypatch.setattr("gpu_pipeline.ingest._csv.BLOCK_BYTES", 1_000)
    monkeypatch.setattr(_read, "KEEP_BYTES", 0)
    assert written(tmp_path / "b", config) == manifest
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_clean_files_are_input_again(tmp_path: Path, archive: dict[str, Any]) -> None:
    first = written(tmp_path / "a", configured({"trades": archive}, {"BTCUSDT": {"price_tick": "0.005"}}))
    again = configured({"trades": {"source": "parquet", "path": str(tmp_path / "a" / "{SYMBOL}")}})
    second = written(tmp_path / "b", again)
    assert second["symbols"]["BTCUSDT"]["symbol"]["price_tick"] == "0.005"
    assert {**second["symbols"]["BTCUSDT"], "checked": 0, "quote_step": 0} == {
        **first["symbols"]["BTCUSDT"],
        "checked": 0,
        "quote_step": 0,
    }
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    with pytest.raises(InputError, match=r"holds trades of BTCUSDT, not ETHUSDT; put {SYMBOL} into the path"):
        read_trades(tmp_path / "a", symbol="ETHUSDT", device="cpu")


def test_clean_files_are_integers_with_page_checksums(tmp_path: Path, archive: dict[str, Any]) -> None:
    written(tmp_path / "out", configured({"trades": archive}))
    path = tmp_path / "out" / "BTCUSDT" / "BTCUSDT_2024_01.parquet"
    file = pq.ParquetFile(path)
    kinds = {field.name: str(field.type) for field in file.schema_arrow}
    assert kinds == dict.fromkeys(("time_ns", "price_ticks", "quantity_lots", "trade_id"), "int64") | {
        "is_buyer_maker": "bool"
    }
    column = file.metadata.row_group(0).column(0)
    assert column.compression == "ZSTD" and "DELTA_BINARY_PACKED" in column.encodings
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"2024_01\.parquet: cannot be read as Parquet: .*CRC"):
        list(_stage.load_trades(tmp_path / "out", SYMBOL, CPU))


def test_bounds_of_the_section_cut(tmp_path: Path, archive: dict[str, Any]) -> None:
    manifest = written(tmp_path / "out", configured({"trades": {**archive, "start": "2024-02-01", "limit": 7}}))
    entry = manifest["symbols"]["BTCUSDT"]
    assert entry["rows_out"] == 7 and entry["rows_in"] == 7 + entry["before_start"]
    (only,) = _stage.load_trades(tmp_path / "out", SYMBOL, CPU)
    assert only.first_row == 0 and int(only.time_ns[0]) >= 1_706_745_600 * 10**9


def test_input_files_of_all_streams(tmp_path: Path, archive: dict[str, Any]) -> None:
    simulated = {"source": "simulated", "trades": 1000}
    files = _stage.input_files(configured({"trades": archive, "book": simulated}))
    assert [path.name for path in files] == ["BTCUSDT-trades-2024-01.zip", "BTCUSDT-trades-2024-02.zip"]
    shared = {**archive, "path": str(tmp_path / "in")}
    with pytest.raises(InputError) as caught:
        _stage.input_files(configured({"trades": shared}, ["BTCUSDT", "ETHUSDT"]))
    first = tmp_path / "in" / "BTCUSDT-trades-2024-01.zip"
    assert str(caught.value) == f"{first}: is read for BTCUSDT and for ETHUSDT; put {{SYMBOL}} into ingest.trades.path"


@pytest.mark.parametrize(
    ("ingest", "symbols", "message"),
    [
        (
            {"spot": {}},
            ["BTCUSDT"],
            "ingest.spot: holds trades; a run has one stream of trades, and its name is 'trades'",
        ),
        (
            {"trades": {}},
            ["BTC/USDT"],
            "symbols: 'BTC/USDT' cannot be the name of a folder; "
            "write it without slashes and leading dots, for example BTCUSDT",
        ),
    ],
)
def test_names_that_do_not_fit(
    tmp_path: Path, archive: dict[str, Any], ingest: dict[str, Any], symbols: list[str], message: str
) -> None:
    path = archive["path"].replace("{SYMBOL}", "BTCUSDT")
    with pytest.raises(InputError) as caught:
        written(tmp_path / "out", configured({name: {**archive, "path": path} for name in ingest}, symbols))
    assert str(caught.value) == message


def test_what_is_not_there(tmp_path: Path, archive: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"holds no monthly file of BTCUSDT; run the stage ingest"):
        list(_stage.load_trades(tmp_path, SYMBOL, CPU))
    written(tmp_path / "out", configured({"trades": archive}))
    other = Symbol("BTCUSDT", Decimal("0.1"), Decimal("0.001"))
    with pytest.raises(
        InputError, match=r"its scales are not those of BTCUSDT in this run; run the stage ingest again"
    ):
        list(_stage.load_trades(tmp_path / "out", other, CPU))


def test_simulated_trades_and_book(tmp_path: Path) -> None:
    market = {"source": "simulated", "trades": 5_000, "trades_per_day": 10_000, "book_step": "10min", "book_levels": 8}
    config = configured({"trades": market, "book": market}, ["BTCUSDT", "ETHUSDT"])
    manifest = written(tmp_path / "out", config)
    assert set(manifest["streams"]["book"]) == set(manifest["symbols"]) == {"BTCUSDT", "ETHUSDT"}
    symbols = _stage.load_symbols(manifest)
    trades = Trades.concat(list(_stage.load_trades(tmp_path / "out", symbols["ETHUSDT"], CPU)))
    book = _book_files.joined(list(_stage.load_book(tmp_path / "out", "book", symbols["ETHUSDT"], CPU)))
    entry = manifest["streams"]["book"]["ETHUSDT"]
    assert len(trades) == 5_000 and len(book) == entry["rows_out"] > 0
    assert int(book.offsets[-1]) == len(book.price_ticks) == entry["levels"]
    assert entry["quantity_lots"] == int(book.quantity_lots.sum())


@pytest.mark.parametrize(
    ("changes", "total"),
    [
        ({"trades": 5_000}, 10_000),
        ({"trades": 5_000, "limit": 70}, 140),
        ({"trades": 5_000, "start": "2024-01-01"}, None),
        ({"days": 1}, None),
    ],
)
def test_the_progress_knows_the_total_where_the_source_does(changes: dict[str, Any], total: int | None) -> None:
    config = configured({"trades": {"source": "simulated", **changes}}, ["BTCUSDT", "ETHUSDT"])
    section = config.ingest["trades"]
    jobs = [
        (section, _read.request_of(section, "trades", name, options, device=CPU, seed=1))
        for name, options in config.symbols.items()
    ]
    assert _stage._expected(jobs) == total


def test_the_progress_counts_rows_and_tells_of_the_first_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured({"trades": {"source": "parquet", **parquet_sample.write(tmp_path, rows())}})
    told: list[tuple[str, int | None, int, str]] = []

    def advance(self: Ticker, steps: int = 1, note: str = "") -> None:
        told.append((self._title, self._total, steps, note))

    monkeypatch.setattr(Ticker, "advance", advance)
    written(tmp_path / "out", config)
    assert {(title, total) for title, total, _, _ in told} == {("ingest", len(rows()))}
    assert sum(steps for _, _, steps, _ in told) == len(rows())
    assert told[0][2:] == (0, "BTCUSDT looking through a.parquet")


def test_a_book_is_no_trades(tmp_path: Path) -> None:
    config = configured({"trades": {"source": "simulated", "trades": 1000}})
    section = config.ingest["trades"]
    request = _read.request_of(section, "book", "BTCUSDT", config.symbols["BTCUSDT"], device=CPU, seed=1)
    with pytest.raises(InputError, match=r"ingest\.book: source 'simulated' holds book snapshots, not trades"):
        list(_read.read_stream("simulated", section.options, request))


def test_a_source_that_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured({"trades": {"source": "simulated", "trades": 1000}})
    section = config.ingest["trades"]
    request = _read.request_of(section, "trades", "BTCUSDT", config.symbols["BTCUSDT"], device=CPU, seed=1)
    monkeypatch.setattr("gpu_pipeline.ingest.simulated.read", lambda *_: iter(()))
    with pytest.raises(InputError, match=r"ingest\.trades: source 'simulated' holds nothing for BTCUSDT"):
        list(_read.read_stream("simulated", section.options, request))


def test_a_file_of_a_header_alone_is_named(tmp_path: Path) -> None:
    file = tmp_path / "day.csv"
    file.write_text("id,price,qty,time,is_buyer_maker\n")
    with pytest.raises(InputError, match=r"source 'binance' holds nothing for X in .*day\.csv"):
        _read.read_trades(file, source="binance", symbol="X", device="cpu")


@given(st.lists(st.datetimes(dt.datetime(1995, 1, 1), dt.datetime(2105, 1, 1)), min_size=1, max_size=30))
def test_months_are_those_of_the_calendar(moments: list[dt.datetime]) -> None:
    moments.sort()
    times = [(moment - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1) * 1000 for moment in moments]
    found = [name for name, cut in months(torch.tensor(times)) for _ in times[cut]]
    assert found == [f"{moment:%Y_%m}" for moment in moments]
    assert len({name for name, _ in months(torch.tensor(times))}) == len(set(found))


@st.composite
def books(draw: st.DrawFn) -> BookSnapshots:
    counts = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
    steps = draw(st.lists(st.sampled_from([0, 1, 20 * 86_400 * 10**9]), min_size=len(counts), max_size=len(counts)))
    times = torch.cumsum(torch.tensor(steps), 0) + 1_700_000_000 * 10**9
    levels = sum(bids + asks for bids, asks in counts)
    numbers = draw(st.lists(st.integers(0, 2**53), min_size=2 * levels, max_size=2 * levels))
    sizes = torch.tensor([0, *(bids + asks for bids, asks in counts)])
    return BookSnapshots(
        SYMBOL,
        times,
        times + 5,
        torch.cumsum(sizes, 0),
        torch.tensor([bids for bids, _ in counts]),
        torch.tensor(numbers[:levels], dtype=torch.int64),
        torch.tensor(numbers[levels:], dtype=torch.int64),
    )


FIELDS = ("time_ns", "known_ns", "offsets", "bid_count", "price_ticks", "quantity_lots")


@settings(max_examples=25, deadline=None)
@given(book=books(), cut=st.integers(0, 12))
def test_books_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, book: BookSnapshots, cut: int) -> None:
    folder = tmp_path_factory.mktemp("book")
    pieces = [_book_files.part(book, slice(0, cut)), _book_files.part(book, slice(cut, len(book)))]
    entry = _book_files.write(folder, iter(pieces), ticker())
    loaded = _book_files.joined(list(_book_files.load(folder, SYMBOL, CPU)))
    assert all(getattr(loaded, name).equal(getattr(book, name)) for name in FIELDS)
    assert entry["rows_out"] == len(book) and entry["quantity_lots"] == sum(book.quantity_lots.tolist())


def test_books_that_fall_in_time_or_are_not_there(tmp_path: Path) -> None:
    empty = torch.zeros(0, dtype=torch.int64)
    times = torch.tensor([2, 1])
    book = BookSnapshots(
        SYMBOL, times, times, torch.zeros(3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64), empty, empty
    )
    with pytest.raises(InputError, match="BTCUSDT: times of book snapshots must not fall"):
        _book_files.write(tmp_path, iter([book]), ticker())
    with pytest.raises(InputError, match="holds no monthly file of BTCUSDT"):
        _stage.load_book(tmp_path, "book", SYMBOL, CPU)


def recorded(folder: Path) -> dict[str, Any]:
    """Trades of 0.01 and 0.001 beside quotes of 0.005 and 0.0001."""
    folder.mkdir()
    table = pa.table(
        {
            "event_time": [1_706_745_570_000],
            "bid": [41_999.995],
            "bid_qty": [0.0001],
            "ask": [42_000.0],
            "ask_qty": [1.0],
        }
    )
    pq.write_table(table, folder / "bbo.parquet")
    return {"source": "quotes", "path": str(folder / "bbo.parquet")}


def test_streams_of_a_symbol_share_their_scales(tmp_path: Path, archive: dict[str, Any]) -> None:
    book = {"source": "simulated", "trades": 50, "price_tick": "0.1", "book_levels": 2, "book_step": "1s"}
    book["volatility"] = "0.05"
    config = configured({"trades": archive, "bbo": recorded(tmp_path / "bbo"), "book": book})
    manifest = written(tmp_path / "out", config)
    symbol = _stage.load_symbols(manifest)["BTCUSDT"]
    assert (str(symbol.price_tick), str(symbol.quantity_lot)) == ("0.001", "0.0001")
    for stream in ("bbo", "book"):
        assert manifest["streams"][stream]["BTCUSDT"]["symbol"] == manifest["symbols"]["BTCUSDT"]["symbol"]
    (quotes,) = _stage.load_quotes(tmp_path / "out", "bbo", symbol, CPU)
    assert (quotes.bid_ticks.tolist(), quotes.bid_lots.tolist()) == ([41_999_995], [1])
    trades = Trades.concat(list(_stage.load_trades(tmp_path / "out", symbol, CPU)))
    assert symbol.price.exact(int(trades.price_ticks[0])) == Decimal("41999.99")
    assert sum(len(piece) for piece in _stage.load_book(tmp_path / "out", "book", symbol, CPU)) > 0


def test_given_scales_are_those_of_every_stream(tmp_path: Path, archive: dict[str, Any]) -> None:
    streams = {"trades": archive, "bbo": recorded(tmp_path / "bbo")}
    with pytest.raises(
        InputError, match=r"bbo\.parquet, row 1: bid price is no multiple of the step 0\.01 \(value 41999"
    ):
        written(tmp_path / "out", configured(streams, {"BTCUSDT": {"price_tick": "0.01"}}))


def test_a_source_that_keeps_scales_of_its_own(
    tmp_path: Path, archive: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured({"trades": archive, "book": {"source": "simulated", "trades": 50, "book_step": "1s"}})
    read = plugins.load("sources", "simulated").module.read
    monkeypatch.setattr(
        "gpu_pipeline.ingest.simulated.read",
        lambda options, request: read(options, replace(request, options=SymbolOptions())),
    )
    message = r"ingest\.book: source 'simulated' keeps its own scales for BTCUSDT, but the streams of a symbol share"
    with pytest.raises(
        InputError, match=rf"{message} theirs; set price_tick: 0\.01 and quantity_lot: 0\.001 under symbols"
    ):
        written(tmp_path / "out", config)


def test_two_contracts_under_one_name(tmp_path: Path, archive: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured({"trades": archive, "book": {"source": "simulated", "trades": 50, "book_step": "1s"}})
    read = plugins.load("sources", "simulated").module.read
    monkeypatch.setattr(
        "gpu_pipeline.ingest.simulated.read",
        lambda options, request: read(options, replace(request, options=SymbolOptions(multiplier=Decimal(10)))),
    )
    with pytest.raises(InputError, match=r"ingest\.book: BTCUSDT is not the contract that ingest\.trades holds"):
        written(tmp_path / "out", config)


def test_trades_alone_are_called_trades(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ingest\.trades: holds no trades; a run has one stream of trades"):
        written(tmp_path / "out", configured({"trades": recorded(tmp_path / "bbo")}))
