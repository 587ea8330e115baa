"""Depth updates by hand: chains, gaps, several snapshots, clocks, bad levels, JSON as it was recorded."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from gpu_pipeline.core.config import RunConfig, SymbolOptions, check_config
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookEvents
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.ingest import _stage, binance_depth
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._read import open_stream

NOW = 1_706_745_600_000
Level = tuple[Any, Any, Any]
# (first id, final id, previous id, ms after NOW, levels)
Update = tuple[int, int, int, int, list[Level]]


def one(first: int, final: int, previous: int, ms: int, price: float = 100.0, size: Any = 1.0) -> Update:
    return first, final, previous, ms, [(1, price, size)]


def tall(folder: Path, updates: Sequence[Update], snapshots: Sequence[tuple[int, int]] = ((10, 0),)) -> dict[str, Any]:
    """Updates, and snapshots (id, ms) of a bid at 99 and an ask at 101, as tables; the recorder is 5 ms late."""
    flat = [(*head, NOW + ms, NOW + ms + 5, *level) for *head, ms, levels in updates for level in levels]
    names = ("first_id", "final_id", "prev_final_id", "event_ts", "local_ts", "side", "price", "qty")
    pq.write_table(
        pa.table(dict(zip(names, map(list, zip(*flat, strict=True)), strict=True))), folder / "diffs.parquet"
    )
    flat = [
        (at, NOW + ms, NOW + ms + 5, *level) for at, ms in snapshots for level in ((1, 99.0, 5.0), (-1, 101.0, 5.0))
    ]
    names = ("last_update_id", "exch_ts", "local_ts", "side", "price", "qty")
    path = folder / "snapshot.parquet"
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*flat, strict=True)), strict=True))), path)
    return {"snapshot": str(path), "diffs": str(folder / "diffs.parquet"), "market": "usdm"}


def read(source: dict[str, Any], **request: Any) -> BookEvents:
    wanted = ReadRequest("book", "BTCUSDT", **request)
    stream = open_stream("binance_depth", binance_depth.Config(**source), wanted)
    pieces = list(stream.make(stream.symbol))
    columns = ("time_ns", "known_ns", "side", "price_ticks", "quantity_lots", "update_id")
    whole = {name: torch.cat([getattr(piece, name) for piece in pieces]) for name in columns}
    return BookEvents(stream.symbol, report=pieces[-1].report, **whole)


def rows(events: BookEvents) -> list[tuple[int, float, int, int]]:
    """(side, price, update id, ms after NOW)"""
    price = events.symbol.price.to_float(events.price_ticks).tolist()
    ms = [(time - NOW * 10**6) // 10**6 for time in events.time_ns.tolist()]
    return list(zip(events.side.tolist(), price, events.update_id.tolist(), ms, strict=True))


def messages(events: BookEvents) -> dict[str, int]:
    return {name: count for name, count in events.report["messages"].items() if count}


BOOK = [(0, 0.0, 10, 0), (1, 99.0, 10, 0), (-1, 101.0, 10, 0)]


def test_what_does_not_apply_is_dropped_and_counted(tmp_path: Path) -> None:
    updates = [
        one(1, 5, 0, -9),
        one(6, 12, 5, 1),
        one(13, 15, 12, 2),
        one(13, 15, 12, 3),
        one(6, 12, 5, 4),
        one(16, 18, 15, 5),
    ]
    events = read(tall(tmp_path, updates))
    assert rows(events) == [*BOOK, (1, 100.0, 12, 1), (1, 100.0, 15, 2), (1, 100.0, 18, 5)]
    assert messages(events) == {"applied": 3, "before_snapshot": 1, "duplicate": 1, "out_of_order": 1}
    found = events.report["first_not_applied"]
    path = str(tmp_path / "diffs.parquet")
    assert found["duplicate"] == [{"file": path, "row": 4, "first_id": 13, "final_id": 15}]
    assert found["out_of_order"] == [{"file": path, "row": 5, "first_id": 6, "final_id": 12}]
    assert events.report["snapshots"] == {"applied": 1, "stale": 0}


def test_spot_chains_by_the_next_id(tmp_path: Path) -> None:
    updates = [one(6, 10, -1, 1), one(11, 12, -1, 2), one(13, 13, -1, 3), one(15, 16, -1, 4)]
    options = tall(tmp_path, updates) | {"market": "spot", "on_gap": "wait"}
    events = read(options)
    assert rows(events) == [*BOOK, (1, 100.0, 12, 2), (1, 100.0, 13, 3), (0, 0.0, 16, 4)]
    assert messages(events) == {"applied": 2, "stale": 1, "gaps": 1}


def test_a_gap_is_an_error_or_waits_for_the_next_snapshot(tmp_path: Path) -> None:
    updates = [one(6, 12, 5, 1), one(14, 16, 13, 2), one(17, 18, 16, 3), one(19, 22, 18, 4), one(23, 24, 22, 5)]
    options = tall(tmp_path, updates, [(10, 0), (20, 3)])
    with pytest.raises(InputError) as caught:
        read(options)
    assert str(caught.value) == (
        f"{tmp_path}/diffs.parquet, row 2: updates are missing: the book is at update id 12, the message does not "
        "follow it (value '14 to 16, after 13'); give a snapshot for it, or set on_gap: wait to go on from the next "
        "snapshot"
    )
    events = read({**options, "on_gap": "wait"})
    second = [(0, 0.0, 20, 3), (1, 99.0, 20, 3), (-1, 101.0, 20, 3)]
    gap = [(0, 0.0, 16, 2)]
    assert rows(events) == [*BOOK, (1, 100.0, 12, 1), *gap, *second, (1, 100.0, 22, 4), (1, 100.0, 24, 5)]
    assert messages(events) == {"applied": 3, "gaps": 1, "before_snapshot": 1}
    assert events.report["snapshots"] == {"applied": 2, "stale": 0}


def test_a_snapshot_in_an_intact_chain_replaces_the_book(tmp_path: Path) -> None:
    events = read(tall(tmp_path, [one(6, 12, 5, 1), one(13, 15, 12, 2)], [(10, 0), (14, 2)]))
    second = [(0, 0.0, 14, 2), (1, 99.0, 14, 2), (-1, 101.0, 14, 2)]
    assert rows(events) == [*BOOK, (1, 100.0, 12, 1), *second, (1, 100.0, 15, 2)]


def test_a_late_snapshot_delays_what_stands_on_it(tmp_path: Path) -> None:
    """Recorded 3 s after the message that must be replayed onto it, which is known no sooner."""
    options = tall(tmp_path, [one(6, 12, 5, 1), one(13, 14, 12, 4_000)])
    path = tmp_path / "snapshot.parquet"
    table = pq.read_table(path)
    late = pa.array([NOW + 3_000] * 2)
    pq.write_table(table.set_column(table.column_names.index("local_ts"), "local_ts", late), path)
    events = read(options)
    known = [(time - NOW * 10**6) // 10**6 for time in events.known_ns.tolist()]
    assert known == [3_000] * 4 + [4_005]


@pytest.mark.parametrize("lacks", [["exch_ts"], ["exch_ts", "local_ts"]])
def test_a_snapshot_without_a_time_of_the_venue_holds_from_the_message_behind_it(
    tmp_path: Path, lacks: list[str]
) -> None:
    options = tall(tmp_path, [one(1, 5, 0, 700), one(6, 12, 5, 800)])
    path = tmp_path / "snapshot.parquet"
    pq.write_table(pq.read_table(path).drop_columns(lacks), path)
    events = read(options)
    assert [row[3] for row in rows(events)] == [800] * 4
    assert events.known_ns.tolist() == [(NOW + 805) * 10**6] * 4


def test_a_time_that_steps_back_is_counted_or_refused(tmp_path: Path) -> None:
    options = tall(tmp_path, [one(6, 12, 5, 9), one(13, 14, 12, 4), one(15, 16, 14, 10)])
    events = read(options)
    assert [row[3] for row in rows(events)] == [0, 0, 0, 9, 9, 10]
    assert events.report["times_set_back"] == 1
    with pytest.raises(
        InputError, match=r"diffs\.parquet, row 2: its time steps back, behind .*; mend the clock, or set"
    ):
        read({**options, "on_time_back": "error"})


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("level", "rule", "name"),
    [
        ((1, 100.0, -1.0), r"a quantity must not be negative \(value -1\.0\)", "quantity_negative"),
        ((1, NAN, 1.0), r"a price must be a number \(value nan\)", "price_missing"),
        ((1, INFINITE, 1.0), r"a price must be finite \(value inf\)", "price_infinite"),
        ((1, 0.0, 1.0), r"a price must be above 0 \(value 0\.0\)", "price_not_positive"),
        ((1, 100.0, NAN), r"a quantity must be a number \(value nan\)", "quantity_missing"),
        ((1, 100.0, INFINITE), r"a quantity must be finite \(value inf\)", "quantity_infinite"),
        ((7, 100.0, 1.0), r"a level needs its side \(1 or bid, -1 or ask\) \(value '7'\)", "side_missing"),
        ((None, 100.0, 1.0), r"a level needs its side \(1 or bid, -1 or ask\) \(value 'empty'\)", "side_missing"),
    ],
)
def test_bad_levels_are_refused_or_dropped(tmp_path: Path, level: Level, rule: str, name: str) -> None:
    options = tall(tmp_path, [one(6, 12, 5, 1), (13, 14, 12, 2, [(1, 98.0, 2.0), level])])
    with pytest.raises(InputError, match=rf"diffs\.parquet, row 3: {rule}; mend the file, or set on_bad_row: drop"):
        read(options)
    events = read(options, on_bad_row="drop")
    assert rows(events) == [*BOOK, (1, 100.0, 12, 1), (1, 98.0, 14, 2)]
    assert events.report["dropped"] == {name: 1}


def test_ids_that_make_no_sense(tmp_path: Path) -> None:
    options = tall(tmp_path, [one(6, 12, 5, 1), one(14, 13, 12, 2), one(13, 14, 12, 3)])
    with pytest.raises(
        InputError, match=r"row 2: ids of a message must satisfy 0 <= first_id <= final_id \(value '14 to"
    ):
        read(options)
    events = read(options, on_bad_row="drop")
    assert events.report["dropped"] == {"message_ids": 1} and messages(events) == {"applied": 2}


def test_start_end_and_limit(tmp_path: Path) -> None:
    options = tall(tmp_path, [one(6, 12, 5, 1), one(13, 14, 12, 2), one(15, 16, 14, 3), one(17, 18, 16, 4)])
    whole = rows(read(options))
    assert rows(read(options, end_ns=(NOW + 3) * 10**6)) == whole[:5]
    assert rows(read(options, limit=3)) == whole[:5]
    started = read(options, start_ns=(NOW + 2) * 10**6)
    assert rows(started) == [(*row[:3], max(2, row[3])) for row in whole]
    assert started.report["messages_before_start"] == 2
    with pytest.raises(InputError, match=r"BTCUSDT: nothing is left .*; check paths, start, end"):
        read(options, end_ns=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"market": {"ETHUSDT": "spot"}}, r"ingest\.book\.market: no market for BTCUSDT; there are ETHUSDT"),
        ({"columns": {"previous_id": None}}, r"has no previous final_id, by which updates of usdm chain; name its"),
        ({"columns": {"price": "prise"}}, r"columns\.price: the file has no such column \(value 'prise'\); did you"),
        ({"columns": {"event_time": None, "local_time": None}}, r"has no column for a time; its columns are first_id"),
        ({"columns": {"event_time": "first_id"}}, r"row 1: event_time is no time in ms, us or ns since 1970"),
    ],
)
def test_mistakes_in_the_section(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    options = tall(tmp_path, [one(6, 12, 5, 1)])
    with pytest.raises(InputError, match=message):
        read({**options, **changes})


def text(value: Any) -> str:
    return str(Decimal(str(value)))


def message(update: Update, market: str = "usdm") -> dict[str, Any]:
    first, final, previous, ms, levels = update
    sides = {
        name: [[text(p), text(q)] for side, p, q in levels if side == code] for name, code in (("b", 1), ("a", -1))
    }
    body = {"e": "depthUpdate", "E": NOW + ms, "s": "BTCUSDT", "U": first, "u": final, **sides}
    return body if market == "spot" else {**body, "pu": previous}


SNAPSHOT = {"lastUpdateId": 10, "E": NOW, "bids": [["99.00", "5.000"]], "asks": [["101.00", "5"]]}
UPDATES = [
    one(6, 12, 5, 1),
    (13, 15, 12, 2, [(1, 99.5, 0.0), (-1, 100.25, 2.5)]),
    one(16, 18, 15, 3),
]


def recorded(folder: Path, lines: Sequence[str], snapshot: str | None = None) -> dict[str, Any]:
    (folder / "snapshot.json").write_text(snapshot or json.dumps(SNAPSHOT))
    (folder / "diffs.jsonl").write_text("\n".join(lines) + "\n")
    return {"snapshot": str(folder / "snapshot.json"), "diffs": str(folder / "diffs.jsonl"), "market": "usdm"}


def wrapped(update: Update, ms: int = 5) -> str:
    stamp = (NOW + update[3] + ms) * 10**6
    return json.dumps({"stream": "btcusdt@depth", "data": message(update), "local_timestamp": stamp})


def headed(update: Update) -> str:
    return f"{(NOW + update[3] + 5) * 10**6} {json.dumps(message(update))}"


@pytest.mark.parametrize("form", [wrapped, headed])
def test_json_gives_the_events_of_the_tables(tmp_path: Path, form: Any) -> None:
    expected = read(tall(tmp_path, UPDATES))
    late = json.dumps({**SNAPSHOT, "local_timestamp": (NOW + 5) * 10**6}, indent=1)
    events = read(recorded(tmp_path, [form(update) for update in UPDATES], late))
    assert (str(events.symbol.price_tick), str(events.symbol.quantity_lot)) == ("0.01", "0.1")
    assert rows(events) == rows(expected) and messages(events) == messages(expected)
    assert events.known_ns.equal(expected.known_ns)
    assert events.quantity_lots.equal(expected.quantity_lots)


def test_one_packed_recording_holds_both(tmp_path: Path) -> None:
    """As a collector writes it: the snapshot comes late, trades stand between, gz."""
    trade = json.dumps({"e": "trade", "s": "BTCUSDT", "p": "1", "q": "1"})
    lines = [headed(UPDATES[0]), trade, f"{(NOW + 5) * 10**6} {json.dumps(SNAPSHOT)}", *map(headed, UPDATES[1:])]
    path = tmp_path / "btcusdt_20240201.gz"
    path.write_bytes(gzip.compress(("\n".join(lines)).encode()))
    options = {"snapshot": str(path), "diffs": str(path), "market": "usdm"}
    assert binance_depth.files(binance_depth.Config(**options), "BTCUSDT") == [path]
    assert rows(read(options)) == rows(read(tall(tmp_path, UPDATES)))


def test_an_update_without_levels_moves_the_chain(tmp_path: Path) -> None:
    lines = [json.dumps(message(update)) for update in (UPDATES[0], (13, 15, 12, 2, []), UPDATES[2])]
    events = read(recorded(tmp_path, lines))
    assert [row[2] for row in rows(events)] == [10, 10, 10, 12, 18]
    assert messages(events) == {"applied": 3}


def test_several_instruments_in_one_file(tmp_path: Path) -> None:
    other = {**message(one(1, 2, 0, 1)), "s": "ETHUSDT"}
    options = recorded(tmp_path, [*(json.dumps(message(update)) for update in UPDATES), json.dumps(other)])
    with pytest.raises(InputError, match=r"diffs\.jsonl, row 4: holds messages of BTCUSDT and ETHUSDT; say which one"):
        read(options)
    assert messages(read({**options, "instrument": "{SYMBOL}"})) == {"applied": 3}


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ('{"e": "depthUpdate", "U": 16', r"row 4: is no JSON message: "),
        ("[1, 2]", r"row 4: is no JSON message: a message is an object"),
        ('{"e": "depthUpdate", "E": 1706745600009, "u": 18}', r"row 4: is no complete depthUpdate .*: KeyError 'U'"),
        (
            '{"e": "depthUpdate", "E": 9, "U": 16, "u": 18}',
            r"row 4: is no complete depthUpdate .*: ValueError 9 is no time in",
        ),
        (
            '{"e": "depthUpdate", "E": 1706745600009, "U": 19, "u": 20, "pu": 18, "b": [["x", "1"]]}',
            r"row 4: a price must",
        ),
        (
            '{"e": "depthUpdate", "E": 1706745600009, "U": 19, "u": 20, "pu": 18, "b": [["1"]]}',
            r"row 4: is no complete",
        ),
    ],
)
def test_bad_lines_name_their_line(tmp_path: Path, line: str, rule: str) -> None:
    options = recorded(tmp_path, [*(json.dumps(message(update)) for update in UPDATES), line])
    with pytest.raises(InputError, match=rf"diffs\.jsonl, {rule}") as caught:
        read(options)
    assert "\n" not in str(caught.value)


def test_files_that_hold_no_feed(tmp_path: Path) -> None:
    options = recorded(tmp_path, [json.dumps(message(update)) for update in UPDATES])
    with pytest.raises(InputError, match=r"diffs\.jsonl: holds no snapshot; name the files of REST snapshots"):
        read({**options, "snapshot": options["diffs"]})
    with pytest.raises(InputError, match=r"snapshot\.json: holds no depth update; name the files of updates"):
        read({**options, "diffs": options["snapshot"]})


def test_values_are_exact_decimals(tmp_path: Path) -> None:
    fine = (19, 20, 18, 4, [(1, "100000000.00000001", "0.000000000001")])
    options = recorded(tmp_path, [json.dumps(message(update)) for update in (*UPDATES, fine)])
    known = SymbolOptions(price_tick=Decimal("0.01"), quantity_lot=Decimal("0.1"))
    with pytest.raises(
        InputError, match=r"row 4: price is no multiple of the step 0\.01 \(value '100000000\.00000001'\)"
    ):
        read(options, options=known)


def book_after(events: BookEvents) -> list[dict[tuple[int, int], int]]:
    """The book after each message, by plain dictionaries."""
    books: list[dict[tuple[int, int], int]] = []
    book: dict[tuple[int, int], int] = {}
    columns = (events.update_id, events.side, events.price_ticks, events.quantity_lots)
    last = None
    for ident, side, price, lots in zip(*(column.tolist() for column in columns), strict=True):
        if last is not None and ident != last:
            books.append({key: size for key, size in book.items() if size})
        book, last = ({} if side == 0 else {**book, (side, price): lots}), ident
    return [*books, {key: size for key, size in book.items() if size}]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_loss_and_any_cut_ends_in_the_same_books(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A feed in which messages are lost or repeated: what is emitted never shows a book that was not the venue's."""
    folder = tmp_path_factory.mktemp("feed")
    draw = data.draw
    count = draw(st.integers(3, 12))
    updates, truth, book = [], {}, {(1, 99.0): 5.0, (-1, 101.0): 5.0}
    last = 10
    for at in range(count):
        final = last + draw(st.integers(1, 3))
        levels = [
            (draw(st.sampled_from([1, -1])), float(draw(st.integers(90, 110))), float(draw(st.integers(0, 3))))
            for _ in range(draw(st.integers(1, 3)))
        ]
        for side, price, size in levels:
            book = {**book, (side, price): size}
        updates.append((last + 1, final, last, at + 1, levels))
        truth[final] = {key: size for key, size in book.items() if size}
        last = final
    kept = draw(st.lists(st.sampled_from(range(count)), min_size=1, max_size=2 * count).map(sorted))
    options = tall(folder, [updates[at] for at in kept]) | {
        "on_gap": "wait",
        "market": draw(st.sampled_from(["spot", "usdm"])),
    }
    one_piece = read(options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpu_pipeline.ingest._tall.PIECE_ROWS", draw(st.integers(1, 5)))
        patch.setattr("gpu_pipeline.ingest._read.KEEP_BYTES", 0)
        again = read(options)
    assert rows(again) == rows(one_piece) and again.report == one_piece.report
    price, lots = float(one_piece.symbol.price_tick), float(one_piece.symbol.quantity_lot)
    ids = list(dict.fromkeys(one_piece.update_id.tolist()))
    for ident, book in zip(ids, book_after(one_piece), strict=True):
        real = {(side, at * price): size * lots for (side, at), size in book.items()}
        assert not real or ident == 10 or real == truth[ident]


def run_of(section: dict[str, Any]) -> RunConfig:
    return check_config({"name": "x", "symbols": ["BTCUSDT", "ETHUSDT"], "ingest": {"book": section}})


def test_symbols_share_a_file_only_where_it_says_which_is_which(tmp_path: Path) -> None:
    """Two instruments in one recording, each with its own snapshot."""
    lines = []
    for name in ("BTCUSDT", "ETHUSDT"):
        lines += [json.dumps({**message(update), "s": name}) for update in UPDATES]
        lines.append(json.dumps({**SNAPSHOT, "symbol": name}))
    path = tmp_path / "both.jsonl"
    path.write_text("\n".join(lines))
    section = {"source": "binance_depth", "snapshot": str(path), "diffs": str(path), "market": "usdm"}
    with pytest.raises(
        InputError, match=r"both\.jsonl: is read for BTCUSDT and for ETHUSDT; put {SYMBOL} into the paths"
    ):
        _stage.input_files(run_of(section))
    config = run_of({**section, "instrument": "{SYMBOL}"})
    assert _stage.input_files(config) == [path]
    manifest = _stage.write(tmp_path / "out", config, torch.device("cpu"), Trace(Console(file=io.StringIO())))
    for name, symbol in _stage.load_symbols(manifest).items():
        entry = manifest["streams"]["book"][name]
        assert entry["messages"]["applied"] == 3 and entry["snapshots"] == {"applied": 1, "stale": 0}
        (events,) = _stage.load_book(tmp_path / "out", "book", symbol, torch.device("cpu"))
        assert isinstance(events, BookEvents) and rows(events) == rows(read(tall(tmp_path, UPDATES)))


def as_csv(folder: Path, name: str) -> str:
    """A table of `tall` as CSV in gz, its sides as words."""
    frame = pq.read_table(folder / f"{name}.parquet").to_pandas()
    frame["side"] = frame["side"].map({1: "bid", -1: "ask"})
    frame.to_csv(folder / f"{name}.csv.gz", index=False)
    return str(folder / f"{name}.csv.gz")


def as_decimals(folder: Path, name: str) -> str:
    """Decimal prices, a timestamp type without a zone, sides in upper case, camel case names, few rows in a group."""
    table = pq.read_table(folder / f"{name}.parquet")
    for at, column in enumerate(table.column_names):
        values = table[column]
        if column in ("price", "qty"):
            values = values.cast(pa.decimal128(20, 9))
        elif column == "local_ts":
            values = values.cast(pa.timestamp("ms"))
        elif column == "side":
            values = pa.array([{1: "B", -1: "A"}[side] for side in values.to_pylist()])
        table = table.set_column(at, column, values)
    camel = [name.split("_")[0] + "".join(map(str.capitalize, name.split("_")[1:])) for name in table.column_names]
    pq.write_table(table.rename_columns(camel), folder / f"{name}_decimals.parquet", row_group_size=2)
    return str(folder / f"{name}_decimals.parquet")


@pytest.mark.parametrize("form", [as_csv, as_decimals])
def test_forms_of_a_table_are_the_same_feed(tmp_path: Path, form: Any) -> None:
    options = tall(tmp_path, UPDATES)
    expected = read(options)
    found = read({**options, "snapshot": form(tmp_path, "snapshot"), "diffs": form(tmp_path, "diffs")})
    for name in ("time_ns", "known_ns", "side", "price_ticks", "quantity_lots", "update_id"):
        assert getattr(found, name).equal(getattr(expected, name)), name
    assert found.symbol == expected.symbol


def test_snapshot_files_come_by_id_whatever_they_are_called(tmp_path: Path) -> None:
    updates = [one(6, 12, 5, 1), one(14, 16, 13, 2), one(19, 22, 18, 4)]
    options = tall(tmp_path, updates, [(20, 3)]) | {"on_gap": "wait"}
    (tmp_path / "snapshot.parquet").rename(tmp_path / "a.parquet")
    tall(tmp_path, updates, [(10, 0)])
    (tmp_path / "snapshot.parquet").rename(tmp_path / "b.parquet")
    events = read({**options, "snapshot": [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]})
    assert list(dict.fromkeys(events.update_id.tolist())) == [10, 12, 16, 20, 22]
    tall(tmp_path, updates, [(20, 3), (10, 0)])
    with pytest.raises(
        InputError, match=r"row 3: the update id of a snapshot falls below 20 .*; give snapshots in the"
    ):
        read(options)
