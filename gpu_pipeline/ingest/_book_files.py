"""Book snapshots as Parquet: one row per level, one file per month; an empty snapshot is one row of side 0."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.core.schema import BookSnapshots, Symbol, Tensor
from gpu_pipeline.core.sums import exact_sum
from gpu_pipeline.core.trace import Ticker
from gpu_pipeline.ingest import _month_files
from gpu_pipeline.ingest._month_files import Part, Span, Table
from gpu_pipeline.ingest._months import months

BID, ASK, EMPTY = 1, -1, 0
TABLE = Table(
    "gpu_pipeline.book", ("snapshot", "time_ns", "known_ns", "side", "price_ticks", "quantity_lots"), "book snapshots"
)


def write(folder: Path, pieces: Iterable[BookSnapshots], ticker: Ticker) -> dict[str, Any]:
    """Writes one file per month into `folder`, and returns the symbol's entry in the manifest."""
    span = Span(TABLE.title, said={"kind": "snapshots", "levels": 0, "quantity_lots": 0})
    _month_files.write(folder, TABLE, _parts(pieces, span, ticker))
    return span.to_json()


def _parts(pieces: Iterable[BookSnapshots], span: Span, ticker: Ticker) -> Iterator[Part]:
    last, written = "", 0
    for book in pieces:
        span.add(book.symbol, book.time_ns)
        span.said |= {"symbol": book.symbol.to_json(), **book.report}
        span.said["levels"] += len(book.price_ticks)
        span.said["quantity_lots"] += exact_sum(book.quantity_lots)
        for month, cut in months(book.time_ns):
            written = written if month == last else 0
            columns = tall(part(book, cut))
            columns["snapshot"] += written
            last, written = month, written + cut.stop - cut.start
            yield Part(month, book.symbol, columns)
            ticker.advance(cut.stop - cut.start, f"{book.symbol.name} {month}")


def part(book: BookSnapshots, rows: slice) -> BookSnapshots:
    """Snapshots `start:stop` with their levels."""
    start, stop, _ = rows.indices(len(book))
    first, end = int(book.offsets[start]), int(book.offsets[stop])
    return replace(
        book,
        time_ns=book.time_ns[start:stop],
        known_ns=book.known_ns[start:stop],
        offsets=book.offsets[start : stop + 1] - first,
        bid_count=book.bid_count[start:stop],
        price_ticks=book.price_ticks[first:end],
        quantity_lots=book.quantity_lots[first:end],
    )


def joined(parts: Sequence[BookSnapshots]) -> BookSnapshots:
    """Consecutive snapshots as one table."""
    counts = torch.cat([torch.diff(book.offsets) for book in parts])
    flat: dict[str, Any] = {
        name: torch.cat([getattr(book, name) for book in parts])
        for name in ("time_ns", "known_ns", "bid_count", "price_ticks", "quantity_lots")
    }
    return BookSnapshots(symbol=parts[0].symbol, offsets=_offsets(counts), **flat)


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])


def tall(book: BookSnapshots) -> dict[str, Tensor]:
    """One row per level; an empty snapshot has one row of side EMPTY."""
    counts = torch.diff(book.offsets)
    rows = counts.clamp(min=1)
    snapshot = torch.repeat_interleave(torch.arange(len(book), device=rows.device), rows)
    within = torch.arange(len(snapshot), device=rows.device) - _offsets(rows)[:-1][snapshot]
    empty = (counts == 0)[snapshot]
    side = torch.where(within < book.bid_count[snapshot], BID, ASK).masked_fill(empty, EMPTY)
    columns = {
        "snapshot": snapshot,
        "time_ns": book.time_ns[snapshot],
        "known_ns": book.known_ns[snapshot],
        "side": side,
    }
    for name in ("price_ticks", "quantity_lots"):
        values = torch.zeros_like(snapshot)
        values[~empty] = getattr(book, name)
        columns[name] = values
    return columns


def from_tall(columns: dict[str, Tensor], symbol: Symbol) -> BookSnapshots:
    """The inverse of `tall`, for whole snapshots wherever their numbers begin."""
    snapshot, level = columns["snapshot"] - columns["snapshot"][:1], columns["side"] != EMPTY
    count = int(snapshot[-1]) + 1 if len(snapshot) else 0
    starts = torch.searchsorted(snapshot, torch.arange(count, device=snapshot.device))
    return BookSnapshots(
        symbol=symbol,
        time_ns=columns["time_ns"][starts],
        known_ns=columns["known_ns"][starts],
        offsets=_offsets(torch.bincount(snapshot[level], minlength=count)),
        bid_count=torch.bincount(snapshot[columns["side"] == BID], minlength=count),
        price_ticks=columns["price_ticks"][level],
        quantity_lots=columns["quantity_lots"][level],
    )


def load(folder: Path, symbol: Symbol, device: torch.device) -> Iterator[BookSnapshots]:
    """All snapshots of a symbol in pieces, file after file; a row group's last snapshot may end in the next one."""
    held: dict[str, Tensor] = {}
    for begins, columns in _month_files.read(folder, TABLE, symbol, device):
        if held and begins:
            yield from_tall(held, symbol)
        elif held:
            columns = {name: torch.cat([held[name], column]) for name, column in columns.items()}
        snapshot = columns["snapshot"]
        last = int(torch.searchsorted(snapshot, snapshot[-1:])) if len(snapshot) else 0
        held = {name: column[last:] for name, column in columns.items()} if len(snapshot) else {}
        if last:
            yield from_tall({name: column[:last] for name, column in columns.items()}, symbol)
    if held:
        yield from_tall(held, symbol)
