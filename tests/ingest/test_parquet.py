# ruff: noqa: E501 - messages are quoted whole
from __future__ import annotations

import csv
import datetime as dt
import sys
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gpu_pipeline.core.config import SymbolOptions
from gpu_pipeline.core.errors import EnvironmentProblem, InputError
from gpu_pipeline.core.schema import Trades
from gpu_pipeline.ingest import _device, parquet
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._read import read_stream, read_trades

REAL = {"quantity": "amount", "trade_id": "id", "side": "side"}
T_MS = 1_700_000_000_000
NS = {"ms": 1_000_000, "us": 1_000, "ns": 1}


def read(path: Path | list[Path], **options: Any) -> Trades:
    return read_trades(path, source="parquet", symbol="TEST", device="cpu", **options)


def write(path: Path, **columns: Any) -> Path:
    base = {
        "timestamp": [T_MS + at for at in range(4)],
        "price": [100.0, 100.01, 99.5, 100.0],
        "quantity": [1.0, 0.001, 12.345, 0.0],
        "isBuyerMaker": [True, False, True, False],
        "id": [5, 6, 7, 9],
    }
    table = pa.table({name: value for name, value in {**base, **columns}.items() if value is not None})
    pq.write_table(table, path)
    return path


def test_the_real_day_to_the_last_digit(market_data: Path) -> None:
    path = market_data / "btcusdt_perp_trades_20200222" / "trades.parquet"
    trades = read_trades(path, symbol="BTCUSDT", device="cpu", columns=REAL)
    frame = pd.read_parquet(path)
    prices, amounts = ([Decimal(repr(value)) for value in frame[name].tolist()] for name in ("price", "amount"))
    symbol = trades.symbol
    assert len(trades) == 137_988 and trades.report["rows_in"] == 137_988
    assert symbol.quantity.exact(int(trades.quantity_lots.sum())) == sum(amounts) == Decimal("58419.475")
    notional = sum((price * amount for price, amount in zip(prices, amounts, strict=True)), Decimal(0))
    assert symbol.notional.exact(int(trades.notional.sum())) == notional
    assert (symbol.price_tick, symbol.quantity_lot) == (Decimal("0.01"), Decimal("0.001"))
    assert trades.price_ticks.tolist() == [int(price * 100) for price in prices]
    assert trades.time_ns.tolist() == (frame["timestamp"] * 1000).tolist()
    assert trades.trade_id.tolist() == frame["id"].tolist()
    assert trades.is_buyer_maker.tolist() == (frame["side"] == "sell").tolist()
    assert trades.report["id_gaps"]["count"] == 0 and trades.report["checked"] == {"page checksums": 1}


def test_the_real_day_agrees_with_its_csv(market_data: Path) -> None:
    folder = market_data / "btcusdt_perp_trades_20200222"
    trades = read_trades(folder / "trades.parquet", symbol="BTCUSDT", device="cpu", columns=REAL, limit=5000)
    with (folder / "slice_first_5000.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(trades) == trades.report["rows_in"] == 5000
    assert trades.price_ticks.tolist() == [int(Decimal(row["price"]) * 100) for row in rows]
    assert trades.quantity_lots.tolist() == [int(Decimal(row["amount"]) * 1000) for row in rows]
    assert trades.is_buyer_maker.tolist() == [row["side"] == "sell" for row in rows]
    assert trades.time_ns.tolist() == [int(row["timestamp"]) * 1000 for row in rows]


def test_float32_real_prices_give_the_same_ticks(market_data: Path, tmp_path: Path) -> None:
    path = market_data / "btcusdt_perp_trades_20200222" / "trades.parquet"
    table = pq.read_table(path).slice(0, 20_000)
    for name in ("price", "amount"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.float32()))
    pq.write_table(table, tmp_path / "narrow.parquet")
    narrow = read_trades(tmp_path / "narrow.parquet", symbol="BTCUSDT", device="cpu", columns=REAL)
    wide = read_trades(path, symbol="BTCUSDT", device="cpu", columns=REAL, limit=20_000)
    assert narrow.price_ticks.equal(wide.price_ticks) and narrow.quantity_lots.equal(wide.quantity_lots)


