"""Tables of a recorder, Parquet or CSV: columns by our names, piece by piece, with the file's row numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest import _arrow, _csv
from gpu_pipeline.ingest._columns import UNITS_NS, Cells, match, snake
from gpu_pipeline.ingest._csv import Layout
from gpu_pipeline.ingest._files import verify_checksum
from gpu_pipeline.ingest._raw import Units, Values
from gpu_pipeline.ingest.parquet import PIECE_ROWS, STREAMED, errors
from gpu_pipeline.ingest.parquet import SUFFIXES as PARQUET

SUFFIXES = (*PARQUET, *_csv.SUFFIXES)
CLOCKS: Mapping[str, tuple[str, ...]] = {
    "transaction_time": ("transaction_time", "trans_ts", "transact_time", "exch_ts", "timestamp", "time"),
    "event_time": ("event_time", "event_ts"),
    "local_time": ("local_time", "local_ts", "local_timestamp"),
}
_BIDS, _ASKS = ("bid", "bids", "b", "buy", "1", "1.0"), ("ask", "asks", "a", "sell", "-1", "-1.0")
_SIDES = {**dict.fromkeys(_BIDS, 1), **dict.fromkeys(_ASKS, -1)}


@dataclass(frozen=True)
class Form:
    """The columns of a kind of table.

    Attributes:
        aliases: our names -> the names in the field, in snake case.
        required: ours that must be there.
        text: ours that are words; of the others `price`, `quantity` and the like are numbers, the rest whole numbers.
        numbers: ours that are prices and quantities.
        timed: one of the clocks must be there.
    """

    aliases: Mapping[str, tuple[str, ...]]
    required: Sequence[str]
    numbers: Sequence[str]
    text: Sequence[str] = ()
    timed: bool = True

    def type_of(self, ours: str) -> pa.DataType:
        """The type of a column in CSV."""
        if ours in self.text:
            return pa.string()
        return pa.float64() if ours in self.numbers else pa.int64()


@dataclass
class Rows:
    """Some rows of one file.

    Attributes:
        file: the file, with its member where it is an archive.
        first_row: rows of the file before these.
        columns: our names -> columns; those that are empty altogether are left out.
        units: clock -> its unit, as the file's first time says.
        checked: how the file's bytes were verified.
    """

    file: Path
    first_row: int
    columns: Mapping[str, pa.Array]
    names: Mapping[str, str]
    units: dict[str, tuple[int, int, int, str]]
    checked: str
    shown: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def part(self, start: int, count: int) -> Rows:
        """Some of the rows."""
        columns = {ours: column.slice(start, count) for ours, column in self.columns.items()}
        return replace(self, first_row=self.first_row + start, columns=columns)

    def row_numbers(self) -> Tensor:
        """[N] int64 data rows of the file, counted from 1."""
        return torch.arange(self.first_row + 1, self.first_row + 1 + len(self))

    def _cells(self, ours: str) -> Cells | None:
        found = self.columns.get(ours)
        if found is None or found.null_count == len(found):
            return None
        return _arrow.cells(found, self.names[ours], self.file)

    def numbers(self, ours: str) -> tuple[Values, Tensor | None]:
        """Prices or quantities, and where they are empty."""
        cells = self._cells(ours)
        if cells is None:
            return torch.full((len(self),), torch.nan, dtype=torch.float64), None
        if cells.kind not in ("float", "integer", "decimal"):
            raise self._kind_error(ours, cells, "numbers")
        return (cells.values if cells.kind == "float" else Units(cells.values, cells.step)), cells.null

    def ids(self, ours: str) -> Tensor:
        """[N] int64 ids, -1 where there is none."""
        cells = self._cells(ours)
        if cells is None:
            return torch.full((len(self),), -1, dtype=torch.int64)
        if cells.kind == "float" and bool((cells.values.nan_to_num(-1).frac() == 0).all()):
            # pandas stores a column of ids with gaps as floats.
            cells = Cells("integer", cells.values.nan_to_num(-1).to(torch.int64), cells.null)
        if cells.kind != "integer":
            raise self._kind_error(ours, cells, "whole numbers")
        return cells.values if cells.null is None else cells.values.masked_fill(cells.null, -1)

    def sides(self, ours: str = "side") -> Tensor:
        """[N] int64: 1 bid, -1 ask, 0 for anything else."""
        words = pc.utf8_lower(pc.utf8_trim_whitespace(self.columns[ours].cast(pa.string())))
        at = pc.index_in(words, value_set=pa.array(list(_SIDES))).cast(pa.int64()).fill_null(-1)
        codes = torch.tensor([*_SIDES.values(), 0])[torch.from_numpy(at.to_numpy(zero_copy_only=False).copy())]
        wrong = (codes == 0).nonzero()
        if len(wrong):
            self.shown["side"] = str(words[int(wrong[0])].as_py() or "empty")
        return codes

    def clocks(self) -> tuple[Tensor, Tensor]:
        """[N] int64 time of the venue (transaction, else event), and the latest of all clocks; -1 where there is none.

        Raises:
            InputError: a time that is none in the unit of the file's first one.
        """
        times = {ours: self._time(ours) for ours in CLOCKS}
        venue = torch.where(times["transaction_time"] >= 0, times["transaction_time"], times["event_time"])
        latest = torch.stack(list(times.values())).amax(0)
        return venue, latest

    def _time(self, ours: str) -> Tensor:
        cells = self._cells(ours)
        if cells is None:
            return torch.full((len(self),), -1, dtype=torch.int64)
        if cells.kind not in ("time", "integer"):
            raise self._kind_error(ours, cells, "whole numbers in ms, us or ns since 1970, or a timestamp type")
        values = cells.values if cells.kind == "time" else self._in_ns(ours, cells)
        return values if cells.null is None else values.masked_fill(cells.null, -1)

    def _in_ns(self, ours: str, cells: Cells) -> Tensor:
        known = cells.values if cells.null is None else cells.values[~cells.null]
        unit = self.units.get(ours) or self._unit(ours, int(known[0]))
        self.units[ours] = unit
        low, high, scale, name = unit
        least, most = torch.aminmax(known)
        if int(least) < low or int(most) >= high:
            wrong = (cells.values < low) | (cells.values >= high)
            at = int((wrong if cells.null is None else wrong & ~cells.null).nonzero()[0])
            rule = f"{ours} is no time in {name}, the unit of the file's first one"
            raise self._time_error(rule, at, int(cells.values[at]))
        return cells.values * scale

    def _unit(self, ours: str, value: int) -> tuple[int, int, int, str]:
        unit = next((unit for unit in UNITS_NS if unit[0] <= value < unit[1]), None)
        if unit is None:
            raise self._time_error(f"{ours} is no time in ms, us or ns since 1970 (1973 or later)", 0, value)
        return unit

    def _time_error(self, rule: str, at: int, value: int) -> InputError:
        fix = "map the clock to the right column under columns, or to null"
        return InputError.at(self.file, rule, row=self.first_row + at + 1, value=value, fix=fix)

    def _kind_error(self, ours: str, cells: Cells, wants: str) -> InputError:
        fix = f"map {ours} to another column, or to null where it is optional"
        return InputError.at(self.file, f"column for {ours} holds {cells.kind} values; it needs {wants}", fix=fix)


def read(path: Path, form: Form, mapping: Mapping[str, str | None], verify: bool) -> Iterator[Rows]:
    """Rows of a Parquet or CSV file, piece by piece.

    Raises:
        InputError: the file is damaged, has a wrong checksum or lacks a column.
    """
    if path.name.endswith(PARQUET):
        yield from _parquet(path, form, mapping, verify)
        return
    checked = verify_checksum(path, verify)
    with _csv.damage(path):
        for member in _csv.members(path):
            yield from _member(path, member, form, mapping, checked)


def _parquet(path: Path, form: Form, mapping: Mapping[str, str | None], verify: bool) -> Iterator[Rows]:
    with errors(path), pq.ParquetFile(path, page_checksum_verification=verify, **STREAMED) as file:
        found = found_columns(file.schema_arrow.names, form, mapping, path)
        units: dict[str, Any] = {}
        rows, checked = 0, "page checksums" if verify else "skipped"
        for batch in file.iter_batches(batch_size=PIECE_ROWS, columns=list(dict.fromkeys(found.values()))):
            columns = {ours: batch.column(name) for ours, name in found.items()}
            yield Rows(path, rows, columns, found, units, checked)
            rows += batch.num_rows
        if rows != file.metadata.num_rows:
            rule = f"holds {rows:,} rows, but its footer says {file.metadata.num_rows:,}"
            raise InputError.at(path, rule, fix="the file is damaged: fetch it again")


def _member(path: Path, member: str, form: Form, mapping: Mapping[str, str | None], checked: str) -> Iterator[Rows]:
    label = path / member if member else path
    lines = _csv.first_lines(path, member)
    names = tuple(snake(cell.strip().strip('"')) for cell in lines[0].split(",")) if lines else ()
    found = found_columns(
        names, form, {ours: name if name is None else snake(name) for ours, name in mapping.items()}, label
    )
    types = {name: form.type_of(ours) for ours, name in found.items()}
    units: dict[str, Any] = {}
    rows = 0
    for batch in _csv.batches(path, member, Layout(names, 1), types, str(label)):
        yield Rows(label, rows, {ours: batch.column(name) for ours, name in found.items()}, found, units, checked)
        rows += batch.num_rows


def found_columns(names: Sequence[str], form: Form, mapping: Mapping[str, str | None], file: Path) -> dict[str, str]:
    """Our names -> the table's names.

    Raises:
        InputError: a required column or every clock is missing, a mapped one is not there, or two mean the same.
    """
    found = match(names, mapping, file, form.aliases, form.required)
    if form.timed and not set(CLOCKS) & set(found):
        shown = ", ".join(names[:20]) or "none"
        fix = "name one under columns, for example columns: {event_time: COLUMN}"
        raise InputError.at(file, f"has no column for a time; its columns are {shown}", fix=fix)
    return found
