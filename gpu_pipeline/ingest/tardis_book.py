"""Order books of Tardis.dev CSV: `incremental_book_L2`, `book_snapshot_25` and `book_snapshot_5`, plain, gz or Parquet.

Incremental rows `timestamp, local_timestamp, is_snapshot, side, price, amount` (us) set the amount of a level, 0
deletes it. Rows before the first snapshot are dropped and counted. A run of rows with `is_snapshot` true discards the
book and is the new one; it holds when its last row does. Other rows of one local time are one message. There are no
update ids, so a gap cannot be seen, and the order of the rows is that of arrival. The wide forms have a row per change
of the best levels, `asks[0].price, asks[0].amount, bids[0].price, bids[0].amount ...`; a level without a price and an
amount is not there. Times are those of the exchange; one that steps back is set to the latest before it and counted.
A book is known at the later of both clocks. Format: docs.tardis.dev, "Downloadable CSV files".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest import _tall, _wide
from gpu_pipeline.ingest._book_sequence import DepthRules, RawBook, picked
from gpu_pipeline.ingest._depth import RawDepth
from gpu_pipeline.ingest._files import resolve
from gpu_pipeline.ingest._levels import changes, check_found, chosen, gathered, instrument_rows, messages_of_one_level
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._snapshots import RawSnapshots
from gpu_pipeline.ingest._tall import CLOCKS, SUFFIXES, Form, Rows

DataType = Literal["incremental_book_L2", "book_snapshot_25", "book_snapshot_5"]
_CHAIN = DepthRules("none")
INCREMENTAL = Form(
    aliases={
        **CLOCKS,
        "symbol": ("symbol",),
        "is_snapshot": ("is_snapshot",),
        "side": ("side",),
        "price": ("price",),
        "quantity": ("amount",),
    },
    required=("is_snapshot", "side", "price", "quantity"),
    numbers=("price", "quantity"),
    text=("symbol", "is_snapshot", "side"),
)


class Config(Options):
    """Where the files are.

    Attributes:
        path: file, folder, glob or list of these; `{SYMBOL}` and `{symbol}` stand for the symbol.
        data_type: as Tardis names it.
        instrument: the symbol's name in the column `symbol`, in any case of its letters; null takes every row.
    """

    path: str | list[str] = Field(examples=["data/*_incremental_book_L2_*_{SYMBOL}.csv.gz"])
    data_type: DataType = "incremental_book_L2"
    instrument: str | None = "{SYMBOL}"


def files(config: Config, symbol: str) -> list[Path]:
    """The files that will be read, in the order of their days."""
    return resolve(config.path, symbol, SUFFIXES)


def read(config: Config, request: ReadRequest) -> Iterator[RawBook | RawSnapshots]:
    """Messages or snapshots piece by piece.

    Raises:
        InputError: a file is damaged, lacks a column, or no file has the symbol.
    """
    if config.data_type == "incremental_book_L2":
        yield from (RawBook(piece, _CHAIN) for piece in gathered(_changes(config, request), _begins))
        return
    levels = int(config.data_type.rsplit("_", 1)[1])
    for rows, wanted in _rows(config, request, _wide_form(levels)):
        yield from _snapshots(rows, wanted, levels)


def _rows(config: Config, request: ReadRequest, form: Form) -> Iterator[tuple[Rows, Tensor | None]]:
    """Rows, and which of them are of the instrument; None for all."""
    name = config.instrument and config.instrument.replace("{SYMBOL}", request.symbol)
    seen: set[str] = set()
    found = False
    paths = files(config, request.symbol)
    for path in paths:
        for rows in _tall.read(path, form, {}, request.verify):
            if not len(rows):
                continue
            wanted = instrument_rows(rows, name, seen)
            if wanted is None or bool(wanted.any()):
                found = True
                yield rows, wanted
    check_found(found, paths[-1], name, seen)


def _changes(config: Config, request: ReadRequest) -> Iterator[RawDepth]:
    for rows, wanted in _rows(config, request, INCREMENTAL):
        piece = messages_of_one_level(rows, _flags(rows))
        yield piece if wanted is None else chosen(piece, wanted)


def _flags(rows: Rows) -> Tensor:
    column = rows.columns.get("is_snapshot")
    words = pa.nulls(len(rows), pa.string()) if column is None else pc.utf8_lower(column.cast(pa.string()))
    at = pc.index_in(words, value_set=pa.array(["false", "true", "0", "1"])).cast(pa.int64()).fill_null(-1)
    codes = torch.from_numpy(at.to_numpy(zero_copy_only=False).copy())
    if len(wrong := (codes < 0).nonzero()):
        row, value = rows.first_row + int(wrong[0]) + 1, words[int(wrong[0])].as_py() or "empty"
        fix = "give a file of incremental_book_L2"
        raise InputError.at(rows.file, "is_snapshot must be true or false", row=row, value=value, fix=fix)
    return codes % 2 == 1


def _begins(rows: RawDepth) -> Tensor:
    """A snapshot is a whole run of its rows; a message ends where a clock changes."""
    clock = changes(rows.time_ns) | changes(rows.known_ns)
    return changes(rows.is_snapshot.long()) | (clock & ~rows.is_snapshot)


def _wide_form(levels: int) -> Form:
    cells = tuple(f"{side}s[{at}].{what}" for side in ("bid", "ask") for at in range(levels) for what in _WHAT)
    aliases = {**CLOCKS, "symbol": ("symbol",), **{name: (name,) for name in cells}}
    return Form(aliases=aliases, required=cells, numbers=cells, text=("symbol",))


_WHAT = ("price", "amount")


def _snapshots(rows: Rows, wanted: Tensor | None, levels: int) -> Iterator[RawSnapshots]:
    """Parts of a bounded number of levels."""
    size = max(1, _wide.PIECE_LEVELS // (2 * levels))
    for start in range(0, len(rows), size):
        part = rows.part(start, size)
        prices, amounts = (
            [part.numbers(f"{side}s[{at}].{what}") for side in ("bid", "ask") for at in range(levels)] for what in _WHAT
        )
        depth = _wide.snapshots((part.file, part.first_row, part.checked), part.clocks(), prices, amounts)
        if wanted is not None:
            depth = picked(depth, torch.ones(len(depth.side), dtype=torch.bool), wanted[start : start + size])
        if len(depth):
            yield RawSnapshots(depth)
