"""The ingest stage: clean trades, bars made by others, books and quotes by symbol and month, and back again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.core.config import RunConfig, SourceSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars, BookEvents, BookSnapshots, Quotes, Symbol, Trades
from gpu_pipeline.core.store import file_metadata
from gpu_pipeline.core.trace import Ticker, Trace
from gpu_pipeline.ingest import _bar_months, _book_files, _event_files, _quote_files, _trade_files
from gpu_pipeline.ingest._months import monthly_files
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._read import open_stream, request_of
from gpu_pipeline.ingest._streams import Stream, shared_symbol
from gpu_pipeline.ingest._trade_files import TradeFile
from gpu_pipeline.ingest.parquet import errors

# Streams that bars are made of: their names, and what they hold.
MARKETS: Mapping[str, type] = {"trades": Trades, "bars": Bars}
# What a stream other than trades may hold: kind in the manifest -> how it is stored.
_FILES: Mapping[str, Any] = {"snapshots": _book_files, "events": _event_files, "quotes": _quote_files}
_KINDS: Mapping[type, str] = {BookSnapshots: "snapshots", BookEvents: "events", Quotes: "quotes"}


def input_files(config: RunConfig) -> list[Path]:
    """Every file that the run reads, each once; sources without files have none.

    Raises:
        InputError: a path names nothing, or two symbols share a file.
    """
    found: list[Path] = []
    for stream, section in config.ingest.items():
        module = section.plugin.module
        named: Callable[..., list[Any]] | None = getattr(module, "files", getattr(module, "tables", None))
        if named is not None:
            by_symbol = {symbol: named(section.options, symbol) for symbol in config.symbols}
            if not _tells_symbols_apart(section):
                _one_symbol_each(stream, section, by_symbol)
            found += (item for item in chain.from_iterable(by_symbol.values()) if isinstance(item, Path))
    return list(dict.fromkeys(found))


def origin(config: RunConfig, stream: str, symbol: Symbol) -> str:
    """What a stream of a symbol is read from, for messages: its file, the first and last of several, or its source."""
    section = config.ingest[stream]
    module = section.plugin.module
    named: Callable[..., list[Any]] | None = getattr(module, "files", getattr(module, "tables", None))
    found = [str(item) for item in named(section.options, symbol.name)] if named is not None else []
    shown = " .. ".join(dict.fromkeys([*found[:1], *found[-1:]])) or section.source
    return shown if len(found) < 3 else f"{shown} ({len(found)} files)"


def table_digests(config: RunConfig) -> dict[str, str]:
    """What tells whether the tables that the run reads from servers are as they were; files are not among them.

    Raises:
        InputError: no such table.
        EnvironmentProblem: a server cannot be reached.
    """
    found = {}
    for stream, section in config.ingest.items():
        digest: Callable[..., str] | None = getattr(section.plugin.module, "digest", None)
        if digest is not None:
            for name, options in config.symbols.items():
                found[f"{stream} of {name}"] = digest(section.options, request_of(section, stream, name, options))
    return found


def _tells_symbols_apart(section: SourceSection) -> bool:
    """Whether the source takes the rows of one symbol out of files of several."""
    return "{SYMBOL}" in (getattr(section.options, "instrument", None) or "")


def _one_symbol_each(stream: str, section: SourceSection, by_symbol: Mapping[str, list[Any]]) -> None:
    owner: dict[Any, str] = {}
    for symbol, files in by_symbol.items():
        for file in files:
            if file in owner:
                rule = f"is read for {owner[file]} and for {symbol}"
                key = next((key for key in ("path", "table") if hasattr(section.options, key)), None)
                keys = f"ingest.{stream}.{key}" if key else f"the paths of ingest.{stream}"
                raise InputError.at(file, rule, fix=f"put {{SYMBOL}} into {keys}")
            owner[file] = symbol


def write(folder: Path, config: RunConfig, device: torch.device, trace: Trace) -> dict[str, Any]:
    """Reads and cleans every stream of every symbol, and writes one file per month.

    Returns:
        Manifest content: `symbols` (of trades, or of bars made by others), `streams` (of books and quotes), `rows_in`,
        `rows_out`.

    Raises:
        InputError: bad data.
    """
    symbols: dict[str, Any] = {}
    streams: dict[str, dict[str, Any]] = {stream: {} for stream in config.ingest if stream not in MARKETS}
    by_symbol = {
        name: [
            (section, request_of(section, stream, _folder_name(name), options, device=device, seed=config.seed))
            for stream, section in config.ingest.items()
        ]
        for name, options in config.symbols.items()
    }
    with trace.progress("ingest", _expected(chain(*by_symbol.values()))) as ticker:
        for name, jobs in by_symbol.items():
            opened = [_opened(section, request, ticker) for section, request in jobs]
            symbol = shared_symbol(opened)
            for stream in opened:
                if stream.kind is Trades:
                    symbols[name] = _trade_files.write(folder / name, stream.make(symbol), ticker)
                elif stream.kind is Bars:
                    symbols[name] = _bar_months.write(folder / name, stream.make(symbol), ticker)
                else:
                    files = _FILES[_KINDS[stream.kind]]
                    streams[stream.name][name] = files.write(folder / stream.name, stream.make(symbol), ticker)
    entries = [*symbols.values(), *(entry for found in streams.values() for entry in found.values())]
    totals = {key: sum(entry[key] for entry in entries) for key in ("rows_in", "rows_out")}
    return {"symbols": symbols, "streams": streams, **totals}


def _opened(section: SourceSection, request: ReadRequest, ticker: Ticker) -> Stream:
    stream = open_stream(section.source, section.options, request, partial(_tell, ticker, request))
    for name, kind in MARKETS.items():
        if (stream.kind is kind) != (stream.name == name):
            title = f"holds {name}" if stream.kind is kind else f"holds no {name}"
            raise InputError(f"ingest.{stream.name}: {title}; a run has one stream of {name}, and its name is '{name}'")
    return stream


def _expected(jobs: Iterable[tuple[SourceSection, ReadRequest]]) -> int | None:
    """The rows that will be written where every source can tell, for the progress."""
    counts = [_rows(section, request) for section, request in jobs]
    return sum(count for count in counts if count is not None) if None not in counts else None


def _rows(section: SourceSection, request: ReadRequest) -> int | None:
    count: Callable[..., int | None] | None = getattr(section.plugin.module, "rows", None)
    if count is None or (request.start_ns, request.end_ns) != (None, None):
        return None
    found = count(section.options, request)
    return found if found is None or request.limit is None else min(found, request.limit)


def _tell(ticker: Ticker, request: ReadRequest, raw: Any) -> None:
    ticker.advance(0, f"{request.symbol} looking through {raw.file.name}")


def _folder_name(symbol: str) -> str:
    if symbol in (".", "..") or "/" in symbol or "\\" in symbol or symbol.startswith("."):
        rule = f"symbols: '{symbol}' cannot be the name of a folder"
        raise InputError(f"{rule}; write it without slashes and leading dots, for example BTCUSDT")
    return symbol


def load_symbols(manifest: Mapping[str, Any]) -> dict[str, Symbol]:
    """Instruments with the scales that ingest found; those of a book where there are no trades."""
    entries = dict(manifest["symbols"])
    for found in manifest["streams"].values():
        entries = {**found, **entries}
    return {name: Symbol.from_json(entry["symbol"]) for name, entry in entries.items()}


def trade_files(folder: Path, symbol: Symbol) -> list[TradeFile]:
    """The monthly files of a symbol's clean trades, for `read_file`.

    Raises:
        InputError: no files, a damaged file, or scales other than the symbol's.
    """
    return _trade_files.trade_files(folder / symbol.name, symbol)


def load_trades(folder: Path, symbol: Symbol, device: torch.device) -> Iterator[Trades]:
    """Clean trades of a symbol in chunks of bounded size, with absolute `first_row`.

    Raises:
        InputError: no files, a damaged file, or scales other than the symbol's.
        EnvironmentProblem: cuda without pylibcudf.
    """
    return _trade_files.load(folder / symbol.name, symbol, device)


def load_all_trades(folder: Path, symbol: Symbol, device: torch.device) -> Trades:
    """Clean trades of a symbol as one table, which memory holds once.

    Raises:
        InputError: no files, a damaged file, or scales other than the symbol's.
        EnvironmentProblem: cuda without pylibcudf.
    """
    return _trade_files.load_all(folder / symbol.name, symbol, device)


def load_bars(folder: Path, symbol: Symbol, device: torch.device) -> Iterator[Bars]:
    """Bars made by others, checked, of a symbol in pieces of bounded size, in time order.

    Raises:
        InputError: no files, a damaged file, or scales other than the symbol's.
        EnvironmentProblem: cuda without pylibcudf.
    """
    return _bar_months.load(folder / symbol.name, symbol, device)


def load_book(
    folder: Path, stream: str, symbol: Symbol, device: torch.device
) -> Iterator[BookSnapshots] | Iterator[BookEvents]:
    """A book stream of a symbol in pieces of bounded size, in time order: snapshots, or changes in replay order.

    Raises:
        InputError: no files, a damaged file, scales other than the symbol's, or a stream of quotes.
        EnvironmentProblem: cuda without pylibcudf.
    """
    kind = _stored(folder / stream, symbol)
    if kind == "quotes":
        raise InputError(f"ingest.{stream}: holds quotes, not a book; name a stream of snapshots or depth updates")
    loaded: Iterator[BookSnapshots] | Iterator[BookEvents] = _FILES[kind].load(folder / stream, symbol, device)
    return loaded


def load_quotes(folder: Path, stream: str, symbol: Symbol, device: torch.device) -> Iterator[Quotes]:
    """A stream of best bids and offers of a symbol in pieces of bounded size, in time order.

    Raises:
        InputError: no files, a damaged file, or scales other than the symbol's.
        EnvironmentProblem: cuda without pylibcudf.
    """
    return _quote_files.load(folder / stream, symbol, device)


def _stored(folder: Path, symbol: Symbol) -> str:
    path = monthly_files(folder, symbol.name)[0]
    with errors(path):
        said = file_metadata(path)
    kind = next((kind for kind, files in _FILES.items() if files.TABLE.key in said), None)
    if kind is None:
        raise InputError.at(path, "holds no book and no quotes of this project", fix="run the stage ingest again")
    return kind
