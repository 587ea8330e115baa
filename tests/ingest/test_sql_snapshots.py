"""Snapshots of a SQL server: the same bits as from files, day by day, in pieces; and what a server can get wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from gpu_pipeline import cli
from gpu_pipeline.core.errors import EnvironmentProblem, InputError
from gpu_pipeline.core.runfile import write_yaml
from gpu_pipeline.core.schema import BookSnapshots
from gpu_pipeline.core.store import read_json
from gpu_pipeline.core.units import DAY_NS, parse_instant
from gpu_pipeline.ingest import _book_files, _read, _server, _server_table, sql_snapshots
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._read import open_stream
from gpu_pipeline.ingest.sql_snapshots import Config
from tests.ingest.samples.books import books
from tests.ingest.samples.rows import messages
from tests.postgres import Postgres, postgres

FIELDS = ("time_ns", "known_ns", "offsets", "bid_count", "price_ticks", "quantity_lots")
START_NS = parse_instant("2024-01-31T23:59:30")


@pytest.fixture
def server() -> Postgres:
    return postgres()


def read(source: str, options: Any, **request: Any) -> tuple[BookSnapshots, dict[str, Any]]:
    stream = open_stream(source, options, ReadRequest("book", "BTCUSDT", **request))
    pieces = list(stream.make(stream.symbol))
    return _book_files.joined(pieces), pieces[-1].report


def config(server: Postgres, **values: Any) -> Config:
    return Config(**{"uri": server.uri, "table": "book", **values})


def stored(server: Postgres, *rows: tuple[Any, ...], name: str = "book") -> None:
    """A table of (time, symbol, side, level, price, quantity)."""
    kinds = "timestamp timestamptz, symbol text, side text, level int, price float8, quantity float8"
    values = ", ".join(f"({', '.join(map(_cell, row))})" for row in rows)
    server.run(f"DROP TABLE IF EXISTS {name}", f"CREATE TABLE {name} ({kinds})")
    if rows:
        server.run(f"INSERT INTO {name} VALUES {values}")


def _cell(value: Any) -> str:
    quote = "'"
    return "NULL" if value is None else f"'{value.replace(quote, quote * 2)}'" if isinstance(value, str) else str(value)


def shuffled(table: pa.Table) -> pa.Table:
    return table.take(np.random.default_rng(2).permutation(len(table)))


@cache
def tall() -> pa.Table:
    """Snapshots from half a minute before midnight to after it, beside those of another symbol."""
    rows = [
        (ident, time, symbol, side, at, price, size)
        for ident, time, bids, asks in books(messages())
        for symbol in ("btcusdt", "ETHUSDT")
        for side, levels in (("bid", bids), ("ask", asks))
        for at, (price, size) in enumerate(levels)
    ]
    names = ("update_id", "timestamp", "symbol", "side", "level", "price", "quantity")
    table = pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))
    times = table["timestamp"].cast(pa.timestamp("ms", tz="UTC"))
    return table.set_column(1, "timestamp", times.cast(pa.timestamp("us", tz="UTC")))


def with_kinds(kinds: dict[str, Any]) -> pa.Table:
    table = tall()
    for name, kind in {"price": pa.float64(), "quantity": pa.float64(), **kinds}.items():
        column = table[name]
        if name == "timestamp" and pa.types.is_integer(kind):
            column = pa.compute.multiply(column.cast(pa.int64()), 1_000)
        if name == "side" and pa.types.is_integer(kind):
            column = pa.compute.if_else(pa.compute.equal(column, "bid"), 1, -1)
        if pa.types.is_floating(kind):
            # Arrow's own cast of decimals is not to the nearest float.
            column = pa.array([float(cell) for cell in column.to_pylist()])
        table = table.set_column(table.column_names.index(name), name, column.cast(kind))
    return table


def same(one: BookSnapshots, other: BookSnapshots) -> bool:
    return one.symbol == other.symbol and all(getattr(one, name).equal(getattr(other, name)) for name in FIELDS)


NUMERIC = {"price": pa.decimal128(38, 18), "quantity": pa.decimal128(12, 3), "update_id": pa.decimal128(20, 0)}
ENUMERATION = {"side": pa.dictionary(pa.int8(), pa.string())}


@pytest.mark.parametrize(
    ("kinds", "use_copy"),
    [
        ({}, True),
        ({}, False),
        ({"timestamp": pa.timestamp("us"), "quantity": pa.float32()}, True),
        ({"timestamp": pa.int64(), "side": pa.int16()}, True),
        (NUMERIC, True),
        (NUMERIC, False),
        (ENUMERATION, False),
    ],
)
def test_equal_rows_give_equal_snapshots(
    server: Postgres, tmp_path: Path, kinds: dict[str, Any], use_copy: bool
) -> None:
    table = with_kinds(kinds)
    wanted = table.set_column(0, "update_id", table["update_id"].cast(pa.int64()))
    pq.write_table(wanted, tmp_path / "book.parquet", row_group_size=97)
    files, said = read("tall_snapshots", _tall_config(tmp_path))
    if kinds is ENUMERATION:
        server.fill("book", shuffled(table.set_column(3, "side", table["side"].cast(pa.string()))))
        server.run("DROP TYPE IF EXISTS sides CASCADE", "CREATE TYPE sides AS ENUM ('bid', 'ask')")
        server.run("ALTER TABLE book ALTER side TYPE sides USING side::sides")
    else:
        server.fill("book", shuffled(table))
    found, report = read("sql_snapshots", config(server, use_copy=use_copy))
    assert same(found, files) and len(found) > 100
    assert report | {"checked": 0} == said | {"checked": 0, "days_without_rows": 0}
    assert report["checked"] == {"none there": 2}, "one answer a day"


def _tall_config(folder: Path) -> Any:
    from gpu_pipeline.ingest.tall_snapshots import Config

    return Config(path=str(folder))


@pytest.mark.parametrize("unit", [1_000_000, 1_000, 1])
def test_whole_numbers_say_their_unit_by_their_size(server: Postgres, unit: int) -> None:
    stored(server, ("2024-02-01T00:00:00Z", "BTCUSDT", "bid", 1, 100.5, 1.0))
    server.run(f"ALTER TABLE book ALTER timestamp TYPE bigint USING {START_NS // unit}")
    book, _ = read("sql_snapshots", config(server), start_ns=START_NS, end_ns=START_NS + 1)
    assert book.time_ns.tolist() == [START_NS]


def test_any_pieces_give_the_same_snapshots(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    server.fill("book", shuffled(with_kinds({})))
    whole, report = read("sql_snapshots", config(server))
    monkeypatch.setattr(_read, "KEEP_BYTES", 0)
    monkeypatch.setattr(_server, "BATCH_BYTES", 5_000)
    by_batch, said = read("sql_snapshots", config(server, query_step="1min"))
    assert same(by_batch, whole) and said == report
    monkeypatch.setattr(_server_table, "PIECE_ROWS", 97)
    by_rows, said = read("sql_snapshots", config(server, use_copy=False))
    assert same(by_rows, whole) and said == report


@pytest.mark.parametrize("use_copy", [True, False])
def test_a_piece_holds_a_batch_and_what_a_snapshot_adds(
    server: Postgres, monkeypatch: pytest.MonkeyPatch, use_copy: bool
) -> None:
    table = with_kinds({})
    server.fill("book", table)
    largest = max(len(bids) + len(asks) for _, _, bids, asks in books(messages()))
    monkeypatch.setattr(_server, "BATCH_BYTES", 2_000)
    monkeypatch.setattr(_server_table, "PIECE_ROWS", 50)
    pieces = [
        len(piece.depth.side)
        for piece in sql_snapshots.read(config(server, use_copy=use_copy), ReadRequest("book", "BTCUSDT"))
    ]
    assert sum(pieces) == len(table) // 2 and max(pieces) <= 50 + largest
    assert len(pieces) > 20


def days_asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    queries: list[str] = []
    answer = _server.Server.batches

    def batches(self: _server.Server, query: str) -> Iterator[pa.RecordBatch]:
        queries.append(query)
        return answer(self, query)

    monkeypatch.setattr(_server.Server, "batches", batches)
    return queries


ROWS = (
    ("2024-02-03T00:00:00Z", "BTCUSDT", "bid", 1, 103.0, 1.0),
    ("2024-01-31T23:59:59.999999Z", "BTCUSDT", "ask", 1, 101.5, 2.0),
    ("2024-02-03T00:00:00Z", "BTCUSDT", "ask", 1, 104.0, 1.0),
    ("2024-01-31T23:59:59.999999Z", "BTCUSDT", "bid", 1, 101.0, 2.0),
    ("2024-02-09T12:00:00Z", "BTCUSDT", "bid", 1, 105.0, 0.0),
    ("2024-02-05T12:00:00Z", "ETHUSDT", "bid", 1, 5.001, 1.0),
)


def test_a_query_covers_a_day_and_empty_days_are_counted(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own zone is New York's: days are UTC's all the same."""
    stored(server, *ROWS)
    queries = days_asked(monkeypatch)
    book, report = read("sql_snapshots", config(server))
    last = parse_instant("2024-01-31") + DAY_NS - 1_000
    assert book.time_ns.tolist() == [last, parse_instant("2024-02-03"), parse_instant("2024-02-09T12:00:00")]
    assert report["days_without_rows"] == 2 + 5 and report["levels_without_quantity"] == 1
    # The first day without a row is asked for, the others of its stretch are not.
    assert [query.split("< '")[1][8:10] for query in queries] == ["01", "02", "04", "05", "09"]
    assert all('ORDER BY "timestamp"' in query for query in queries)


