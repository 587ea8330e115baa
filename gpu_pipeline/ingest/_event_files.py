"""Changes of an order book as Parquet: one row per change, one file per month."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookEvents, Symbol
from gpu_pipeline.core.trace import Ticker
from gpu_pipeline.ingest import _month_files
from gpu_pipeline.ingest._month_files import Part, Span, Table
from gpu_pipeline.ingest._months import months

TABLE = Table(
    "gpu_pipeline.book_events",
    ("time_ns", "known_ns", "side", "price_ticks", "quantity_lots", "update_id"),
    "book events",
)


def write(folder: Path, pieces: Iterable[BookEvents], ticker: Ticker) -> dict[str, Any]:
    """Writes one file per month into `folder`, and returns the symbol's entry in the manifest."""
    span = Span(TABLE.title, said={"kind": "events"})
    _month_files.write(folder, TABLE, _parts(pieces, span, ticker))
    return span.to_json()


def _parts(pieces: Iterable[BookEvents], span: Span, ticker: Ticker) -> Iterator[Part]:
    known_ns = 0
    for events in pieces:
        span.add(events.symbol, events.time_ns)
        known_ns = _check_known(events, known_ns)
        span.said |= {"symbol": events.symbol.to_json(), **events.report}
        for month, rows in months(events.time_ns):
            yield Part(month, events.symbol, {name: getattr(events, name)[rows] for name in TABLE.columns})
            ticker.advance(rows.stop - rows.start, f"{events.symbol.name} {month}")


def _check_known(events: BookEvents, known_ns: int) -> int:
    known = events.known_ns
    if not len(known):
        return known_ns
    if int(known[0]) < known_ns or bool((known[1:] < known[:-1]).any()):
        raise InputError(f"{events.symbol.name}: times at which book events are known must not fall")
    return int(known[-1])


def load(folder: Path, symbol: Symbol, device: torch.device) -> Iterator[BookEvents]:
    """All events of a symbol in pieces, file after file."""
    for _, columns in _month_files.read(folder, TABLE, symbol, device):
        if len(columns["time_ns"]):
            yield BookEvents(symbol, **columns)
