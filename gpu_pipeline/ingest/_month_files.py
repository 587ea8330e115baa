"""Tables of one symbol as Parquet: integer columns (but for a few), one file per month, scales in the metadata.

Both ways are streams: a month is written row group by row group while its pieces arrive, and read back so, the next row
group being decoded while the current one is used.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Symbol, Tensor
from gpu_pipeline.core.store import file_metadata, table_file
from gpu_pipeline.ingest import _arrow, _device
from gpu_pipeline.ingest._ahead import ahead
from gpu_pipeline.ingest._columns import Cells
from gpu_pipeline.ingest._months import monthly_files
from gpu_pipeline.ingest.parquet import STREAMED, errors


@dataclass(frozen=True)
class Table:
    """A kind of table: its key in the files' metadata, its columns, what it is called, and which columns are floats."""

    key: str
    columns: tuple[str, ...]
    title: str
    floats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """Rows of one month in the order of the stream."""

    month: str
    symbol: Symbol
    columns: Mapping[str, Tensor]


@dataclass
class Span:
    """Times and rows of a stream so far.

    Attributes:
        title: what the rows are called in messages.
    """

    title: str
    rows: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    said: dict[str, Any] = field(default_factory=dict)

    def add(self, symbol: Symbol, time_ns: Tensor) -> None:
        """Takes the times of one piece into account.

        Raises:
            InputError: they fall.
        """
        if not len(time_ns):
            return
        begins_before = self.last_ns is not None and int(time_ns[0]) < self.last_ns
        if begins_before or bool((time_ns[1:] < time_ns[:-1]).any()):
            raise InputError(f"{symbol.name}: times of {self.title} must not fall")
        self.first_ns = int(time_ns[0]) if self.first_ns is None else self.first_ns
        self.last_ns = int(time_ns[-1])
        self.rows += len(time_ns)

    def to_json(self) -> dict[str, Any]:
        """Plain values for manifests."""
        rows = {"rows_in": self.rows, "rows_out": self.rows}
        return {**rows, **self.said, "first_time_ns": self.first_ns, "last_time_ns": self.last_ns}


def write(folder: Path, table: Table, parts: Iterable[Part]) -> None:
    """Writes `folder/{SYMBOL}_{YYYY}_{MM}.parquet`; the bytes do not depend on how the rows are cut into parts."""
    schema = pa.schema({name: pa.float64() if name in table.floats else pa.int64() for name in table.columns})
    for month, group in groupby(parts, key=lambda part: part.month):
        first = next(group)
        said = json.dumps({"symbol": first.symbol.to_json()}, sort_keys=True)
        with table_file(folder / f"{first.symbol.name}_{month}.parquet", schema, {table.key: said}) as file:
            for part in chain([first], group):
                file.write(_arrow_table(part, table))


def _arrow_table(part: Part, table: Table) -> pa.Table:
    return pa.table({name: pa.array(part.columns[name].cpu().numpy()) for name in table.columns})


def read(folder: Path, table: Table, symbol: Symbol, device: torch.device) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Columns by row group (on CUDA by decoded chunk) with whether a file begins with them, file after file.

    Raises:
        InputError: no files, a damaged file, one of another kind, or scales other than the symbol's.
        EnvironmentProblem: cuda without pylibcudf.
    """
    for path in monthly_files(folder, symbol.name):
        _check(path, table, symbol)
        begins = True
        for cells in ahead(_chunks(path, table.columns, device)):
            yield begins, {name: cells[name].values for name in table.columns}
            begins = False


def _check(path: Path, table: Table, symbol: Symbol) -> None:
    with errors(path):
        said = json.loads(file_metadata(path).get(table.key, "null"))
    if said is None:
        raise InputError.at(path, f"holds no {table.title} of this project", fix="run the stage ingest again")
    if Symbol.from_json(said["symbol"]) != symbol:
        rule = f"its scales are not those of {symbol.name} in this run"
        raise InputError.at(path, rule, fix="run the stage ingest again")


def _chunks(path: Path, columns: Sequence[str], device: torch.device) -> Generator[dict[str, Cells]]:
    if device.type == "cuda":
        yield from _device.read_chunks(path, columns, device)
        return
    with errors(path), pq.ParquetFile(path, page_checksum_verification=True, **STREAMED) as file:
        for group in range(file.num_row_groups):
            found = file.read_row_group(group, list(columns)).combine_chunks()
            yield {name: _arrow.cells(_one(found[name]), name, path) for name in columns}


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], pa.int64())
