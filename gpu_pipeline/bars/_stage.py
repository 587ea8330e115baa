"""The stage: monthly files of bars per symbol and resolution, and the account that nothing was lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from gpu_pipeline.bars import _engine, _fold
from gpu_pipeline.bars._account import Account
from gpu_pipeline.bars._aggregate import to_bars
from gpu_pipeline.bars._months import Month, Months, by_month
from gpu_pipeline.bars._parts import FilePart, Read, TradeFile, join
from gpu_pipeline.core.config import RunConfig
from gpu_pipeline.core.errors import InputError, nearest
from gpu_pipeline.core.schema import BAR_COLUMNS, TIME_COLUMNS, Bars, Symbol, Tensor, Trades
from gpu_pipeline.core.store import file_metadata, read_json, read_table, write_json
from gpu_pipeline.core.trace import Ticker, Trace
from kernels import bar_sums

INDEX = "resolutions.json"


def write(
    folder: Path,
    config: RunConfig,
    symbols: dict[str, Symbol],
    files: Callable[[Symbol], Sequence[TradeFile]],
    read: Read,
    device: torch.device,
    trace: Trace,
) -> dict[str, Any]:
    """Writes `folder/{NAME}/{SYMBOL}_{YYYY}_{MM}_{TYPE}_bars_{THRESHOLD}.parquet` for every resolution.

    A row lies in the file of the month of its close; flushed rows in that of their trades. Memory holds a chunk of
    trades and a row group of bars, whatever the length of the history.

    Args:
        folder: where to write.
        config: the run file.
        symbols: by name.
        files: the files of a symbol's trades in time order.
        read: the trades of one of them in chunks on a device.
        device: of the run.
        trace: shows the progress.

    Returns:
        what the manifest says: rows, folders, and per symbol the account of input, bars and open rest.

    Raises:
        InputError: the plan of resolutions does not hold, or a threshold does not fit the symbol's scales.
        PipelineError: the account does not balance.
    """
    assert config.bars is not None
    chains = _fold.plan(config.bars)
    flush = config.bars.at_file_end == "flush"
    found = {name: files(symbol) for name, symbol in symbols.items()}
    accounts = {}
    total = sum(file.rows for some in found.values() for file in some)
    with trace.progress("bars", total) as ticker, _filler(folder, config, symbols, found, read, device, ticker) as fill:
        for name, symbol in symbols.items():
            with _Writer(folder, symbol, chains, flush) as writer:
                for file in found[name]:
                    fill(writer, file)
                    writer.end_file(file.month)
                accounts[name] = writer.finish()
    folders = {chain.resolution: chain.name for chain in chains}
    write_json(folder / INDEX, folders)
    return {
        "rows_in": sum(account["input"]["trades"] for account in accounts.values()),
        "rows_out": sum(account["resolutions"]["short"]["bars"] for account in accounts.values()),
        "note": f"{chains[0].name}; rows are short bars",
        "folders": folders,
        "symbols": accounts,
    }


@contextmanager
def _filler(
    folder: Path,
    config: RunConfig,
    symbols: dict[str, Symbol],
    files: Mapping[str, Sequence[TradeFile]],
    read: Read,
    device: torch.device,
    ticker: Ticker,
) -> Iterator[Callable[[_Writer, TradeFile], None]]:
    """What gives a writer the trades of its next file: chunk by chunk here, or as the part that a cluster made."""

    def by_chunks(writer: _Writer, file: TradeFile) -> None:
        for chunk in read(file, writer.symbol, device):
            writer.add(chunk, file.month)
            ticker.advance(len(chunk), writer.symbol.name)

    if config.engine is None:
        yield by_chunks
        return
    with _engine.parts_of(folder, config, symbols, files, read, device, ticker) as parts:

        def by_parts(writer: _Writer, file: TradeFile) -> None:
            writer.join(next(parts), file.month)
            ticker.advance(file.rows, writer.symbol.name)

        yield by_parts


def load(folder: Path, symbol: Symbol, resolution: str, device: torch.device) -> Bars:
    """All complete bars of a symbol and resolution (short, medium, long, or a step such as 1min).

    Raises:
        InputError: no such resolution, no bars of the symbol, or a damaged file.
    """
    folders = read_json(folder / INDEX)
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


class _Writer:
    """Folds one symbol's chunks and writes what closes."""

    def __init__(self, folder: Path, symbol: Symbol, chains: Sequence[_fold.Chain], flush: bool) -> None:
        self.symbol, self.chains, self.flush = symbol, chains, flush
        self.months = {chain.resolution: Months(folder, symbol, chain) for chain in chains}
        self.account = Account(symbol)
        self.state: dict[str, Tensor] = {}
        self._open = ExitStack()

    def __enter__(self) -> _Writer:
        for months in self.months.values():
            self._open.enter_context(months)
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(self, trades: Trades, month: Month) -> None:
        """Takes the next chunk of the file of a month."""
        if not len(trades):
            return
        self.account.has_side = trades.has_side
        self.account.input.add_trades(trades)
        sums, self.state = _fold.step(trades, self.chains, self.state)
        self._take(sums, month, partial=False)

    def join(self, part: FilePart, month: Month) -> None:
        """Takes the part that was made of the next file, apart from the files before it."""
        if not part.totals.trades:
            return
        self.account.has_side = part.has_side
        self.account.input = self.account.input.plus(part.totals)
        sums, self.state = join(self.chains, self.state, part)
        self._take(sums, month, partial=False)

    def end_file(self, month: Month) -> None:
        """A file border: nothing for `continue`; `flush` ends the open bars and starts anew."""
        if self.flush and self.state:
            self._take(_fold.open_rest(self.chains, self.state), month, partial=True)
            self.state = {}

    def finish(self) -> dict[str, Any]:
        """Writes an empty file where a resolution has no bar yet, and closes the account."""
        if not self.account.input.trades:
            raise InputError(f"bars: there are no trades of {self.symbol.name}; check ingest's start, end and limit")
        nothing = torch.zeros(bar_sums.K, 0, dtype=torch.int64)
        for chain in self.chains:
            if self.months[chain.resolution].month is None:
                self.months[chain.resolution].write(self.last_month, self._bars(nothing, chain, partial=False))
        return self.account.close(_fold.open_rest(self.chains, self.state))

    def _take(self, sums: dict[str, Tensor], month: Month, *, partial: bool) -> None:
        self.last_month = month
        self.account.take(sums, partial=partial)
        for chain in self.chains:
            bars = self._bars(sums[chain.resolution], chain, partial)
            for own, part in [(month, bars)] if self.flush else by_month(bars):
                self.months[chain.resolution].write(own, part)

    def _bars(self, sums: Tensor, chain: _fold.Chain, partial: bool) -> Bars:
        return to_bars(sums, self.symbol, chain.name, has_side=self.account.has_side, is_partial=partial)
