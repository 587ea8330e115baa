"""Clean trades as Parquet: integer columns, one file per month, scales in the metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Symbol, Tensor, Trades
from gpu_pipeline.core.store import file_metadata, read_table, write_table
from gpu_pipeline.core.trace import Ticker
from gpu_pipeline.ingest import _arrow, _device
from gpu_pipeline.ingest._months import monthly_files, months
from gpu_pipeline.ingest.parquet import CLEAN

COLUMNS = ("time_ns", "price_ticks", "quantity_lots", "trade_id", "is_buyer_maker")


@dataclass
class _Account:
    """Exact totals over all pieces, as Python integers."""

    volume_lots: int = 0
    notional: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    files: list[str] = field(default_factory=list)

    def add(self, trades: Trades) -> None:
        self.volume_lots += exact_sum(trades.quantity_lots)
        self.notional += exact_sum(trades.notional)
        self.first_ns = int(trades.time_ns[0]) if self.first_ns is None else self.first_ns
        self.last_ns = int(trades.time_ns[-1])

    def to_json(self, last: Trades) -> dict[str, Any]:
        symbol = last.symbol
        return {
            **last.report,
            "symbol": symbol.to_json(),
            "has_side": last.has_side,
            "volume_lots": self.volume_lots,
            "volume": f"{symbol.quantity.exact(self.volume_lots):f}",
            "notional": self.notional,
            "notional_quote": f"{symbol.notional.exact(self.notional):f}",
            "first_time_ns": self.first_ns,
            "last_time_ns": self.last_ns,
        }


def exact_sum(values: Tensor) -> int:
    """The sum of non-negative int64 values as a Python integer, whatever its size."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


def write(folder: Path, pieces: Iterator[Trades], ticker: Ticker) -> dict[str, Any]:
    """Writes one file per month into `folder`, and returns the symbol's entry in the manifest."""
    account = _Account()
    month, last = "", None
    held: list[Trades] = []
    for last in pieces:
        account.add(last)
        ticker.advance(len(last), f"{last.symbol.name} {month}")
        for name, rows in months(last.time_ns):
            if name != month and held:
                _write_month(folder, month, held)
                held = []
            month = name
            held.append(last[rows])
    assert last is not None
    _write_month(folder, month, held)
    return account.to_json(last)


def _write_month(folder: Path, month: str, parts: list[Trades]) -> None:
    trades = Trades.concat(parts)
    table = pa.table({name: pa.array(getattr(trades, name).cpu().numpy()) for name in COLUMNS})
    said = {"symbol": trades.symbol.to_json(), "first_row": trades.first_row, "has_side": trades.has_side}
    path = folder / f"{trades.symbol.name}_{month}.parquet"
    write_table(path, table, {CLEAN: json.dumps(said, sort_keys=True)})


def load(folder: Path, symbol: Symbol, device: torch.device) -> Iterator[Trades]:
    """One table per monthly file."""
    for path in monthly_files(folder, symbol.name):
        said = json.loads(file_metadata(path).get(CLEAN, "null"))
        if said is None or Symbol.from_json(said["symbol"]) != symbol:
            rule = f"its scales are not those of {symbol.name} in this run"
            raise InputError.at(path, rule, fix="run the stage ingest again")
        columns: dict[str, Any] = _columns(path, device)
        ticks, lots = columns["price_ticks"], columns["quantity_lots"]
        yield Trades(
            symbol=symbol,
            notional=lots.clone() if symbol.inverse else ticks * lots,
            first_row=said["first_row"],
            has_side=said["has_side"],
            **columns,
        )


def _columns(path: Path, device: torch.device) -> dict[str, Tensor]:
    if device.type == "cuda":
        pieces = list(_device.read_chunks(path, COLUMNS, device))
        return {name: torch.cat([piece[name].values for piece in pieces]) for name in COLUMNS}
    table = read_table(path, COLUMNS).combine_chunks()
    return {name: _arrow.cells(_one(table[name]), name, path).values for name in COLUMNS}


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], type=column.type)
