"""Clean trades as Parquet: integer columns, one file per month, scales in the metadata.

Both ways are streams: a month is written row group by row group while its trades arrive, and read back so, the next row
group being decoded while the current one is used. Peak memory is a few row groups, whatever the length of the history.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Symbol, Tensor, Trades
from gpu_pipeline.core.store import file_metadata, table_file
from gpu_pipeline.core.sums import exact_sum
from gpu_pipeline.core.trace import Ticker
from gpu_pipeline.ingest import _arrow, _bar_months, _device
from gpu_pipeline.ingest._ahead import ahead
from gpu_pipeline.ingest._columns import Cells
from gpu_pipeline.ingest._months import monthly_files, months
from gpu_pipeline.ingest.parquet import CLEAN, STREAMED, errors

SCHEMA = pa.schema(
    {
        "time_ns": pa.int64(),
        "price_ticks": pa.int64(),
        "quantity_lots": pa.int64(),
        "trade_id": pa.int64(),
        "is_buyer_maker": pa.bool_(),
    }
)


@dataclass
class _Account:
    """Exact totals over all pieces, as Python integers."""

    volume_lots: int = 0
    notional: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    symbol: Symbol | None = None
    said: dict[str, Any] = field(default_factory=dict)

    def add(self, trades: Trades) -> None:
        self.volume_lots += exact_sum(trades.quantity_lots)
        self.notional += exact_sum(trades.notional)
        self.first_ns = int(trades.time_ns[0]) if self.first_ns is None else self.first_ns
        self.last_ns = int(trades.time_ns[-1])
        self.symbol = trades.symbol
        self.said = {**trades.report, "has_side": trades.has_side}

    def to_json(self) -> dict[str, Any]:
        symbol = self.symbol
        assert symbol is not None
        return {
            **self.said,
            "symbol": symbol.to_json(),
            "volume_lots": self.volume_lots,
            "volume": f"{symbol.quantity.exact(self.volume_lots):f}",
            "notional": self.notional,
            "notional_quote": f"{symbol.notional.exact(self.notional):f}",
            "first_time_ns": self.first_ns,
            "last_time_ns": self.last_ns,
        }


def write(folder: Path, pieces: Iterable[Trades], ticker: Ticker) -> dict[str, Any]:
    """Writes one file per month into `folder`, and returns the symbol's entry in the manifest.

    The next piece is read and cleaned in a thread while the current one is packed and written.
    """
    account = _Account()
    with closing(ahead(piece for piece in pieces)) as made:
        for month, parts in groupby(_counted(made, account, ticker), key=itemgetter(0)):
            _write_month(folder, month, (part for _, part in parts))
    return account.to_json()


def _counted(pieces: Iterable[Trades], account: _Account, ticker: Ticker) -> Iterator[tuple[str, Trades]]:
    for piece in pieces:
        account.add(piece)
        for month, rows in months(piece.time_ns):
            yield month, piece[rows]
            ticker.advance(rows.stop - rows.start, f"{piece.symbol.name} {month}")


def _write_month(folder: Path, month: str, parts: Iterator[Trades]) -> None:
    part = next(parts)
    said = {"symbol": part.symbol.to_json(), "first_row": part.first_row, "has_side": part.has_side}
    path = folder / f"{part.symbol.name}_{month}.parquet"
    with table_file(path, SCHEMA, {CLEAN: json.dumps(said, sort_keys=True)}) as file:
        file.write(_table(part))
        for part in parts:
            file.write(_table(part))


def _table(trades: Trades) -> pa.Table:
    return pa.table({name: pa.array(getattr(trades, name).cpu().numpy()) for name in SCHEMA.names})


@dataclass(frozen=True)
class TradeFile:
    """A monthly file of clean trades, known by its footer alone.

    Attributes:
        path: the file.
        first_row: rows of the symbol's trades before it.
        rows: its trades.
        month: year and month.
    """

    path: Path
    first_row: int
    rows: int
    month: tuple[int, int]


def trade_files(folder: Path, symbol: Symbol) -> list[TradeFile]:
    """The monthly files of a symbol in time order.

    Raises:
        InputError: there are none, one is damaged, or has scales other than the symbol's.
    """
    files = []
    for path in monthly_files(folder, symbol.name):
        first_row = int(_said(path, symbol)["first_row"])
        year, month = path.stem.split("_")[-2:]
        files.append(TradeFile(path, first_row, pq.read_metadata(path).num_rows, (int(year), int(month))))
    return files


def _said(path: Path, symbol: Symbol) -> dict[str, Any]:
    with errors(path):
        metadata = file_metadata(path)
        said = json.loads(metadata.get(CLEAN, "null"))
    if _bar_months.TABLE.key in metadata:
        raise InputError.at(path, "holds bars made by others, and no trades", fix="give a run that has the trades")
    if said is None or Symbol.from_json(said["symbol"]) != symbol:
        rule = f"its scales are not those of {symbol.name} in this run"
        raise InputError.at(path, rule, fix="run the stage ingest again")
    return dict(said)


def read_file(
    file: TradeFile, symbol: Symbol, device: torch.device, columns: Sequence[str] | None = None
) -> Generator[Trades]:
    """Trades of one file in chunks: on the CPU its row groups, on CUDA what pylibcudf decodes at a time.

    The next chunk is decoded in a thread while the current one is used.

    Args:
        file: one of `trade_files`.
        symbol: its symbol.
        device: where the columns are wanted.
        columns: names of Trades.COLUMNS that are wanted, all where None. `time_ns` always comes, and the notional with
            what it is made of; any other column is an empty tensor.

    Raises:
        InputError: a damaged file, or scales other than the symbol's.
        EnvironmentProblem: cuda without pylibcudf.
    """
    yield from ahead(_chunks(file, symbol, device, _stored(columns, symbol)))


def _stored(columns: Sequence[str] | None, symbol: Symbol) -> list[str]:
    wanted = {"time_ns", *(Trades.COLUMNS if columns is None else columns)}
    if "notional" in wanted:
        wanted |= {"quantity_lots"} if symbol.inverse else {"price_ticks", "quantity_lots"}
    unknown = wanted - set(Trades.COLUMNS)
    if unknown:
        raise ValueError(f"trades have no column {min(unknown)}; they have {', '.join(Trades.COLUMNS)}")
    return [name for name in Trades.COLUMNS if name in wanted]


def _chunks(file: TradeFile, symbol: Symbol, device: torch.device, columns: Sequence[str]) -> Generator[Trades]:
    has_side = bool(_said(file.path, symbol)["has_side"])
    names = [name for name in columns if name != "notional"]
    decoded = _device.read_chunks(file.path, names, device) if device.type == "cuda" else _row_groups(file.path, names)
    rows = 0
    for cells in decoded:
        found = {name: cells[name].values for name in names}
        trades = Trades(
            symbol=symbol, first_row=file.first_row + rows, has_side=has_side, **_whole(found, columns, symbol)
        )
        rows += len(trades)
        yield trades
    if rows != file.rows:
        rule = f"holds {rows:,} rows where {file.rows:,} were seen before"
        raise InputError.at(file.path, rule, fix="run the stage ingest again")


def _whole(found: Mapping[str, Tensor], columns: Sequence[str], symbol: Symbol) -> dict[str, Any]:
    """Every column of Trades: as found, made, or empty."""
    whole = {name: found.get(name, found["time_ns"][:0]) for name in Trades.COLUMNS}
    if "notional" in columns:
        lots = found["quantity_lots"]
        whole["notional"] = lots.clone() if symbol.inverse else found["price_ticks"] * lots
    return whole


def _row_groups(path: Path, columns: list[str]) -> Iterator[dict[str, Cells]]:
    with errors(path), pq.ParquetFile(path, page_checksum_verification=True, **STREAMED) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns)
            yield {name: _arrow.cells(_one(table[name]), name, path) for name in columns}


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def load_all(folder: Path, symbol: Symbol, device: torch.device) -> Trades:
    """All trades of a symbol as one table: memory holds it and a chunk."""
    rows = sum(file.rows for file in trade_files(folder, symbol))
    whole: dict[str, Any] = {}
    for chunk in load(folder, symbol, device):
        for name in Trades.COLUMNS:
            column = getattr(chunk, name)
            if name not in whole:
                whole[name] = column.new_empty(rows)
            whole[name][chunk.first_row : chunk.first_row + len(chunk)] = column
    return replace(chunk, first_row=0, **whole)


def load(folder: Path, symbol: Symbol, device: torch.device) -> Iterator[Trades]:
    """All trades of a symbol in chunks, file after file."""
    for file in trade_files(folder, symbol):
        yield from read_file(file, symbol, device)