@pytest.mark.parametrize("name", ["spot_btcusdt", "spot_ethusdt", "usdm_btcusdt", "usdm_ethusdt"])
def test_recorded_feeds(market_data: Path, name: str) -> None:
    path = market_data / "binance_feeds_20240808" / f"{name}_20240808_trades.parquet"
    columns = {"timestamp": "trade_ts"}
    try:
        trades = read_trades(path, symbol=name, device="cpu", columns=columns)
    except InputError as error:
        # The USD-M feed carries insurance-fund prints of price 0: the rule says so, and dropping counts them.
        assert "a price must be above 0" in str(error)
        trades = read_trades(path, symbol=name, device="cpu", columns=columns, on_bad_row="drop")
    frame = pd.read_parquet(path)
    frame = frame[frame["price"] > 0].drop_duplicates("id").sort_values("id", kind="stable")
    assert trades.trade_id.tolist() == frame["id"].tolist()
    wanted = [Decimal(repr(price)) for price in frame["price"].tolist()]
    assert [trades.symbol.price.exact(ticks) for ticks in trades.price_ticks.tolist()] == wanted


def test_every_hostile_file_is_one_clear_error_or_correct_rows(market_data: Path) -> None:
    paths = sorted((market_data / "corrupt" / "parquet").iterdir())
    assert len(paths) == 51
    for path in paths:
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def numeric_columns(path: Path) -> list[str]:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError):
        return []
    return [field.name for field in schema if not pa.types.is_nested(field.type)]


def test_every_column_of_hostile_files_is_read_or_refused(market_data: Path) -> None:
    """Their columns stand in for ours, so that the damaged pages themselves are decoded."""
    tried = 0
    for path in sorted((market_data / "corrupt" / "parquet").iterdir()):
        names = numeric_columns(path)[:6]
        for name in names:
            columns: dict[Any, str | None] = {"timestamp": name, "price": name, "quantity": name, "trade_id": None}
            config = parquet.Config(path=str(path), columns=columns)
            request = ReadRequest("trades", "TEST", SymbolOptions(), on_bad_row="drop")
            tried += 1
            try:
                rows = sum(len(trades) for trades in read_stream("parquet", config, request))
            except InputError as error:
                assert "\n" not in str(error) and len(str(error)) < 800
            else:
                assert rows <= pq.read_metadata(path).num_rows
    assert tried > 50


@pytest.mark.parametrize(
    "name", ["datapage_v1-corrupt-checksum.parquet", "rle-dict-uncompressed-corrupt-checksum.parquet"]
)
def test_page_checksums_are_verified(market_data: Path, name: str) -> None:
    path = market_data / "corrupt" / "parquet" / name
    column = pq.read_schema(path).names[0]
    config = parquet.Config(path=str(path), columns={"timestamp": column, "price": column, "quantity": column})
    with pytest.raises(InputError, match=r"cannot be read as Parquet: .*CRC"):
        list(parquet.read(config, ReadRequest("trades", "TEST")))


TYPES = {
    "float64": pa.float64(),
    "float32": pa.float32(),
    "decimal": pa.decimal128(12, 4),
    "wide decimal": pa.decimal128(38, 18),
    "decimal256": pa.decimal256(50, 6),
    "text": pa.string(),
}


@pytest.mark.parametrize(("price", "quantity"), list(product(TYPES, TYPES)))
def test_number_types(tmp_path: Path, price: str, quantity: str) -> None:
    texts = {"price": ["100.25", "97000.5", "0.75"], "quantity": ["1", "0.125", "1234.5"]}
    columns: dict[str, Any] = {"timestamp": [T_MS] * 3, "isBuyerMaker": None, "id": None}
    for name, kind in (("price", price), ("quantity", quantity)):
        floats = "float" in kind
        values = pa.array([float(text) if floats else Decimal(text) for text in texts[name]])
        columns[name] = pa.array(texts[name]) if kind == "text" else values.cast(TYPES[kind])
    path = write(tmp_path / "a.parquet", **columns)
    if "text" in (price, quantity):
        with pytest.raises(InputError, match="holds text values; it needs numbers; map"):
            read(path)
        return
    trades = read(path)
    assert [str(trades.symbol.price.exact(int(n)).normalize()) for n in trades.price_ticks] == [
        str(Decimal(text).normalize()) for text in texts["price"]
    ]
    assert trades.quantity_lots.tolist() == [1000, 125, 1234500]
    assert trades.symbol.price_tick == Decimal("0.01")