@pytest.mark.parametrize(
    ("start", "end", "kept"),
    [
        ("2024-02-01", None, ["2024-02-03T00:00:00", "2024-02-09T12:00:00"]),
        ("2024-02-03", "2024-02-03T00:00:00.000001", ["2024-02-03T00:00:00"]),
        (None, "2024-02-03", ["2024-01-31T23:59:59.999999"]),
        ("2024-02-03T02:00:00+02:00", "2024-02-09T12:00:00", ["2024-02-03T00:00:00"]),
    ],
)
def test_start_and_end_are_asked_of_the_server(
    server: Postgres, monkeypatch: pytest.MonkeyPatch, start: str | None, end: str | None, kept: list[str]
) -> None:
    stored(server, *ROWS)
    bounds = {"start_ns": start and parse_instant(start), "end_ns": end and parse_instant(end)}
    book, report = read("sql_snapshots", config(server), **bounds)
    assert book.time_ns.tolist() == [parse_instant(time) for time in kept] and report["before_start"] == 0


def test_bounds_between_two_units_of_the_clock_are_exact(server: Postgres) -> None:
    stored(server, *ROWS[:1])
    at = parse_instant("2024-02-03")
    assert len(read("sql_snapshots", config(server), end_ns=at + 1)[0]) == 1
    with pytest.raises(InputError, match="between start and end; it has rows from 2024-02-03 to 2024-02-03"):
        read("sql_snapshots", config(server), start_ns=at + 1_000)


