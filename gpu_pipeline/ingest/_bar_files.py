"""Files of bars made by others, Parquet or CSV, as columns in file order; nothing is checked or scaled yet.

Columns are found by the names that files of the field use, or by `columns:` from our names to the file's (null leaves
an optional one out). Times may be ms, us or ns since 1970, a timestamp type, or ISO text in CSV (without a zone: UTC).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gpu_pipeline.core.config import SymbolOptions
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest import _arrow, _csv, _device, parquet
from gpu_pipeline.ingest._columns import Cells, FileColumns, match
from gpu_pipeline.ingest._files import verify_checksum
from gpu_pipeline.ingest._raw import ReadRequest, Units, Values, join_values, mapped

SUFFIXES = (*parquet.SUFFIXES, *_csv.SUFFIXES)
Name = Literal["timestamp", "open", "high", "low", "close", "volume", "quote_volume"]
PRICES: tuple[Name, ...] = ("open", "high", "low", "close")
REQUIRED: tuple[Name, ...] = ("timestamp", *PRICES, "volume")
ALIASES: Mapping[Name, tuple[str, ...]] = {
    **{name: (name,) for name in PRICES},
    "timestamp": ("timestamp", "ts", "time", "open_time", "datetime", "date"),
    "volume": ("volume", "vol"),
    "quote_volume": ("quote_volume", "quote_asset_volume", "dollar_volume"),
}


@dataclass(frozen=True)
class Rules:
    """What the rows of a source mean.

    Attributes:
        step_ns: duration of a bar.
        shift_ns: from a bar's open to the time that its row carries.
        options: what is known of the symbol, its sessions and holidays among it.
    """

    step_ns: int = 60_000_000_000
    shift_ns: int = 0
    options: SymbolOptions = field(default_factory=SymbolOptions)


@dataclass(frozen=True)
class RawBars:
    """A piece of one file.

    Attributes:
        file: the file that the piece came from.
        first_row: rows of the file before this piece; messages count data rows from 1.
        time_ns: [B] int64.
        no_time: [B] bool, True where the cell is empty or no time in the file's unit; None where all are times.
        shown: text of the first cell that is not empty, but no time.
        numbers: our name -> [B] float64, float32 or Units.
        nulls: our name -> [B] bool, True where the cell is empty.
        checked: how the file's bytes were verified.
        rules: what the rows mean.
    """

    file: Path
    first_row: int
    time_ns: Tensor
    no_time: Tensor | None
    shown: str
    numbers: Mapping[str, Values]
    nulls: Mapping[str, Tensor]
    checked: str = "none there"
    rules: Rules = field(default_factory=Rules)

    def __len__(self) -> int:
        return len(self.time_ns)

    def nbytes(self) -> int:
        """Bytes of its columns."""
        plain = [values.units if isinstance(values, Units) else values for values in self.numbers.values()]
        return sum(column.nbytes for column in (self.time_ns, *plain))

    def number(self, name: str, rows: Tensor) -> Values:
        """Some rows of a column."""
        return mapped(self.numbers[name], lambda column: column[rows])


def joined(pieces: Sequence[RawBars]) -> RawBars:
    """Consecutive pieces of one file as one."""
    first = pieces[0]
    if len(pieces) == 1:
        return first
    empty = sorted({name for piece in pieces for name in piece.nulls})
    return replace(
        first,
        time_ns=torch.cat([piece.time_ns for piece in pieces]),
        no_time=torch.cat([_mask(piece, piece.no_time) for piece in pieces]),
        shown=next((piece.shown for piece in pieces if piece.shown != "empty"), "empty"),
        numbers={name: join_values([piece.numbers[name] for piece in pieces]) for name in first.numbers},
        nulls={name: torch.cat([_mask(piece, piece.nulls.get(name)) for piece in pieces]) for name in empty},
    )


def _mask(piece: RawBars, mask: Tensor | None) -> Tensor:
    return torch.zeros_like(piece.time_ns, dtype=torch.bool) if mask is None else mask


class _BarColumns(FileColumns):
    """Turns the cells of one file, piece by piece, into raw bars; its first times decide the unit."""

    def bars(self, cells: Mapping[Any, Cells]) -> RawBars:
        """The next piece."""
        self.shown = {}
        time_ns, no_time = self._time(cells["timestamp"])
        numbers = {name: self._number(name, column) for name, column in cells.items() if name != "timestamp"}
        nulls = {name: column.null for name, column in cells.items() if column.null is not None}
        shown = self.shown.get("time_ns", "empty")
        raw = RawBars(self.file, self.rows, time_ns, no_time, shown, numbers, nulls, self.checked)
        self.rows += len(raw)
        return raw


def read(path: Path, mapping: Mapping[Name, str | None], request: ReadRequest) -> Iterator[RawBars]:
    """Raw bars of one file, piece by piece, on the device.

    Raises:
        InputError: neither Parquet nor CSV, damaged, or a column is missing or of the wrong type.
        EnvironmentProblem: Parquet on cuda was asked for and pylibcudf is missing.
    """
    if path.name.endswith(parquet.SUFFIXES):
        yield from _read_parquet(path, mapping, request)
    elif path.name.endswith(_csv.SUFFIXES):
        checked = verify_checksum(path, request.verify)
        with _csv.damage(path):
            for member in _csv.members(path):
                yield from _read_csv(path, member, checked, mapping, request)
    else:
        raise InputError.at(path, "is neither Parquet nor CSV", fix=f"its name must end in {', '.join(SUFFIXES)}")


def _read_parquet(path: Path, mapping: Mapping[Name, str | None], request: ReadRequest) -> Iterator[RawBars]:
    if request.device.type == "cuda":
        _device.library()
    with parquet.errors(path), pq.ParquetFile(path, page_checksum_verification=request.verify) as file:
        found = match(file.schema_arrow.names, mapping, path, ALIASES, REQUIRED)
        columns = _BarColumns(path, checked="page checksums" if request.verify else "skipped")
        for cells in parquet._chunks(file, path, list(dict.fromkeys(found.values())), request):
            yield columns.bars({ours: cells[name] for ours, name in found.items()})
        if columns.rows != file.metadata.num_rows:
            rule = f"holds {columns.rows:,} rows, but its footer says {file.metadata.num_rows:,}"
            raise InputError.at(path, rule, fix="the file is damaged: fetch it again")


def _read_csv(
    path: Path, member: str, checked: str, mapping: Mapping[Name, str | None], request: ReadRequest
) -> Iterator[RawBars]:
    label = path / member if member else path
    lines = [[cell.strip().strip('"') for cell in line.split(",")] for line in _csv.first_lines(path, member)]
    names = _header(lines, label)
    found = match(names, mapping, label, ALIASES, REQUIRED)
    time = found["timestamp"]
    first = lines[1][names.index(time) : names.index(time) + 1] if len(lines) > 1 else []
    types = {name: pa.float64() for name in found.values()}
    types[time] = pa.int64() if all(_is_number(cell) for cell in first) else pa.string()
    columns = _BarColumns(label, checked=checked)
    for batch in _csv.batches(path, member, _csv.Layout(names, 1), types, str(label)):
        cells = {ours: _arrow.cells(batch.column(name), name, label) for ours, name in found.items() if name != time}
        column = batch.column(time)
        as_text = pa.types.is_string(column.type)
        cells["timestamp"] = _iso(column, label, columns.rows) if as_text else _arrow.cells(column, time, label)
        yield columns.bars({ours: _moved(column, request.device) for ours, column in cells.items()})


def _header(lines: Sequence[Sequence[str]], label: Path) -> tuple[str, ...]:
    if not lines:
        raise InputError.at(label, "is empty", fix="download it again")
    if any(_is_number(cell) for cell in lines[0]):
        fix = "write the names of the columns into its first line"
        raise InputError.at(label, "has no header", value=",".join(lines[0])[:200], fix=fix)
    return tuple(lines[0])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _iso(column: pa.Array, label: Path, before: int) -> Cells:
    """ISO 8601 text as times; all with a zone, or all without."""
    filled = column.drop_null()
    zoned = len(filled) > 0 and _cast(filled[:1], "UTC") is not None
    times = _cast(column, "UTC" if zoned else None)
    if times is None:
        row = next(at for at in range(len(column)) if _cast(column[at : at + 1], "UTC" if zoned else None) is None)
        rule = f"timestamp must be an ISO 8601 time {'with' if zoned else 'without'} a zone, like the first one"
        raise InputError.at(label, rule, row=before + row + 1, value=column[row].as_py(), fix="mend the file")
    return _arrow.cells(times, "timestamp", label)


def _cast(column: pa.Array, zone: str | None) -> pa.Array | None:
    try:
        return column.cast(pa.timestamp("ns", tz=zone))
    except pa.ArrowInvalid:
        return None


def _moved(cells: Cells, device: torch.device) -> Cells:
    null = None if cells.null is None else cells.null.to(device)
    return Cells(cells.kind, cells.values.to(device), null, cells.shown, cells.step)