def test_integer_prices(tmp_path: Path) -> None:
    trades = read(write(tmp_path / "a.parquet", price=pa.array([5, 6, 7, 8], pa.uint16()), quantity=[1, 2, 3, 4]))
    assert trades.price_ticks.tolist() == [5, 6, 7, 8] and trades.symbol.price_tick == 1


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("kind", ["integer", "naive", "utc", "zone"])
def test_time_units(tmp_path: Path, unit: str, kind: str) -> None:
    expected = [(T_MS + at) * 1_000_000 for at in range(4)]
    values = pa.array([time // NS[unit] for time in expected], pa.int64())
    zones = {"naive": None, "utc": "UTC", "zone": "America/New_York"}
    column = values if kind == "integer" else values.cast(pa.timestamp(unit, tz=zones[kind]))
    assert read(write(tmp_path / "a.parquet", timestamp=column)).time_ns.tolist() == expected


def test_timestamps_in_seconds_and_microsecond_files_next_to_millisecond_files(tmp_path: Path) -> None:
    seconds = pa.array([T_MS // 1000] * 4).cast(pa.timestamp("s"))
    assert read(write(tmp_path / "s.parquet", timestamp=seconds)).time_ns.tolist() == [T_MS * 1_000_000] * 4
    first = write(tmp_path / "a.parquet")
    micros = [T_MS * 1000 + at for at in (4, 5, 6, 7_000_000)]
    second = write(tmp_path / "b.parquet", timestamp=micros, id=[10, 11, 12, 13])
    trades = read([first, second])
    assert trades.time_ns[-1] == T_MS * 1_000_000 + 7_000_000_000
    assert trades.report["times_set_back"] == 3


@pytest.mark.parametrize(
    ("name", "values", "makers"),
    [
        ("side", ["buy", "SELL", "Sell", "BUY"], [False, True, True, False]),
        ("is_buyer_maker", [True, False, False, True], [True, False, False, True]),
        ("isBuyerMaker", [1, 0, 0, 1], [True, False, False, True]),
        ("isBuyerMaker", ["True", "false", "FALSE", "true"], [True, False, False, True]),
        ("was_the_buyer_the_maker", [True, False, False, True], [True, False, False, True]),
    ],
)
@pytest.mark.parametrize("dictionary", [False, True])
def test_sides(tmp_path: Path, name: str, values: list[Any], makers: list[bool], dictionary: bool) -> None:
    column = pa.array(values)
    column = column.dictionary_encode() if dictionary and isinstance(values[0], str) else column
    trades = read(write(tmp_path / "a.parquet", **{"isBuyerMaker": None, name: column}))
    assert trades.has_side and trades.is_buyer_maker.tolist() == makers


def test_without_side_and_without_ids(tmp_path: Path) -> None:
    trades = read(write(tmp_path / "a.parquet", isBuyerMaker=None, id=None))
    assert not trades.has_side and trades.trade_id.tolist() == [0, 1, 2, 3]
    left_out = read(write(tmp_path / "b.parquet"), columns={"trade_id": None, "is_buyer_maker": None})
    assert not left_out.has_side and left_out.trade_id.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["id", "agg_id", "trade_id", "aggTradeId", "tradeId"])
def test_id_columns_are_found(tmp_path: Path, name: str) -> None:
    trades = read(write(tmp_path / "a.parquet", **{"id": None, name: [5, 6, 7, 9]}))
    assert trades.trade_id.tolist() == [5, 6, 7, 9] and trades.report["id_gaps"]["missing"] == 1


def test_rows_out_of_order_over_row_groups(tmp_path: Path) -> None:
    count = 1000
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3)).tolist()
    table = pa.table(
        {
            "timestamp": [T_MS + at for at in order],
            "price": [float(at + 1) for at in order],
            "quantity": [1.0] * count,
            "id": order,
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=64)
    trades = read(tmp_path / "a.parquet")
    assert trades.price_ticks.tolist() == list(range(1, count + 1))
    assert trades.report["rows_sorted"] == sum(number < max(order[:at], default=-1) for at, number in enumerate(order))


def test_quote_quantities_are_compared(tmp_path: Path) -> None:
    trades = read(write(tmp_path / "a.parquet", quoteQty=[100.0, 0.1, 1228.33, 7.0]))
    assert trades.report["quote_mismatches"] == 1 and trades.report["quote_step"] == "0.01"


def test_explicit_scales(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", price=[100.25, 100.5, 99.75, 100.0])
    trades = read(path, price_tick="0.25", quantity_lot=Decimal("0.0005"), multiplier=50)
    assert trades.price_ticks.tolist() == [401, 402, 399, 400]
    assert trades.quantity_lots.tolist() == [2000, 2, 24690, 0]
    assert trades.symbol.notional.exact(int(trades.notional[0])) == Decimal("100.25") * 50


def test_bounds_and_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    instants = [dt.datetime.fromtimestamp((T_MS + at) / 1000, dt.UTC).isoformat() for at in range(5)]
    trades = read(path, start=instants[1], end=instants[3])
    assert trades.trade_id.tolist() == [6, 7]
    assert (trades.report["rows_in"], trades.report["before_start"]) == (3, 1)
    assert read(path, limit=1).trade_id.tolist() == [5]
    with pytest.raises(
        InputError, match=r"TEST: no trades are left \(4 rows read, 4 before start, dropped \{\}\); check path"
    ):
        read(path, start="2030-01-01")


def test_verify_false_says_so(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.parquet"), verify=False).report["checked"] == {"skipped": 1}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"price": None}, {}, "has no column for price; its columns are timestamp, quantity, isBuyerMaker, id; name it under columns, for example columns: {price: COLUMN}"),
        ({}, {"columns": {"price": "prise"}}, "columns.price: the file has no such column (value 'prise'); did you mean 'price'?"),
        ({}, {"columns": {"price": "zzz"}}, "columns.price: the file has no such column (value 'zzz'); its columns are timestamp, price, quantity, isBuyerMaker, id"),
        ({"trade_id": [1, 2, 3, 4]}, {}, "columns id and trade_id could both be trade_id; name one under columns, for example columns: {trade_id: id}"),
        ({"timestamp": [5, 6, 7, 8]}, {}, ", row 1: timestamp is no time in ms, us or ns since 1970 (1973 or later) (value 5); map timestamp to the right column, or convert it"),
        ({"timestamp": [1.5, 2.5, 3.5, 4.5]}, {}, "column for timestamp holds float values; it needs whole numbers in ms, us or ns since 1970, or a timestamp type; map timestamp to another column, or to null where it is optional"),
        ({"timestamp": [T_MS, T_MS * 1000, T_MS, T_MS]}, {}, f", row 2: a trade needs a time in the file's unit (value '{T_MS * 1000} in a file of ms'); mend the file, or set on_bad_row: drop"),
        ({"timestamp": [T_MS, None, T_MS, T_MS]}, {}, ", row 2: a trade needs a time in the file's unit (value 'empty'); mend the file, or set on_bad_row: drop"),
        ({"id": [1, None, 3, 4]}, {}, ", row 2: a trade needs its id (value 'empty'); mend the file, or set on_bad_row: drop"),
        ({"id": [1.0, 2.0, 3.0, 4.0]}, {}, "column for trade_id holds float values; it needs whole numbers; map trade_id to another column, or to null where it is optional"),
        ({"price": [1.0, 2.0, None, 4.0]}, {}, ", row 3: a price must be a number (value 'empty'); mend the file, or set on_bad_row: drop"),
        ({"price": [[1.0]] * 4}, {}, "column 'price' of type list<element: double> is no number, time, flag or text; map another column under columns, or convert it"),
        ({"price": [0.1, 1 / 3, 1.0, 1.0]}, {}, ", row 2: price has more digits than float64 holds at the step 0.0000000000000001 (value 0.3333333333333333); store decimals of up to 15 digits (float32: 7), or decimal columns"),
        ({"isBuyerMaker": None, "side": ["buy", "sell", "hold", None]}, {}, ", row 3: a trade needs its side (buy or sell, true or false) (value 'hold'); mend the file, or set on_bad_row: drop"),
        ({"isBuyerMaker": None, "side": ["buy", None, "hold", "sell"]}, {}, ", row 2: a trade needs its side (buy or sell, true or false) (value 'empty'); mend the file, or set on_bad_row: drop"),
        ({"isBuyerMaker": [0, 1, 2, 0]}, {}, ", row 3: a trade needs its side (buy or sell, true or false) (value '2'); mend the file, or set on_bad_row: drop"),
        ({"isBuyerMaker": None, "side": [1, 0, 1, 0]}, {}, "column for side holds integer values; it needs buy or sell; map side to another column, or to null where it is optional"),
        ({"isBuyerMaker": [0.0, 1.0, 1.0, 0.0]}, {}, "column for is_buyer_maker holds float values; it needs true or false (or 1 and 0); map is_buyer_maker to another column, or to null where it is optional"),
        ({"id": pa.array([2**63, 1, 2, 3], pa.uint64())}, {}, "column 'id' of type uint64: Integer value 9223372036854775808 not in range: 0 to 9223372036854775807"),
        ({"price": pa.array([Decimal(10) ** 30] * 4, pa.decimal128(38, 2))}, {}, "column 'price' of type decimal128(38, 2): a value does not fit 64 bits; store the column with a smaller scale"),
        ({"timestamp": pa.array([10**11] * 4).cast(pa.timestamp("s"))}, {}, "column 'timestamp' of type timestamp[ms]: a time lies outside the years 1677 to 2262"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_message(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "a.parquet", **columns)
    with pytest.raises(InputError) as caught:
        read(path, **options)
    shown = str(caught.value).removeprefix(str(path)).removeprefix(": ")
    assert shown == message


def test_bad_rows_may_be_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", price=[100.0, None, float("nan"), -1.0])
    trades = read(path, on_bad_row="drop")
    assert trades.trade_id.tolist() == [5]
    assert trades.report["dropped"] == {"price_missing": 2, "price_not_positive": 1}


def test_what_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match=r"cannot be read as Parquet: .*; fetch or write it again"):
        read(tmp_path / "a.parquet")
    whole = write(tmp_path / "b.parquet").read_bytes()
    (tmp_path / "c.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"c\.parquet: cannot be read as Parquet"):
        read(tmp_path / "c.parquet")


def test_cuda_without_the_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylibcudf", None)
    request = ReadRequest("trades", "TEST", device=torch.device("cuda"))
    with pytest.raises(
        EnvironmentProblem, match=r"needs pylibcudf, which cannot be imported .*install the \[gpu\] extra"
    ):
        list(parquet.read(parquet.Config(path=str(write(tmp_path / "a.parquet"))), request))


@pytest.mark.gpu
def test_the_device_reads_what_the_host_reads(market_data: Path) -> None:
    pytest.importorskip("pylibcudf")
    _device.library()
    path = market_data / "btcusdt_perp_trades_20200222" / "trades.parquet"
    host = read_trades(path, symbol="BTCUSDT", device="cpu", columns=REAL)
    device = read_trades(path, symbol="BTCUSDT", device="cuda", columns=REAL)
    assert device.symbol == host.symbol and device.report == host.report
    for name in Trades.COLUMNS:
        assert getattr(device, name).is_cuda and getattr(device, name).cpu().equal(getattr(host, name))