def test_names_are_taken_letter_by_letter(server: Postgres) -> None:
    stored(server, ("2024-02-01T00:00:00Z", "O'NEIL; DROP TABLE book", "bid", 1, 100.5, 1.0))
    server.run(
        'DROP TABLE IF EXISTS "a ""b""; DROP TABLE book; --.c"',
        'CREATE TABLE "a ""b""; DROP TABLE book; --.c" AS SELECT * FROM book',
        'ALTER TABLE "a ""b""; DROP TABLE book; --.c" RENAME price TO "p""; DROP TABLE book; --"',
    )
    strange = config(
        server,
        table='public."a ""b""; DROP TABLE book; --.c"',
        columns={"price": 'p"; DROP TABLE book; --'},
        instrument="O'NEIL; DROP TABLE book",
    )
    assert read("sql_snapshots", strange)[0].price_ticks.tolist() == [1005]
    assert len(read("sql_snapshots", config(server, instrument=None))[0]) == 1, "the table is still there"
    with pytest.raises(InputError, match="holds no backslash and no unprintable character"):
        read("sql_snapshots", config(server, instrument="x\\' OR true"))


@pytest.mark.parametrize("name", ["", "a.", ".a", "a..b", 'a"b', "a.b.c.d", 'a."', "a\nb"])
def test_a_table_has_a_name(name: str) -> None:
    with pytest.raises(ValidationError, match="names no table"):
        Config(uri="postgresql://h/d", table=name)
    with pytest.raises(InputError, match=r"^table: .* names no table"):
        sql_snapshots.tables(Config(uri="postgresql://h/d", table="book_{SYMBOL}"), f'BTC{name}"')


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"table": "boook"}, r"has no table 'boook' that the user may see; did you mean 'book'\?"),
        ({"table": "nowhere.book"}, r"relation \"nowhere\.book\" does not exist"),
        ({"columns": {"price": "prise"}}, r"columns\.price: .*no such column \(value 'prise'\); did you mean 'price'"),
        ({"columns": {"quantity": None}}, r"^book: has no column for quantity; its columns are timestamp, symbol"),
        ({"columns": {"transaction_time": None}}, r"^book: has no column for a time"),
        ({"columns": {"transaction_time": "price"}}, r"column 'price' of type double is no time"),
        ({"columns": {"transaction_time": "level"}}, r"column 'level' is no time in ms, us or ns .* \(value 1\)"),
        ({"columns": {"symbol": None}}, r"^book: has no column for symbol; name it under columns, or set instrument"),
        ({"instrument": "XRP"}, r"^book: holds no row of BTCUSDT; it has BTCUSDT, ETHUSDT; set instrument to one"),
    ],
)
def test_what_is_not_there_is_named(server: Postgres, values: dict[str, Any], match: str) -> None:
    stored(server, *ROWS)
    with pytest.raises(InputError, match=match) as caught:
        read("sql_snapshots", config(server, **values))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        (("BTCUSDT", "bid", 1, -1.0, 1.0), r"^book on 2024-02-01, row 3: a price must be above 0 \(value -1\.0\)"),
        (("BTCUSDT", "bid", 1, None, 1.0), r"^book on 2024-02-01, row 3: a price must be a number"),
        (("BTCUSDT", "up", 1, 1.0, 1.0), r"^book on 2024-02-01, row 3: a level needs its side .*\(value 'up'\)"),
    ],
)
def test_a_row_is_named_by_its_day_and_place(server: Postgres, row: tuple[Any, ...], match: str) -> None:
    good = [(f"2024-02-0{day}T00:00:01Z", "BTCUSDT", side, 1, 2.0, 1.0) for day in (1, 2) for side in ("bid", "ask")]
    stored(server, ("2024-02-01T00:00:02Z", *row), *good)
    with pytest.raises(InputError, match=match):
        read("sql_snapshots", config(server))
    book, report = read("sql_snapshots", config(server), on_bad_row="drop")
    assert len(book) == 3 and sum(report["dropped"].values()) == 1


