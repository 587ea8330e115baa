"""Book snapshots as Parquet: one row per level, one file per month; an empty snapshot is one row of side 0."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookSnapshots, Symbol, Tensor
from gpu_pipeline.core.store import file_metadata, read_table, write_table
from gpu_pipeline.core.sums import exact_sum
from gpu_pipeline.core.trace import Ticker
from gpu_pipeline.ingest._months import monthly_files, months

BOOK = "gpu_pipeline.book"
BID, ASK, EMPTY = 1, -1, 0
COLUMNS = ("snapshot", "time_ns", "known_ns", "side", "price_ticks", "quantity_lots")


def write(folder: Path, pieces: Iterator[BookSnapshots], ticker: Ticker) -> dict[str, Any]:
    """Writes one file per month into `folder`, and returns the symbol's entry in the manifest."""
    rows, levels, lots, first_ns, last_ns = 0, 0, 0, None, None
    month, last = "", None
    held: list[BookSnapshots] = []
    for last in pieces:
        _check(last, last_ns)
        rows, levels, lots = rows + len(last), levels + len(last.price_ticks), lots + exact_sum(last.quantity_lots)
        ticker.advance(len(last), f"{last.symbol.name} {month}")
        for name, cut in months(last.time_ns):
            if name != month and held:
                _write_month(folder, month, held)
                held = []
            month = name
            held.append(part(last, cut))
        if len(last):
            first_ns = int(last.time_ns[0]) if first_ns is None else first_ns
            last_ns = int(last.time_ns[-1])
    assert last is not None
    if held:
        _write_month(folder, month, held)
    return {
        "symbol": last.symbol.to_json(),
        "rows_in": rows,
        "rows_out": rows,
        "levels": levels,
        "quantity_lots": lots,
        "first_time_ns": first_ns,
        "last_time_ns": last_ns,
    }


def _check(book: BookSnapshots, last_ns: int | None) -> None:
    times = book.time_ns
    if len(book) and ((last_ns is not None and int(times[0]) < last_ns) or bool((times[1:] < times[:-1]).any())):
        raise InputError(f"{book.symbol.name}: times of book snapshots must not fall")


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
    flat = {
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
    """The inverse of `tall`."""
    snapshot, level = columns["snapshot"], columns["side"] != EMPTY
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


def _write_month(folder: Path, month: str, parts: list[BookSnapshots]) -> None:
    book = joined(parts)
    table = pa.table({name: pa.array(column.cpu().numpy()) for name, column in tall(book).items()})
    said = json.dumps({"symbol": book.symbol.to_json()}, sort_keys=True)
    write_table(folder / f"{book.symbol.name}_{month}.parquet", table, {BOOK: said})


def load(folder: Path, symbol: Symbol, device: torch.device) -> BookSnapshots:
    """All snapshots of a symbol."""
    parts = []
    for path in monthly_files(folder, symbol.name):
        said = json.loads(file_metadata(path).get(BOOK, "null"))
        if said is None:
            raise InputError.at(path, "holds no book snapshots of this project", fix="run the stage ingest again")
        table = read_table(path, COLUMNS)
        columns = {name: torch.from_numpy(table[name].to_numpy().copy()).to(device) for name in COLUMNS}
        parts.append(from_tall(columns, Symbol.from_json(said["symbol"])))
    return joined(parts)
