"""Book snapshots in tall form, Parquet or CSV: one row per level, the rows of a snapshot together.

Columns `timestamp, symbol, side, level, price, quantity` are found by the names that files of the field use, or by
`columns:` from our names to the file's (null leaves an optional one out). A snapshot ends where its time or its id
(`snapshot`, `update_id`) changes. Within it, bids and asks may stand in any order of rows: by `level` where there is
one, else by price, best first. Times are those of the venue, else the recorder's; a table that is not in order of
time is refused, unless `on_time_back: count` sets such times to the latest before them. A snapshot is known at the
latest of its clocks. Levels without a quantity are none. Rows of other symbols are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest import _tall
from gpu_pipeline.ingest._depth import RawDepth
from gpu_pipeline.ingest._files import resolve
from gpu_pipeline.ingest._levels import (
    CLOCKS_AND_IDS,
    changes,
    check_found,
    chosen,
    gathered,
    instrument_rows,
    messages_of_one_level,
    with_levels,
)
from gpu_pipeline.ingest._raw import ReadRequest, Units
from gpu_pipeline.ingest._snapshots import RawSnapshots
from gpu_pipeline.ingest._tall import CLOCKS, SUFFIXES, Form, Rows

Name = Literal[
    "transaction_time", "event_time", "local_time", "symbol", "snapshot", "side", "level", "price", "quantity"
]
FORM = Form(
    aliases={
        **CLOCKS,
        "symbol": ("symbol", "instrument", "ticker"),
        "snapshot": ("snapshot", "snapshot_id", "update_id", "last_update_id"),
        "side": ("side",),
        "level": ("level", "depth", "rank"),
        "price": ("price", "px"),
        "quantity": ("quantity", "qty", "size", "amount"),
    },
    required=("side", "price", "quantity"),
    numbers=("price", "quantity"),
    text=("symbol", "side"),
)


class Config(Options):
    """Where the files are.

    Attributes:
        path: file, folder, glob or list of these; `{SYMBOL}` and `{symbol}` stand for the symbol.
        columns: our names -> the file's names.
        instrument: the symbol's name in the column `symbol`, in any case of its letters; null takes every row.
        on_time_back: a time that steps back is an error, or set to the latest before it and counted.
    """

    path: str | list[str] = Field(examples=["data/{SYMBOL}_book_*.parquet"])
    columns: dict[Name, str | None] = {}
    instrument: str | None = "{SYMBOL}"
    on_time_back: Literal["count", "error"] = "error"


def files(config: Config, symbol: str) -> list[Path]:
    """The files that will be read."""
    return resolve(config.path, symbol, SUFFIXES)


def read(config: Config, request: ReadRequest) -> Iterator[RawSnapshots]:
    """Raw snapshots piece by piece.

    Raises:
        InputError: a file is damaged, lacks a column, or no file has the symbol.
    """
    for piece in snapshots(_rows(config, request)):
        yield RawSnapshots(piece, config.on_time_back)


def level_of_each(rows: Rows) -> RawDepth:
    """Each row as a message of one level, for `snapshots`."""
    piece = messages_of_one_level(rows, torch.ones(len(rows), dtype=torch.bool), rows.ids("snapshot"))
    # Until the rows are put in order; a snapshot has no id before it.
    return replace(piece, previous_id=rows.ids("level"))


def snapshots(pieces: Iterator[RawDepth]) -> Iterator[RawDepth]:
    """Rows of one level each as whole snapshots, bids then asks, best first, wherever the pieces were cut.

    Raises:
        InputError: a level without its number where others have one.
    """
    return gathered(pieces, _begins, _best_first)


def _begins(rows: RawDepth) -> Tensor:
    return torch.stack([changes(getattr(rows, name)) for name in CLOCKS_AND_IDS]).any(0)


def _rows(config: Config, request: ReadRequest) -> Iterator[RawDepth]:
    columns: dict[Any, str | None] = dict(config.columns)
    name = config.instrument and config.instrument.replace("{SYMBOL}", request.symbol)
    seen: set[str] = set()
    found = False
    paths = files(config, request.symbol)
    for path in paths:
        for rows in _tall.read(path, FORM, columns, request.verify):
            if not len(rows):
                continue
            piece = level_of_each(rows)
            wanted = instrument_rows(rows, name, seen)
            piece = piece if wanted is None else chosen(piece, wanted)
            if len(piece):
                found = True
                yield piece
    check_found(found, paths[-1], name, seen)


def _best_first(rows: RawDepth, owner: Tensor) -> RawDepth:
    """Bids, then asks of each snapshot, by level or price; their clocks and ids are the same."""
    level, side = rows.previous_id, rows.side
    unknown = (level < 0).nonzero()
    if 0 < len(unknown) < len(level):
        fix = "fill the column, or map level to null to go by price"
        raise InputError.at(rows.file, "a level needs its number", row=int(rows.row[unknown[0]]), fix=fix)
    price = rows.price.units if isinstance(rows.price, Units) else rows.price
    key = -price * side if len(unknown) else level
    order = torch.from_numpy(np.lexsort((key.numpy(), -side.numpy(), owner.numpy())))
    return replace(with_levels(rows, order), previous_id=torch.full_like(level, -1))