def test_a_row_without_a_time_is_no_row_of_a_day(server: Postgres) -> None:
    stored(server, *ROWS, (None, "BTCUSDT", "bid", 1, 1.0, 1.0))
    with pytest.raises(InputError, match=r"^book: column 'timestamp', which cuts the rows into days, is empty in some"):
        read("sql_snapshots", config(server))


def test_an_empty_table_and_infinite_times(server: Postgres) -> None:
    stored(server)
    with pytest.raises(InputError, match=r"^book: holds no row; check table$"):
        read("sql_snapshots", config(server))
    stored(server, *ROWS, ("infinity", "BTCUSDT", "bid", 1, 1.0, 1.0))
    with pytest.raises(InputError, match=r"column 'timestamp' has a time outside the years 1970 to 2262; set start"):
        read("sql_snapshots", config(server))
    assert len(read("sql_snapshots", config(server), end_ns=parse_instant("2100-01-01"))[0]) == 3


@pytest.mark.parametrize(
    ("prices", "exact"),
    [
        (["1", "1.5", "0.000000000001"], ["1", "1.5", "0.000000000001"]),
        (["42000", "1e3"], ["42000", "1000"]),
        (["1.50", "2.00"], ["1.5", "2"]),
        (["12345678.123456789012345678"], None),
        (["1", "'NaN'"], None),
        (["1", "'-infinity'"], None),
    ],
)
def test_numeric_is_exact(server: Postgres, prices: list[str], exact: list[str] | None) -> None:
    stored(server)
    server.run("ALTER TABLE book ALTER price TYPE numeric")
    rows = [f"('2024-02-01Z', 'BTCUSDT', 'bid', {at}, {price}, 1)" for at, price in enumerate(prices)]
    server.run(f"INSERT INTO book VALUES {', '.join(rows)}")
    if exact is None:
        with pytest.raises(InputError, match=r"^book on 2024-02-01(, row 2: a price must be|: column 'price' of type)"):
            read("sql_snapshots", config(server))
        return
    book, _ = read("sql_snapshots", config(server))
    assert [book.symbol.price.exact(ticks) for ticks in book.price_ticks.tolist()] == [Decimal(text) for text in exact]


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("adbc_driver_postgresql")
    with pytest.raises(
        EnvironmentProblem, match=r"^ingest\.book: .*/market cannot be reached: .*; check uri"
    ) as caught:
        read("sql_snapshots", Config(uri=f"postgresql:///market?host={tmp_path}&user=a", table="book"))
    assert "\n" not in str(caught.value) and caught.value.exit_code == 3


