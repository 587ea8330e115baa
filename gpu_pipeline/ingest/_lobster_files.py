"""Files of LOBSTER: message rows with the row of the book beside each, from two CSV files or one Parquet file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest import _arrow, _csv
from gpu_pipeline.ingest._columns import Cells
from gpu_pipeline.ingest._csv import Layout
from gpu_pipeline.ingest._files import verify_checksum
from gpu_pipeline.ingest._raw import Units, Values
from gpu_pipeline.ingest._wide import PIECE_LEVELS
from gpu_pipeline.ingest.parquet import STREAMED, errors

MESSAGES, BOOK = "message", "orderbook"
SUFFIXES = (".parquet", ".csv", ".csv.gz")
STEP = Decimal("0.0001")
_COLUMNS = ("time", "type", "order_id", "size", "price", "direction", "attribution")
_TYPES = {"time": pa.float64(), "type": pa.int64(), "size": pa.float64(), "price": pa.int64(), "direction": pa.int64()}
_LEVEL = re.compile(r"(ask|bid)_(px|sz)_([1-9]\d*)")
TWO_DAYS_NS = 2 * 86_400 * 10**9


@dataclass(frozen=True)
class Piece:
    """Some messages of one file, in file order.

    Attributes:
        file: the message or Parquet file.
        first_row: rows of the file before these.
        columns: `time` in seconds or `time_ns`, `type size price direction`, and `ask_px_1` and so on if asked for.
        levels: of the book on each side, 0 where it was not asked for.
        checked: how the bytes were verified.
    """

    file: Path
    first_row: int
    columns: Mapping[str, pa.Array]
    levels: int
    checked: str

    def whole(self, name: str) -> Tensor:
        """[N] int64 of a column that must be there in every row.

        Raises:
            InputError: it holds something else.
        """
        cells = self._cells(name, "integer")
        if cells.null is not None:
            raise self._error(name, int(cells.null.nonzero()[0]), "must be a whole number", "empty")
        return cells.values

    def prices(self, name: str) -> tuple[Units, Tensor]:
        """[N] prices, and where they are empty."""
        cells = self._cells(name, "integer")
        return Units(cells.values, STEP), _null(cells)

    def sizes(self, name: str) -> tuple[Values, Tensor]:
        """[N] sizes, and where they are empty."""
        cells = self._cells(name, "integer", "float", "decimal")
        return (cells.values if cells.kind == "float" else Units(cells.values, cells.step)), _null(cells)

    def time_ns(self, midnight_ns: int) -> Tensor:
        """[N] int64 ns UTC.

        Raises:
            InputError: a time that is missing, or not within two days of midnight.
        """
        after = self.whole("time_ns") if "time_ns" in self.columns else self._seconds()
        wrong = ((after < 0) | (after >= TWO_DAYS_NS)).nonzero()
        if len(wrong):
            at = int(wrong[0])
            raise self._error("time", at, "must be a time of the day, counted from midnight", int(after[at]))
        return after + midnight_ns

    def _seconds(self) -> Tensor:
        # A float64 of seconds within a day is exact to 0.02 ns, so that the nearest nanosecond is the one written.
        seconds = self._cells("time", "float").values
        return torch.round(seconds * 1e9).nan_to_num(-1, -1, -1).to(torch.int64)

    def _cells(self, name: str, *kinds: str) -> Cells:
        column = self.columns[name]
        cells = _arrow.cells(column.cast(pa.int64()) if pa.types.is_null(column.type) else column, name, self.file)
        if cells.kind not in kinds:
            rule = f"column {name} holds {cells.kind} values; it needs {' or '.join(kinds)} ones"
            raise InputError.at(self.file, rule, fix="give a LOBSTER file, prices as USD x 10,000")
        return cells

    def _error(self, name: str, at: int, rule: str, value: object) -> InputError:
        fix = "the file is damaged or of another kind: fetch it again"
        return InputError.at(self.file, f"{name} {rule}", row=self.first_row + at + 1, value=value, fix=fix)


def _null(cells: Cells) -> Tensor:
    return torch.zeros(len(cells.values), dtype=torch.bool) if cells.null is None else cells.null


def partner(path: Path) -> Path | None:
    """The orderbook file of a message file; None for Parquet, which holds both."""
    return None if path.name.endswith(".parquet") else path.with_name(path.name.replace(MESSAGES, BOOK))


def read_pieces(path: Path, verify: bool, *, book: bool) -> Iterator[Piece]:
    """Messages of a file piece by piece, with the book beside them where it is asked for.

    Raises:
        InputError: a file is damaged, lacks a column or rows, or its partner is not there.
    """
    beside = partner(path)
    if beside is None:
        yield from _parquet(path, verify, book)
        return
    checked = verify_checksum(path, verify)
    if not book:
        with _csv.damage(path):
            yield from _numbered(path, checked, 0, (batch for batch in _csv_batches(path, _message_names(path))))
        return
    if not beside.is_file():
        raise InputError.at(beside, "no such file", fix=f"put the orderbook file beside {path.name}")
    verify_checksum(beside, verify)
    with _csv.damage(path):
        names = _book_names(beside)
        levels = len(names) // 4
        pairs = _pairs(path, _csv_batches(path, _message_names(path)), beside, _csv_batches(beside, names), levels)
        yield from _numbered(path, checked, levels, pairs)


def _numbered(path: Path, checked: str, levels: int, batches: Iterator[pa.RecordBatch]) -> Iterator[Piece]:
    row = 0
    for batch in batches:
        if batch.num_rows:
            columns = {name: batch.column(name) for name in batch.schema.names}
            yield Piece(path, row, columns, levels, checked)
        row += batch.num_rows


def _parquet(path: Path, verify: bool, book: bool) -> Iterator[Piece]:
    with errors(path), pq.ParquetFile(path, page_checksum_verification=verify, **STREAMED) as file:
        names = file.schema_arrow.names
        time = "time_ns" if "time_ns" in names else "time"
        found = {match[3] for name in names if (match := _LEVEL.fullmatch(name))} if book else set()
        book_names = _level_names(len(found))
        wanted = [time, "type", "size", "price", "direction", *book_names]
        missing = [name for name in wanted if name not in names] or ([] if found or not book else ["ask_px_1"])
        if missing:
            shown = ", ".join(names[:10])
            raise InputError.at(path, f"has no column {missing[0]}; its columns are {shown}", fix="rename its columns")
        checked = "page checksums" if verify else "skipped"
        yield from _numbered(path, checked, len(found), file.iter_batches(_rows(len(found)), columns=wanted))


def _rows(levels: int) -> int:
    return max(1, PIECE_LEVELS // (2 * levels)) if levels else 1 << 18


def _level_names(levels: int) -> list[str]:
    return [f"{side}_{what}_{at}" for at in range(1, levels + 1) for side in ("ask", "bid") for what in ("px", "sz")]


def _message_names(path: Path) -> list[str]:
    width = _width(path)
    if width not in (6, 7):
        rule = f"has {width} columns; a message has 6: time, type, order id, size, price, direction"
        raise InputError.at(path, rule, fix="give the message file as it was published, without a header")
    return list(_COLUMNS[:width])


def _book_names(path: Path) -> list[str]:
    width = _width(path)
    if width % 4:
        rule = f"has {width} columns; a row of the book has four for each level"
        raise InputError.at(path, rule, fix="give the orderbook file as it was published, without a header")
    return _level_names(width // 4)


def _width(path: Path) -> int:
    lines = _csv.first_lines(path, "")
    if not lines:
        raise InputError.at(path, "is empty", fix="fetch it again")
    return lines[0].count(",") + 1


def _csv_batches(path: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    types = _TYPES if names[0] == "time" else {name: pa.int64() if "_px_" in name else pa.float64() for name in names}
    return _csv.batches(path, "", Layout(tuple(names), 0), types, str(path))


def _pairs(
    path: Path, messages: Iterator[pa.RecordBatch], beside: Path, books: Iterator[pa.RecordBatch], levels: int
) -> Iterator[pa.RecordBatch]:
    """Rows of both files side by side."""
    row, cut = 0, _rows(levels)
    for left, right in zip_longest(_cut(messages, cut), _cut(books, cut)):
        sizes = [0 if part is None else part.num_rows for part in (left, right)]
        if sizes[0] != sizes[1]:
            rule = f"has {'more' if sizes[1] > sizes[0] else 'fewer'} rows than {path.name}, which it belongs to"
            raise InputError.at(beside, rule, row=row + min(sizes) + 1, fix="fetch both files again")
        yield pa.record_batch([*left.columns, *right.columns], names=[*left.schema.names, *right.schema.names])
        row += sizes[0]


def _cut(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `rows`."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        while sum(part.num_rows for part in held) >= rows:
            whole = pa.concat_batches(held)
            yield whole.slice(0, rows)
            held = [whole.slice(rows)]
    whole = pa.concat_batches(held) if held else None
    if whole is not None and whole.num_rows:
        yield whole
