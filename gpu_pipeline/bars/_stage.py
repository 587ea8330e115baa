"""The stage: monthly files of bars per symbol and resolution, and the account that nothing was lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from gpu_pipeline.bars import _fold
from gpu_pipeline.bars._account import Account
from gpu_pipeline.bars._aggregate import to_bars
from gpu_pipeline.core.config import RunConfig
from gpu_pipeline.core.errors import InputError, nearest
from gpu_pipeline.core.schema import BAR_COLUMNS, TIME_COLUMNS, Bars, Symbol, Tensor, Trades
from gpu_pipeline.core.store import file_metadata, read_json, read_table, write_json, write_table
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.core.units import month_of, parse_instant
from kernels import bar_sums

_INDEX = "resolutions.json"


def write(
    folder: Path,
    config: RunConfig,
    symbols: dict[str, Symbol],
    trades: Callable[[Symbol], Iterable[Trades]],
    device: torch.device,
    trace: Trace,
) -> dict[str, Any]:
    """Writes `folder/{NAME}/{SYMBOL}_{YYYY}_{MM}_{TYPE}_bars_{THRESHOLD}.parquet` for every resolution.

    A row lies in the file of the month of its close; flushed rows in that of their trades.

    Returns:
        what the manifest says: rows, folders, and per symbol the account of input, bars and open rest.

    Raises:
        InputError: the plan of resolutions does not hold, or a threshold does not fit the symbol's scales.
        PipelineError: the account does not balance.
    """
    assert config.bars is not None
    chains = _fold.plan(config.bars)
    flush = config.bars.at_file_end == "flush"
    accounts = {}
    with trace.progress("bars") as ticker:
        for symbol in symbols.values():
            writer = _Writer(folder, symbol, chains, flush)
            for chunk in trades(symbol):
                writer.add(chunk)
                ticker.advance(1, symbol.name)
            accounts[symbol.name] = writer.finish()
    folders = {chain.resolution: chain.name for chain in chains}
    write_json(folder / _INDEX, folders)
    return {
        "rows_in": sum(account["input"]["trades"] for account in accounts.values()),
        "rows_out": sum(account["resolutions"]["short"]["bars"] for account in accounts.values()),
        "note": f"{chains[0].name}; rows are short bars",
        "folders": folders,
        "symbols": accounts,
    }


def load(folder: Path, symbol: Symbol, resolution: str, device: torch.device) -> Bars:
    """All complete bars of a symbol and resolution (short, medium, long, or a step such as 1min).

    Raises:
        InputError: no such resolution, no bars of the symbol, or a damaged file.
    """
    folders = read_json(folder / _INDEX)
    if resolution not in folders:
        hint = nearest(resolution, folders)
        more = f"; did you mean '{hint}'?" if hint else ""
        raise InputError(f"{folder}: no bars of resolution '{resolution}'; there are {', '.join(folders)}{more}")
    files = sorted((folder / folders[resolution]).glob(f"{symbol.name}_[0-9][0-9][0-9][0-9]_[0-9][0-9]_*.parquet"))
    if not files:
        raise InputError(f"{folder / folders[resolution]}: no bars of symbol '{symbol.name}'; rerun the bars stage")
    return Bars.concat([read_bars(file, device) for file in files]).complete()


def read_bars(path: Path, device: torch.device) -> Bars:
    """One file of bars, partial rows included.

    Raises:
        InputError: the file is missing, damaged, or not one of ours.
    """
    table = read_table(path, list(BAR_COLUMNS))
    metadata = file_metadata(path)
    if "symbol" not in metadata:
        raise InputError.at(path, "its metadata names no symbol", fix="give a file that the bars stage wrote")
    columns = {name: _tensor(table.column(name), name, device) for name in BAR_COLUMNS}
    symbol = Symbol.from_json(json.loads(metadata["symbol"]))
    return Bars(symbol, metadata["bars"], columns, has_side=metadata["has_side"] == "true")


def _tensor(column: pa.ChunkedArray, name: str, device: torch.device) -> Tensor:
    values = column.cast(pa.int64()) if name in TIME_COLUMNS else column
    return torch.from_numpy(values.to_numpy().copy()).to(device)


@dataclass
class _Writer:
    """Folds one symbol's chunks and writes each month once no later row can belong to it."""

    folder: Path
    symbol: Symbol
    chains: Sequence[_fold.Chain]
    flush: bool
    state: dict[str, Tensor] = field(default_factory=dict)
    has_side: bool = True
    last_month: tuple[int, int] | None = None
    written: set[str] = field(default_factory=set)
    pending: dict[str, dict[tuple[int, int], list[Bars]]] = field(default_factory=dict)
    account: Account = field(init=False)

    def __post_init__(self) -> None:
        self.account = Account(self.symbol)

    def add(self, trades: Trades) -> None:
        if not len(trades):
            return
        self.has_side = self.account.has_side = trades.has_side
        self.account.input.add_trades(trades)
        sums, self.state = _fold.step(trades, self.chains, self.state)
        self.last_month = month_of(int(trades.time_ns[-1]))
        own = self.last_month if self.flush else None
        self._take(sums, own, partial=False)
        if self.flush:
            self._take(_fold.open_rest(self.chains, self.state), own, partial=True)
            self.state = {}
        for resolution, months in self.pending.items():
            for month in sorted(months)[:-1]:
                self._write(resolution, month)

    def finish(self) -> dict[str, Any]:
        """Writes what is left (an empty file where a resolution has no bar yet) and closes the account."""
        if self.last_month is None:
            raise InputError(f"bars: there are no trades of {self.symbol.name}; check ingest's start, end and limit")
        for chain in self.chains:
            if chain.resolution not in self.written and not self.pending[chain.resolution]:
                nothing = torch.zeros(bar_sums.K, 0, dtype=torch.int64)
                bars = to_bars(nothing, self.symbol, chain.name, has_side=self.has_side)
                self.pending[chain.resolution][self.last_month] = [bars]
        for resolution, months in self.pending.items():
            for month in sorted(months):
                self._write(resolution, month)
        return self.account.close(_fold.open_rest(self.chains, self.state))

    def _take(self, sums: dict[str, Tensor], own: tuple[int, int] | None, *, partial: bool) -> None:
        self.account.take(sums, partial=partial)
        for chain in self.chains:
            bars = to_bars(sums[chain.resolution], self.symbol, chain.name, has_side=self.has_side, is_partial=partial)
            months = self.pending.setdefault(chain.resolution, {})
            for month, part in _by_month(bars, own):
                months.setdefault(month, []).append(part)

    def _write(self, resolution: str, month: tuple[int, int]) -> None:
        chain = next(chain for chain in self.chains if chain.resolution == resolution)
        bars = Bars.concat(self.pending[resolution].pop(month))
        self.written.add(resolution)
        name = f"{self.symbol.name}_{month[0]:04}_{month[1]:02}_{chain.title}.parquet"
        metadata = {
            "symbol": json.dumps(self.symbol.to_json(), sort_keys=True),
            "bars": chain.name,
            "resolution": resolution,
            "has_side": json.dumps(bars.has_side),
        }
        write_table(self.folder / chain.name / name, bars.to_arrow(), metadata)


def _by_month(bars: Bars, own: tuple[int, int] | None) -> Iterable[tuple[tuple[int, int], Bars]]:
    """The rows cut where the month of their close changes; all of them in `own` where it is given."""
    if not len(bars):
        return
    if own is not None:
        yield own, bars
        return
    start = 0
    closes = bars.close_timestamp
    while start < len(bars):
        month = month_of(int(closes[start]))
        stop = int(torch.searchsorted(closes, _next_month_ns(month)))
        yield month, bars.select(slice(start, stop))
        start = stop


def _next_month_ns(month: tuple[int, int]) -> int:
    year, number = (month[0] + 1, 1) if month[1] == 12 else (month[0], month[1] + 1)
    return parse_instant(f"{year:04}-{number:02}-01")