def test_a_server_without_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", None)
    with pytest.raises(EnvironmentProblem, match=r"needs the package adbc-driver-postgresql; install it: pip install"):
        read("sql_snapshots", Config(uri="postgresql:///market", table="book"))


@pytest.mark.parametrize(
    "uri",
    ["postgresql://a:hunter2@h/d", "postgresql://a:h/unter2@h/d", "postgresql://h/d?user=a&password=hunter2"],
)
def test_a_password_in_a_run_file_is_refused_and_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    path = run_file(tmp_path, uri)
    assert cli.main(["validate", str(path)]) == 2
    shown = capsys.readouterr()
    assert "a password does not belong into a run file; write ${PGPASSWORD}" in " ".join(shown.err.split())
    assert "unter2" not in shown.err + shown.out


def test_a_password_as_a_key_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(run_file(tmp_path, "postgresql:///d", password="hunter2"))]) == 2
    shown = capsys.readouterr()
    assert "ingest.book.password: unknown key" in shown.err and "hunter2" not in shown.err + shown.out


@pytest.mark.parametrize(
    ("uri", "secret", "match"),
    [
        (
            "postgresql:///postgres?host={}&user=secretive&password=${{PW}}",
            "hun@ter:/2",
            "password authentication failed",
        ),
        ("postgresql://secretive:${{PW}}@/postgres?host={}", "hun@ter:/2", "password authentication failed"),
        ("${{PW}}", "postgresql://secretive:hun@ter@h/d", "is no URI of the form"),
        ("${{PW}}", "postgresql://secretive:hunter/2@h/d", "is no URI of the form"),
        ("${{PW}}", "host=h password=hunter2", "a URI begins with postgresql://"),
    ],
)
def test_no_message_shows_a_password(
    server: Postgres, monkeypatch: pytest.MonkeyPatch, uri: str, secret: str, match: str
) -> None:
    """A right password opens; a wrong one is not shown, nor a piece of it."""
    server.run("DROP ROLE IF EXISTS secretive", "CREATE ROLE secretive LOGIN PASSWORD 'r@ight:/%'")
    monkeypatch.setenv("PW", secret)
    options = Config(uri=uri.format(server.folder), table="pg_class")
    with pytest.raises((InputError, EnvironmentProblem), match=match) as caught:
        read("sql_snapshots", options)
    assert "hun" not in str(caught.value) and caught.value.__suppress_context__ | (caught.value.__context__ is None)
    if "password auth" in match:
        monkeypatch.setenv("PW", "r@ight:/%")
        with pytest.raises(InputError, match="pg_class: has no column for side"):
            read("sql_snapshots", options)


