"""Best bids and offers: names of columns, missing sides, clocks, repeated rows, bad values, bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Quotes
from gpu_pipeline.ingest import quotes
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._read import open_stream

NOW = 1_706_745_600_000
COLUMNS = ("time_ns", "known_ns", "update_id", "bid_ticks", "bid_lots", "ask_ticks", "ask_lots")
# (update id, ms after NOW, bid, its quantity, ask, its quantity)
ROWS: list[tuple[Any, ...]] = [
    (5, 0, 99.5, 1.0, 100.0, 2.0),
    (6, 1, 99.5, 1.5, 100.0, 2.0),
    (9, 1, 99.0, 0.5, 100.5, 1.0),
]
NAMES = ("update_id", "event_time", "best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty")


def written(folder: Path, rows: list[tuple[Any, ...]], names: tuple[str, ...] = NAMES, **more: Any) -> dict[str, Any]:
    columns = dict(zip(names, ([*column] for column in zip(*rows, strict=True)), strict=True))
    columns[names[1]] = [NOW + ms for ms in columns[names[1]]]
    pq.write_table(pa.table({**columns, **more}), folder / "bbo.parquet")
    return {"path": str(folder / "bbo.parquet")}


def read(source: dict[str, Any], **request: Any) -> Quotes:
    wanted = ReadRequest("bbo", "BTCUSDT", **request)
    stream = open_stream("quotes", quotes.Config(**source), wanted)
    pieces = list(stream.make(stream.symbol))
    whole = {name: torch.cat([getattr(piece, name) for piece in pieces]) for name in COLUMNS}
    return Quotes(stream.symbol, report=pieces[-1].report, **whole)


def table(found: Quotes) -> list[tuple[Any, ...]]:
    price, size = found.symbol.price.to_float, found.symbol.quantity.to_float
    columns = (found.update_id, (found.time_ns - NOW * 10**6) // 10**6, price(found.bid_ticks), size(found.bid_lots))
    columns = (*columns, price(found.ask_ticks), size(found.ask_lots))
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        ("update_id", "event_ts", "bid", "bid_qty", "ask", "ask_qty"),
        ("bookUpdateId", "timestamp", "bidPrice", "bidAmount", "askPrice", "askAmount"),
        ("update_id", "local_timestamp", "bid_px", "bid_size", "ask_px", "ask_size"),
    ],
)
def test_columns_are_found_by_the_names_in_the_field(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = read(written(tmp_path, ROWS, names))
    assert table(found) == ROWS and found.known_ns.equal(found.time_ns)
    assert (str(found.symbol.price_tick), str(found.symbol.quantity_lot)) == ("0.1", "0.1")


def test_a_mapping_and_a_file_without_ids(tmp_path: Path) -> None:
    source = written(tmp_path, ROWS, ("n", "t", "b", "bq", "a", "aq"))
    names = {"event_time": "t", "bid_price": "b", "bid_quantity": "bq", "ask_price": "a", "ask_quantity": "aq"}
    found = read({**source, "columns": names})
    assert table(found) == [(-1, *row[1:]) for row in ROWS]
    with pytest.raises(
        InputError, match=r"bbo\.parquet: has no column for bid_price and bid_quantity and ask_price and"
    ):
        read(source)


def test_a_missing_side_has_no_quantity(tmp_path: Path) -> None:
    rows = [
        *ROWS,
        (10, 2, 99.0, 0.0, 100.5, 1.0),
        (11, 3, 99.0, 1.0, None, None),
        (12, 4, float("nan"), 0.0, 100.0, 1.0),
    ]
    found = read(written(tmp_path, rows))
    missing = [(10, 2, 0.0, 0.0, 100.5, 1.0), (11, 3, 99.0, 1.0, 0.0, 0.0), (12, 4, 0.0, 0.0, 100.0, 1.0)]
    assert table(found) == [*ROWS, *missing]


def test_a_quote_is_known_at_the_latest_of_its_clocks(tmp_path: Path) -> None:
    late = [(NOW + ms) * 10**6 for ms in (40, 20, -100)]
    found = read(written(tmp_path, ROWS, transaction_time=[NOW, NOW, NOW + 1], local_ts=late))
    assert table(found) == [ROWS[0], (6, 0, *ROWS[1][2:]), ROWS[2]]
    assert [(known - NOW * 10**6) // 10**6 for known in found.known_ns.tolist()] == [40, 40, 40]


def test_repeated_rows_and_ids_that_fall_are_dropped_times_set_back(tmp_path: Path) -> None:
    rows = [ROWS[0], ROWS[0], ROWS[1], ROWS[0], (6, 0, *ROWS[2][2:]), ROWS[2]]
    found = read(written(tmp_path, rows))
    assert table(found) == [ROWS[0], ROWS[1], (6, 1, *ROWS[2][2:]), ROWS[2]]
    counts = {
        name: found.report[name] for name in ("rows_in", "rows_out", "duplicate", "out_of_order", "times_set_back")
    }
    assert counts == {"rows_in": 6, "rows_out": 4, "duplicate": 1, "out_of_order": 1, "times_set_back": 1}


@pytest.mark.parametrize(
    ("row", "rule", "name"),
    [
        ((7, 2, -1.0, 1.0, 100.0, 1.0), r"bid price must be above 0 \(value -1\.0\)", "bid_price_must_be_above_0"),
        ((7, 2, 99.0, -1.0, 100.0, 1.0), r"bid quantity must not be negative", "bid_quantity_must_not_be_negative"),
        ((7, 2, 99.0, 1.0, float("nan"), 1.0), r"ask price must be a number", "ask_price_must_be_a_number"),
        ((7, 2, 99.0, 1.0, 100.0, float("inf")), r"ask quantity must be finite", "ask_quantity_must_be_finite"),
    ],
)
def test_bad_rows_are_refused_or_dropped(tmp_path: Path, row: tuple[Any, ...], rule: str, name: str) -> None:
    source = written(tmp_path, [*ROWS[:2], row, ROWS[2]])
    with pytest.raises(InputError, match=rf"bbo\.parquet, row 3: {rule}.*; mend the file, or set on_bad_row: drop"):
        read(source)
    found = read(source, on_bad_row="drop")
    assert table(found) == ROWS and found.report["dropped"] == {name: 1}


def test_start_end_and_limit(tmp_path: Path) -> None:
    source = written(tmp_path, ROWS)
    assert table(read(source, start_ns=(NOW + 1) * 10**6)) == ROWS[1:]
    assert table(read(source, end_ns=(NOW + 1) * 10**6)) == ROWS[:1]
    assert table(read(source, limit=2)) == ROWS[:2]
    with pytest.raises(InputError, match=r"BTCUSDT: nothing is left .*; check paths, start, end, on_bad_row"):
        read(source, start_ns=2 * NOW * 10**6)


def test_times_of_another_unit_in_one_file(tmp_path: Path) -> None:
    source = written(tmp_path, [*ROWS, (10, 1_706_745_600_000_000 - NOW, 99.0, 1.0, 100.0, 1.0)])
    with pytest.raises(
        InputError, match=r"row 4: event_time is no time in ms, the unit of the file's first one \(value 17"
    ):
        read(source)


def test_any_pieces_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [ROWS[0], ROWS[0], ROWS[1], ROWS[0], (6, 0, *ROWS[2][2:]), ROWS[2], (10, 3, 99.0, 1.0, 100.0, 1.0)]
    source = written(tmp_path, rows)
    whole = read(source)
    monkeypatch.setattr("gpu_pipeline.ingest._read.KEEP_BYTES", 0)
    for size in (1, 2, 3):
        monkeypatch.setattr("gpu_pipeline.ingest._tall.PIECE_ROWS", size)
        again = read(source)
        assert (
            all(getattr(again, name).equal(getattr(whole, name)) for name in COLUMNS) and again.report == whole.report
        )
