"""Checked bars made by others as Parquet: one row per bar, one file per month of the open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.core.schema import Bars, Symbol
from gpu_pipeline.core.trace import Ticker
from gpu_pipeline.ingest import _month_files
from gpu_pipeline.ingest._bar_files import PRICES
from gpu_pipeline.ingest._bar_rows import make_table
from gpu_pipeline.ingest._month_files import Part, Span, Table
from gpu_pipeline.ingest._months import months
from gpu_pipeline.ingest._scales import to_units

TABLE = Table(
    "gpu_pipeline.ohlcv",
    ("open_ns", "close_ns", *(f"{name}_ticks" for name in PRICES), "volume", "quote_volume"),
    "bars",
    # A volume need not be a whole number of lots: some are sums of floats.
    floats=("volume", "quote_volume"),
)


def write(folder: Path, pieces: Iterable[Bars], ticker: Ticker) -> dict[str, Any]:
    """Writes one file per month into `folder`, and returns the symbol's entry in the manifest."""
    span = Span(TABLE.title, said={"kind": "bars"})
    _month_files.write(folder, TABLE, _parts(pieces, span, ticker))
    return span.to_json()


def _parts(pieces: Iterable[Bars], span: Span, ticker: Ticker) -> Iterator[Part]:
    for bars in pieces:
        span.add(bars.symbol, bars.open_timestamp)
        span.said |= {"symbol": bars.symbol.to_json(), "bars": bars.name, **bars.report}
        columns = {f"{name}_ticks": to_units(bars.columns[name], bars.symbol.price_tick) for name in PRICES}
        columns |= {"open_ns": bars.open_timestamp, "close_ns": bars.close_timestamp}
        columns |= {"volume": bars.volume, "quote_volume": bars.dollar_volume}
        for month, rows in months(bars.open_timestamp):
            yield Part(month, bars.symbol, {name: columns[name][rows] for name in TABLE.columns})
            ticker.advance(rows.stop - rows.start, f"{bars.symbol.name} {month}")


def load(folder: Path, symbol: Symbol, device: torch.device) -> Iterator[Bars]:
    """All bars of a symbol in pieces, file after file, with row numbers over all of them."""
    first = 0
    for _, columns in _month_files.read(folder, TABLE, symbol, device):
        opened = columns["open_ns"]
        if len(opened):
            found: dict[str, Any] = {name: symbol.price.to_float(columns[f"{name}_ticks"]) for name in PRICES}
            found |= {"open_ns": opened, "volume": columns["volume"], "quote_volume": columns["quote_volume"]}
            yield make_table(found, symbol, int(columns["close_ns"][0] - opened[0]), first)
            first += len(opened)
