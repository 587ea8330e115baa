"""Book snapshots in tall form from a SQL server that speaks the PostgreSQL wire protocol.

Columns, sides, levels and clocks are those of `tall_snapshots`, and equal rows give equal snapshots. Rows are asked for
by UTC days (`query_step` for shorter stretches) of the first clock that the table has, and come sorted by the server,
so that no time steps back; a row is named by its day and its place in that order. Days without a row are counted.
Times are timestamps (without a zone: UTC) or whole numbers in ms, us or ns; PostgreSQL's own protocol carries no more
than microseconds. Prices and quantities are floats, whole numbers or NUMERIC, which is taken exactly.

Memory holds a few copies of one record batch of about 16 MiB, however long the table is. GreptimeDB and QuestDB speak
the protocol too, but answer no COPY: with `use_copy: false` the answer to a query arrives whole, and `query_step` says
how much that is. The tests run against PostgreSQL, both ways.

A rerun takes what was read before as unchanged while the table has as many rows from `start` to `end`, and the same
first and last time and smallest and largest price and quantity. A row that was changed in place may leave all of these
as they were: raise `revision` then. Give `end` for a table that is being written to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field, field_validator

from gpu_pipeline.core.config import Step
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.units import DAY_NS, parse_duration
from gpu_pipeline.ingest._depth import RawDepth
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._server import connected, has_password
from gpu_pipeline.ingest._server_table import Table, day_of, opened, parts
from gpu_pipeline.ingest._snapshots import RawSnapshots
from gpu_pipeline.ingest.tall_snapshots import FORM, Name, level_of_each, snapshots


class Config(Options):
    """Where the table is.

    Attributes:
        uri: `postgresql://user@host:port/database`; `${NAME}` stands for a variable of the environment. A password
            stands in none of our files: write `${PGPASSWORD}`, or leave it out and libpq finds it by itself.
        table: `table` or `schema.table`, letter by letter; `{SYMBOL}` and `{symbol}` stand for the symbol.
        columns: our names -> the table's names.
        instrument: the symbol's name in the column `symbol`: as it stands here, in capitals or in small letters; null
            takes every row.
        use_copy: answers come by COPY, as a stream; false for a server that has none, as GreptimeDB and QuestDB.
        query_step: what one query covers; a day, or a part of it that divides it.
        revision: raise it where rows were changed in place, so that they are read again.
    """

    uri: str = Field(examples=["postgresql://reader:${PGPASSWORD}@localhost:5432/market"])
    table: str = Field(examples=["public.book_snapshots"])
    columns: dict[Name, str | None] = {}
    instrument: str | None = "{SYMBOL}"
    use_copy: bool = True
    query_step: Step = "1day"
    revision: int = 0

    @field_validator("uri")
    @classmethod
    def _without_password(cls, uri: str) -> str:
        if has_password(uri):
            raise ValueError("a password does not belong into a run file; write ${PGPASSWORD} and export it")
        return uri

    @field_validator("table")
    @classmethod
    def _a_name(cls, table: str) -> str:
        parts(table)
        return table

    @field_validator("query_step")
    @classmethod
    def _part_of_a_day(cls, step: str) -> str:
        if DAY_NS % parse_duration(step):
            raise ValueError(f"must divide a day, for example 1day, 6hour or 10min (value {step})")
        return step


def tables(config: Config, symbol: str) -> list[str]:
    """The table that will be read, without asking for it.

    Raises:
        InputError: with the symbol in it the name is none.
    """
    name = config.table.replace("{SYMBOL}", symbol).replace("{symbol}", symbol.lower())
    try:
        parts(name)
    except ValueError as error:
        raise InputError(f"table: {error}") from None
    return [name]


def digest(config: Config, request: ReadRequest) -> str:
    """What changes when rows of the table do: their number, and the extremes of their times, prices and quantities.

    Raises:
        InputError: no such table, or it lacks a column.
        EnvironmentProblem: the server cannot be reached.
    """
    with _table(config, request) as table:
        return table.fingerprint(request.start_ns, request.end_ns)


def read(config: Config, request: ReadRequest) -> Iterator[RawSnapshots]:
    """Raw snapshots piece by piece.

    Raises:
        InputError: no such table, it lacks a column, or it holds no row of the symbol, or one without a time.
        EnvironmentProblem: the driver is not installed, or the server cannot be reached or broke off.
    """
    with _table(config, request) as table:
        days = _Days(table, request, parse_duration(config.query_step))
        for piece in snapshots(days.rows()):
            yield RawSnapshots(piece, "error", {"days_without_rows": days.passed_over()})


@contextmanager
def _table(config: Config, request: ReadRequest) -> Iterator[Table]:
    (name,) = tables(config, request.symbol)
    columns: dict[Any, str | None] = dict(config.columns)
    instrument = config.instrument and config.instrument.replace("{SYMBOL}", request.symbol)
    with connected(config.uri, config.use_copy, f"ingest.{request.stream}") as server:
        table = opened(server, name, FORM, columns, instrument)
        if instrument and table.symbol is None and name == config.table:
            fix = "name it under columns, or set instrument: null to take every row"
            raise InputError.at(name, "has no column for symbol", fix=fix)
        yield table


class _Days:
    """The rows of a table, day by day."""

    def __init__(self, table: Table, request: ReadRequest, step_ns: int) -> None:
        self._table, self._step_ns = table, step_ns
        span = table.span(request.start_ns, request.end_ns)
        if span is None:
            raise _nothing(table, request)
        if table.has_rows_without_time():
            rule = f"column '{table.clock}', which cuts the rows into days, is empty in some of them"
            raise InputError.at(table.name, rule, fix="fill it, or name another clock under columns")
        self._first, self._last = span
        self._empty = 0

    def rows(self) -> Iterator[RawDepth]:
        """Each row as a message of one level."""
        begin, end = self._first, self._last + 1
        while begin < end:
            stop, found = min((begin // DAY_NS + 1) * DAY_NS, end), False
            for rows in self._table.read(begin, stop, self._step_ns):
                found = True
                yield level_of_each(rows)
            begin = stop if found else self._next(begin, end)

    def _next(self, begin: int, end: int) -> int:
        """The first time after a day without a row."""
        span = self._table.span((begin // DAY_NS + 1) * DAY_NS, end)
        after = end if span is None else span[0]
        self._empty += after // DAY_NS - begin // DAY_NS
        return after

    def passed_over(self) -> int:
        """Days without a row since it was last asked for."""
        count, self._empty = self._empty, 0
        return count


def _nothing(table: Table, request: ReadRequest) -> InputError:
    outside = table.span(None, None)
    if outside is not None:
        first, last = map(day_of, outside)
        fix = f"it has rows from {first} to {last}: check start and end"
        return InputError.at(table.name, f"holds no row of {request.symbol} between start and end", fix=fix)
    names = table.instruments()
    if not names:
        return InputError.at(table.name, "holds no row", fix="check table")
    fix = "set instrument to one of them, or to null to take every row"
    return InputError.at(table.name, f"holds no row of {request.symbol}; it has {', '.join(names)}", fix=fix)