def test_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PW", raising=False)
    with pytest.raises(InputError, match=r"^ingest\.book\.uri: the environment variable PW is not set"):
        read("sql_snapshots", Config(uri="postgresql://a:${PW}@h/d", table="book"))


def test_a_server_that_breaks_off(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    server.run(
        "DROP TABLE IF EXISTS long",
        "CREATE TABLE long AS SELECT timestamptz '2024-02-01Z' + g * interval '1 ms' AS timestamp, "
        "'BTCUSDT' AS symbol, 'bid' AS side, 1 AS level, 1.5::float8 AS price, 1.5::float8 AS quantity "
        "FROM generate_series(1, 50000) g",
    )
    monkeypatch.setattr(_server, "BATCH_BYTES", 5_000)
    pieces = sql_snapshots.read(config(server, table="long"), ReadRequest("book", "BTCUSDT"))
    assert next(pieces).file == Path("long on 2024-02-01")
    server.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%\"long\"%' AND state = 'active'"
    )
    with pytest.raises(EnvironmentProblem, match=r"^ingest\.book: .*/postgres broke off: ") as caught:
        list(pieces)
    assert "\n" not in str(caught.value)


MEASURED = """
import sys
from pathlib import Path
from gpu_pipeline.ingest import sql_snapshots
from gpu_pipeline.ingest._raw import ReadRequest

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

uri, step, use_copy = sys.argv[1:]
options = sql_snapshots.Config(uri=uri, table="long", instrument=None, query_step=step, use_copy=use_copy)
rows, before, most = 0, 0, 0
for piece in sql_snapshots.read(options, ReadRequest("book", "BTCUSDT")):
    rows, before, most = rows + len(piece.depth.side), before or held(), max(most, held())
print(rows, most - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("step", "use_copy"), [("1day", "true"), ("30min", "false")])
def test_memory_is_that_of_a_batch(server: Postgres, step: str, use_copy: str) -> None:
    """Two million rows are 210 MB as columns."""
    server.run(
        "DROP TABLE IF EXISTS long",
        "CREATE TABLE long AS SELECT timestamptz '2024-02-01Z' + s * interval '10 s' AS timestamp, side, level, "
        "100 + side * level * 0.01::float8 AS price, 1.5::float8 AS quantity FROM generate_series(0, 3999) s, "
        "(VALUES (1), (-1)) v(side), generate_series(1, 250) level",
        "CREATE INDEX ON long(timestamp)",
    )
    command = [sys.executable, "-c", MEASURED, server.uri, step, use_copy]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    rows, more = map(int, done.stdout.split())
    assert rows == 2_000_000 and more < 120e6


def test_a_reader_that_stops_leaves_no_query_behind(server: Postgres) -> None:
    server.fill("book", with_kinds({}))
    for use_copy in (True, False):
        book, _ = read("sql_snapshots", config(server, use_copy=use_copy), limit=3)
        assert len(book) == 3


def test_one_table_for_two_symbols(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_file(tmp_path, "postgresql:///nowhere", instrument=None)
    assert cli.main(["validate", str(path), "symbols=[BTCUSDT, ETHUSDT]"]) == 2
    message = "book: is read for BTCUSDT and for ETHUSDT; put {SYMBOL} into ingest.book.table"
    assert message in " ".join(capsys.readouterr().err.split())
    assert cli.main(["validate", str(path), "symbols=[BTCUSDT, ETHUSDT]", "ingest.book.table=book_{symbol}"]) == 0


@pytest.mark.parametrize("step", ["7hour", "2day", "11min"])
def test_a_query_covers_a_part_of_a_day(step: str) -> None:
    with pytest.raises(ValidationError, match="must divide a day"):
        Config(uri="postgresql:///d", table="book", query_step=step)


def run_file(folder: Path, uri: str, **values: Any) -> Path:
    run = {
        "name": "sql",
        "device": "cpu",
        "runs": str(folder / "runs"),
        "symbols": ["BTCUSDT"],
        "ingest": {"book": {"source": "sql_snapshots", "uri": uri, "table": "book", **values}},
        "book": {"form": "snapshots", "cadence": "1s", "near_levels": 4, "deep_bins": None},
    }
    (folder / "run.yaml").write_text(write_yaml(run))
    return folder / "run.yaml"


def test_a_whole_run_is_unchanged_until_the_table_is_not(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fill("book", shuffled(with_kinds({})))
    monkeypatch.setenv("HOST", str(server.folder))
    path = run_file(tmp_path, "postgresql:///postgres?host=${HOST}&user=reader")

    def runs(*overrides: str, to: str = "ingest") -> tuple[str, int]:
        """The key of what ingest made, and how many snapshots that are."""
        assert cli.main(["run", str(path), "--to", to, *overrides]) == 0
        manifest = read_json(tmp_path / "runs" / "sql" / "clean" / "manifest.json")
        return manifest["key"], manifest["streams"]["book"]["BTCUSDT"]["rows_out"]

    first = runs(to="book")
    assert (tmp_path / "runs" / "sql" / "book" / "manifest.json").is_file()
    read_again = days_asked(monkeypatch)
    server.run("UPDATE book SET quantity = quantity + 1 WHERE level = 1 AND quantity < 1 AND symbol = 'btcusdt'")
    assert runs(to="book") == first and not read_again, "no extreme moved"
    assert runs("ingest.book.revision=1")[0] != first[0] and read_again
    read_again.clear()
    server.run(
        "INSERT INTO book SELECT 9, timestamp + interval '1 h', symbol, side, level, price, quantity FROM book "
        "WHERE update_id = 1000"
    )
    grown = runs()
    assert grown[1] == first[1] + 1 and read_again
    written = (tmp_path / "runs" / "sql" / "config.yaml").read_text()
    assert "${HOST}" in written and str(server.folder) not in written


def test_the_digest_is_of_the_rows_that_are_read(server: Postgres) -> None:
    stored(server, *ROWS)
    request = ReadRequest("book", "BTCUSDT", start_ns=parse_instant("2024-02-03"), end_ns=parse_instant("2024-02-04"))
    before = sql_snapshots.digest(config(server), request)
    assert before.startswith("rows 2, first 1706918400000000, last 1706918400000000, price from 103.0, to 104.0")
    stored(
        server, *ROWS, ("2024-02-07Z", "BTCUSDT", "bid", 1, 1.0, 1.0), ("2024-02-03Z", "ETHUSDT", "bid", 1, 1.0, 1.0)
    )
    assert sql_snapshots.digest(config(server), request) == before


def test_a_server_that_answers_no_copy_is_known_by_its_words() -> None:
    server = _server.Server("ingest.book", "h/d", None, True, ())
    error = OSError(
        '[libpq] Failed to execute query: could not begin COPY: ERROR:  syntax error at or near "("\nLINE 1'
    )
    way = "a server that answers no COPY needs use_copy: false"
    assert str(server._problem(error)) == f'ingest.book: h/d broke off: syntax error at or near "("; {way}'
