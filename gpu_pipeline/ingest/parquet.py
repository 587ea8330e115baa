"""Trades from any Parquet file with a time, a price and a quantity.

Columns are found by the names that files of the field use (`timestamp price quantity quote_quantity isBuyerMaker id`,
camel or snake case), or by `columns:` from our names to the file's (null leaves an optional one out). `side` holds the
taker's side, so `sell` means that the buyer was the maker. Times may be ms, us or ns since 1970 or a timestamp type
(without a zone: UTC); prices and quantities floats, decimals or integers. Clean files of this project are known by
their metadata. Page checksums are verified unless `verify: false`.

A file is read piece by piece, twice where it is larger than what is kept between the two passes. Only a file whose rows
are out of order is taken whole, since its last row may be its first trade: about 200 bytes of memory a trade.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Symbol
from gpu_pipeline.ingest import _arrow, _device
from gpu_pipeline.ingest._columns import Cells, FileColumns, Name, find
from gpu_pipeline.ingest._files import resolve
from gpu_pipeline.ingest._raw import RawTrades, ReadRequest, Units

SUFFIXES = (".parquet", ".pq", ".parq")
PIECE_ROWS = 1 << 18
# Column chunks are read page by page: with Arrow's own buffering a file ends up in memory compressed, all of it.
STREAMED = {"pre_buffer": False, "buffer_size": 1 << 20}
# Metadata key of our own clean files, and the names of their columns.
CLEAN = "gpu_pipeline.trades"
CLEAN_COLUMNS: dict[Name, str] = {
    "timestamp": "time_ns",
    "price": "price_ticks",
    "quantity": "quantity_lots",
    "trade_id": "trade_id",
    "is_buyer_maker": "is_buyer_maker",
}


class Config(Options):
    """Where the files are.

    Attributes:
        path: file, folder, glob or list of these; `{SYMBOL}` and `{symbol}` stand for the symbol.
        columns: our names -> the file's names.
    """

    path: str | list[str] = Field(examples=["data/{SYMBOL}/*.parquet"])
    columns: dict[Name, str | None] = {}


def files(config: Config, symbol: str) -> list[Path]:
    """The files that will be read."""
    return resolve(config.path, symbol, SUFFIXES)


def rows(config: Config, request: ReadRequest) -> int:
    """Rows of the files, as their footers say."""
    return sum(_footer_rows(path) for path in files(config, request.symbol))


def _footer_rows(path: Path) -> int:
    with errors(path):
        return int(pq.read_metadata(path).num_rows)


def read(config: Config, request: ReadRequest) -> Iterator[RawTrades]:
    """Raw trades piece by piece.

    Raises:
        InputError: a file is damaged or lacks a column.
        EnvironmentProblem: cuda was asked for and pylibcudf is missing.
    """
    if request.device.type == "cuda":
        _device.library()
    for path in files(config, request.symbol):
        yield from _read_file(path, config, request)


def _read_file(path: Path, config: Config, request: ReadRequest) -> Iterator[RawTrades]:
    with errors(path), pq.ParquetFile(path, page_checksum_verification=request.verify, **STREAMED) as file:
        said = clean_metadata(file.schema_arrow.metadata)
        declared = declared_symbol(said, path, request.symbol)
        found = find(file.schema_arrow.names, config.columns, path) if said is None else _clean_columns(said)
        columns = FileColumns(path, declared, "page checksums" if request.verify else "skipped")
        names = list(dict.fromkeys(found.values()))
        for cells in _chunks(file, path, names, request):
            yield _scaled(columns.piece({ours: cells[name] for ours, name in found.items()}), declared)
        if columns.rows != file.metadata.num_rows:
            rule = f"holds {columns.rows:,} rows, but its footer says {file.metadata.num_rows:,}"
            raise InputError.at(path, rule, fix="the file is damaged: fetch it again")


@contextmanager
def errors(path: Path) -> Iterator[None]:
    """Everything that a damaged file makes the library raise, as one line."""
    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        text = " ".join(str(error).split())[:300]
        raise InputError.at(path, f"cannot be read as Parquet: {text}", fix="fetch or write it again") from error


def _chunks(file: pq.ParquetFile, path: Path, names: list[str], request: ReadRequest) -> Iterator[dict[str, Cells]]:
    if request.device.type == "cuda":
        if request.verify:
            _verify_pages(file, names)
        yield from _device.read_chunks(path, names, request.device)
        return
    for batch in file.iter_batches(batch_size=PIECE_ROWS, columns=names):
        yield {name: _arrow.cells(batch.column(name), name, path) for name in names}


def _verify_pages(file: pq.ParquetFile, names: list[str]) -> None:
    for _ in file.iter_batches(batch_size=PIECE_ROWS, columns=names):
        pass


def clean_metadata(metadata: dict[bytes, bytes] | None) -> dict[str, Any] | None:
    """What one of our clean files says of itself: symbol, first_row, has_side; None for other files."""
    stored = (metadata or {}).get(CLEAN.encode())
    return None if stored is None else json.loads(stored)


def _clean_columns(said: dict[str, Any]) -> dict[Name, str]:
    return {ours: name for ours, name in CLEAN_COLUMNS.items() if said["has_side"] or ours != "is_buyer_maker"}


def declared_symbol(said: dict[str, Any] | None, path: Path, wanted: str) -> Symbol | None:
    """The symbol of one of our clean files.

    Raises:
        InputError: it holds another symbol.
    """
    if said is None:
        return None
    symbol = Symbol.from_json(said["symbol"])
    if symbol.name != wanted:
        raise InputError.at(path, f"holds trades of {symbol.name}, not {wanted}", fix="put {SYMBOL} into the path")
    return symbol


def _scaled(raw: RawTrades, declared: Symbol | None) -> RawTrades:
    """Integers of a clean file as multiples of the steps that it declares."""
    if declared is None:
        return raw
    assert isinstance(raw.price, Units) and isinstance(raw.quantity, Units)
    price, quantity = Units(raw.price.units, declared.price_tick), Units(raw.quantity.units, declared.quantity_lot)
    return replace(raw, price=price, quantity=quantity)
