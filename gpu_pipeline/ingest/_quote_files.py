"""Best bids and offers as Parquet: one row per quote, one file per month."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.core.schema import Quotes, Symbol
from gpu_pipeline.core.trace import Ticker
from gpu_pipeline.ingest import _month_files
from gpu_pipeline.ingest._month_files import Part, Span, Table
from gpu_pipeline.ingest._months import months

TABLE = Table(
    "gpu_pipeline.quotes",
    ("time_ns", "known_ns", "update_id", "bid_ticks", "bid_lots", "ask_ticks", "ask_lots"),
    "quotes",
)


def write(folder: Path, pieces: Iterable[Quotes], ticker: Ticker) -> dict[str, Any]:
    """Writes one file per month into `folder`, and returns the symbol's entry in the manifest."""
    span = Span(TABLE.title, said={"kind": "quotes"})
    _month_files.write(folder, TABLE, _parts(pieces, span, ticker))
    return span.to_json()


def _parts(pieces: Iterable[Quotes], span: Span, ticker: Ticker) -> Iterator[Part]:
    for quotes in pieces:
        span.add(quotes.symbol, quotes.time_ns)
        span.said |= {"symbol": quotes.symbol.to_json(), **quotes.report}
        for month, rows in months(quotes.time_ns):
            yield Part(month, quotes.symbol, {name: getattr(quotes, name)[rows] for name in TABLE.columns})
            ticker.advance(rows.stop - rows.start, f"{quotes.symbol.name} {month}")


def load(folder: Path, symbol: Symbol, device: torch.device) -> Iterator[Quotes]:
    """All quotes of a symbol in pieces, file after file."""
    for _, columns in _month_files.read(folder, TABLE, symbol, device):
        if len(columns["time_ns"]):
            yield Quotes(symbol, **columns)
