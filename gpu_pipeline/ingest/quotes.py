"""Best bid and offer streams from Parquet or CSV, one row per quote, in the order in which they were recorded.

Columns are found by the names that files of the field use, or by `columns:` from our names to the file's (null leaves
an optional one out). A side without a quantity is missing: quantity 0, price 0. Times are those of the transaction,
else of the event, else the recorder's; one that steps back is set to the latest before it and counted. A quote is known
at the latest of its clocks. Update ids say to which state of the book a quote belongs: a repeated row is dropped and
counted, and so is one whose id is below the id before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.ingest import _tall
from gpu_pipeline.ingest._files import resolve
from gpu_pipeline.ingest._quote_rows import NUMBERS, RawQuotes
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._tall import CLOCKS, SUFFIXES, Form

Name = Literal[
    "transaction_time",
    "event_time",
    "local_time",
    "update_id",
    "bid_price",
    "bid_quantity",
    "ask_price",
    "ask_quantity",
]
FORM = Form(
    aliases={
        **CLOCKS,
        "update_id": ("update_id", "book_update_id"),
        **{
            f"{side}_{ours}": tuple(name.format(side=side) for name in names)
            for side in ("bid", "ask")
            for ours, names in (
                ("price", ("{side}", "{side}_price", "best_{side}_price", "{side}_px")),
                ("quantity", ("{side}_quantity", "{side}_qty", "best_{side}_qty", "{side}_size", "{side}_amount")),
            )
        },
    },
    required=NUMBERS,
    numbers=NUMBERS,
)


class Config(Options):
    """Where the files are.

    Attributes:
        path: file, folder, glob or list of these; `{SYMBOL}` and `{symbol}` stand for the symbol.
        columns: our names -> the file's names.
    """

    path: str | list[str] = Field(examples=["data/{SYMBOL}_bbo.parquet"])
    columns: dict[Name, str | None] = {}


def files(config: Config, symbol: str) -> list[Path]:
    """The files that will be read."""
    return resolve(config.path, symbol, SUFFIXES)


def read(config: Config, request: ReadRequest) -> Iterator[RawQuotes]:
    """Raw quotes piece by piece.

    Raises:
        InputError: a file is damaged or lacks a column.
    """
    columns: dict[Any, str | None] = dict(config.columns)
    for path in files(config, request.symbol):
        for rows in _tall.read(path, FORM, columns, request.verify):
            if len(rows):
                yield RawQuotes.of(rows)
