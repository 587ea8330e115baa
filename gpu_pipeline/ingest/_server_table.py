"""A table of a SQL server, read in order of time: day by day, in record batches, with our names for its columns."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gpu_pipeline.core.errors import InputError, nearest
from gpu_pipeline.core.units import DAY_NS
from gpu_pipeline.ingest._columns import UNITS_NS
from gpu_pipeline.ingest._server import Refused, Server, literal, quoted
from gpu_pipeline.ingest._tall import CLOCKS, Form, Rows, found_columns
from gpu_pipeline.ingest.parquet import PIECE_ROWS

_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')
_EPOCH = dt.datetime(1970, 1, 1)


def parts(name: str) -> list[str]:
    """`schema.table` -> its parts; one that has a dot in it stands in double quotes.

    Raises:
        ValueError: not a name of that form.
    """
    found = [whole.replace('""', '"') or plain for whole, plain in _PART.findall(name)]
    again = [match.group(0) for match in _PART.finditer(name)]
    if not 1 <= len(found) <= 3 or ".".join(again) != name or not name.isprintable():
        raise ValueError(f"{name!r} names no table; write table or schema.table, a part with a dot in double quotes")
    return found


def day_of(time_ns: int) -> str:
    """The UTC day of a time, as ISO 8601 has it."""
    return (_EPOCH + dt.timedelta(days=time_ns // DAY_NS)).date().isoformat()


@dataclass(frozen=True)
class Table:
    """A table of one server, or the rows of one instrument in it.

    Attributes:
        server: that holds it.
        name: as the run file has it.
        columns: our names -> the table's; without `symbol`.
        symbol: the table's column of symbols; None where it has none.
        clock: the table's column by which it is cut into days; the first of `columns` that is a clock.
        unit_ns: of the clock where it holds whole numbers, 0 where it holds timestamps.
        chosen: SQL condition on the rows, empty for all of them.
    """

    server: Server
    name: str
    columns: Mapping[str, str]
    symbol: str | None
    clock: str
    unit_ns: int
    chosen: str

    def span(self, start_ns: int | None, end_ns: int | None) -> tuple[int, int] | None:
        """Times of the first and the last row between two times; None where there is no row."""
        clock = quoted(self.clock)
        (first, last), *_ = self._rows(f"min({clock}), max({clock})", self._within(start_ns, end_ns))
        return None if first is None else (self._in_ns(first), self._in_ns(last))

    def fingerprint(self, start_ns: int | None, end_ns: int | None) -> str:
        """What tells whether rows were added or taken away: how many there are, and their extremes."""
        ends = [quoted(self.columns[ours]) for ours in ("price", "quantity")]
        ends.insert(0, quoted(self.clock))
        what = ", ".join(f"min({column}), max({column})" for column in ends)
        (row, *_) = self._rows(f"count(*), {what}", self._within(start_ns, end_ns))
        names = ("rows", "first", "last", "price from", "to", "quantity from", "to")
        return ", ".join(f"{name} {value}" for name, value in zip(names, row, strict=True))

    def has_rows_without_time(self) -> bool:
        """Whether a row has no time in the column that cuts days."""
        clock = quoted(self.clock)
        return bool(self._rows("1", [*self._chosen(), f"{clock} IS NULL"], " LIMIT 1"))

    def instruments(self) -> list[str]:
        """Some of the names in the column of symbols."""
        if self.symbol is None:
            return []
        return sorted(str(name) for (name,) in self._rows(f"DISTINCT {quoted(self.symbol)}", [], " LIMIT 10"))

    def read(self, start_ns: int, end_ns: int, step_ns: int) -> Iterator[Rows]:
        """Rows of one UTC day between two times in it, in order of time and piece by piece.

        Rows are counted from 1 within the day, in the order of the query.

        Args:
            start_ns: rows before it are left out.
            end_ns: rows at or after it are left out.
            step_ns: what one query covers.
        """
        file, units, first_row = Path(f"{self.name} on {day_of(start_ns)}"), dict[str, Any](), 0
        for begin in range(start_ns // step_ns * step_ns, end_ns, step_ns):
            query = self._query(max(begin, start_ns), min(begin + step_ns, end_ns))
            for batch in self.server.batches(query):
                rows = Rows(file, first_row, self._named(batch, file), self.columns, units, "none there")
                yield from (rows.part(at, min(PIECE_ROWS, len(rows) - at)) for at in range(0, len(rows), PIECE_ROWS))
                first_row += len(rows)

    def _query(self, start_ns: int, end_ns: int) -> str:
        # All columns, so that rows of one time come in one order whenever they are asked for.
        rest = [*CLOCKS, "level", "side", "price", "quantity"]
        named = dict.fromkeys(
            [self.clock, *(self.columns[ours] for ours in ("snapshot", *rest) if ours in self.columns)]
        )
        what = ", ".join(quoted(column) for column in dict.fromkeys(self.columns.values()))
        where = " AND ".join(self._within(start_ns, end_ns))
        order = ", ".join(map(quoted, named))
        return f"SELECT {what} FROM {self._source} WHERE {where} ORDER BY {order}"

    @property
    def _source(self) -> str:
        return ".".join(map(quoted, parts(self.name)))

    def _chosen(self) -> list[str]:
        return [self.chosen] if self.chosen else []

    def _within(self, start_ns: int | None, end_ns: int | None) -> list[str]:
        clock = quoted(self.clock)
        after = [] if start_ns is None else [f"{clock} >= {self._instant(start_ns, up=False)}"]
        before = [] if end_ns is None else [f"{clock} < {self._instant(end_ns, up=True)}"]
        return [*after, *before, *self._chosen()]

    def _instant(self, time_ns: int, up: bool) -> str:
        """A time as the clock compares it: down or up to its unit, which is a microsecond for timestamps."""
        unit = self.unit_ns or 1_000
        count = -(-time_ns // unit) if up else time_ns // unit
        if self.unit_ns:
            return str(count)
        # With a zone, so that the server's own zone plays no part; a column without one leaves it aside.
        return f"'{(_EPOCH + dt.timedelta(microseconds=count)).isoformat(timespec='microseconds')}Z'"

    def _in_ns(self, value: Any) -> int:
        time_ns = int(value) * (self.unit_ns or 1_000)
        if not 0 <= time_ns < 2**63 - DAY_NS:
            rule = f"column '{self.clock}' has a time outside the years 1970 to 2262"
            raise InputError.at(self.name, rule, fix="set start and end of the stream")
        return time_ns

    def _rows(self, what: str, where: Sequence[str], more: str = "") -> list[tuple[Any, ...]]:
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        return self._select(f"SELECT {what} FROM {self._source}{condition}{more}")

    def _select(self, query: str) -> list[tuple[Any, ...]]:
        table = self.server.table(query)
        columns = [
            column.cast(pa.int64()).to_pylist() if pa.types.is_timestamp(column.type) else column.to_pylist()
            for column in table.columns
        ]
        return list(zip(*columns, strict=True))

    def _named(self, batch: pa.RecordBatch, file: Path) -> dict[str, pa.Array]:
        columns = {name: _plain(batch.column(name), name, file) for name in set(self.columns.values())}
        return {ours: columns[name] for ours, name in self.columns.items()}


def opened(server: Server, name: str, form: Form, mapping: Mapping[str, str | None], instrument: str | None) -> Table:
    """A table whose columns are found by our names.

    Args:
        server: that holds it.
        name: `table` or `schema.table`.
        form: the columns of this kind of table.
        mapping: our names -> the table's names.
        instrument: the rows of one symbol, as it stands, in capitals or in small letters; None takes every row.

    Raises:
        InputError: no such table, it lacks a column, or its clock is none.
    """
    source = ".".join(map(quoted, parts(name)))
    schema = _schema(server, name, source)
    found = dict(found_columns(schema.names, form, mapping, Path(name)))
    symbol = found.pop("symbol", None)
    clock = found[next(ours for ours in CLOCKS if ours in found)]
    spellings = [] if instrument is None else dict.fromkeys([instrument, instrument.upper(), instrument.lower()])
    names = ", ".join(map(literal, spellings))
    chosen = f"{quoted(symbol)} IN ({names})" if symbol is not None and names else ""
    unit_ns = _unit_ns(server, name, source, clock, schema.field(clock).type)
    return Table(server, name, found, symbol, clock, unit_ns, chosen)


def _schema(server: Server, name: str, source: str) -> pa.Schema:
    try:
        return server.table(f"SELECT * FROM {source} LIMIT 0").schema
    except Refused as refused:
        try:
            listed = server.table("SELECT table_name FROM information_schema.tables").column(0).to_pylist()
        except Refused:
            listed = []
        if parts(name)[-1] in listed or not listed:
            raise refused from None
    hint = nearest(parts(name)[-1], listed)
    fix = f"did you mean '{hint}'?" if hint else "check table, and its schema where it is not the first one"
    raise InputError(f"{server.key}: {server.where} has no table '{name}' that the user may see; {fix}")


def _unit_ns(server: Server, name: str, source: str, clock: str, kind: pa.DataType) -> int:
    """0 for timestamps; of whole numbers the unit that the first time has by its size."""
    if pa.types.is_timestamp(kind):
        return 0
    if not pa.types.is_integer(kind):
        rule = f"column '{clock}' of type {kind} is no time; it needs a timestamp, or whole numbers in ms, us or ns"
        raise InputError.at(name, rule, fix="name another clock under columns")
    first = server.table(f"SELECT min({quoted(clock)}) FROM {source}").column(0)[0].as_py()
    unit = next((scale for low, high, scale, _ in UNITS_NS if first is not None and low <= first < high), None)
    if unit is None and first is not None:
        rule = f"column '{clock}' is no time in ms, us or ns since 1970 (1973 or later)"
        raise InputError.at(name, rule, value=first, fix="name another clock under columns, or null for this one")
    return unit or 1


def _plain(column: pa.Array, name: str, file: Path) -> pa.Array:
    """A column as files have it: NUMERIC comes as text, an enumeration of unknown type as bytes."""
    if isinstance(column, pa.ExtensionArray):
        kind, column = getattr(column.type, "type_name", ""), column.storage
        if kind == "numeric":
            return _decimals(column, name, file)
    return column.cast(pa.string()) if pa.types.is_binary(column.type) else column


def _decimals(words: pa.Array, name: str, file: Path) -> pa.Array:
    """Exact decimals, or whole numbers where none has a fraction; what is no number (NaN, infinity) is empty."""
    numbers = pc.if_else(pc.match_substring_regex(words, r"^-?\d+(\.\d+)?$"), words, pa.scalar(None, words.type))
    short = pc.replace_substring_regex(numbers, r"\.?0*$", "") if _all_fractions(numbers) else numbers
    point = pc.find_substring(short, ".")
    places = (
        pc.max(pc.if_else(pc.less(point, 0), 0, pc.subtract(pc.subtract(pc.utf8_length(short), point), 1))).as_py() or 0
    )
    try:
        return short.cast(pa.decimal128(38, places) if places else pa.int64())
    except pa.ArrowInvalid as error:
        rule = f"column '{name}' of type numeric: {str(error).splitlines()[0]}"
        raise InputError.at(file, rule, fix="store it with at most 38 digits") from error


def _all_fractions(words: pa.Array) -> bool:
    return bool(pc.all(pc.match_substring(words, ".")).as_py())
