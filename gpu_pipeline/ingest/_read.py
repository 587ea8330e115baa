"""Reading one stream of one symbol: scales over all the input, then the cleaning fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from gpu_pipeline.core import plugins
from gpu_pipeline.core.config import SourceSection, SymbolOptions, check_values
from gpu_pipeline.core.device import choose_device
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Bars, BookEvents, BookSnapshots, Quotes, Symbol, Trades
from gpu_pipeline.core.units import parse_instant
from gpu_pipeline.ingest._bar_files import RawBars
from gpu_pipeline.ingest._bar_rows import open_bars
from gpu_pipeline.ingest._book_sequence import RawBook
from gpu_pipeline.ingest._clean import Rules, State, clean
from gpu_pipeline.ingest._quote_rows import RawQuotes
from gpu_pipeline.ingest._raw import RawTrades, ReadRequest, Units, joined
from gpu_pipeline.ingest._scan import Scan
from gpu_pipeline.ingest._snapshots import RawSnapshots
from gpu_pipeline.ingest._streams import Stream, looked_through, open_book, open_quotes, open_snapshots

# Raw columns of smaller inputs (about 1.6 M trades) are kept between the two passes instead of being read twice.
KEEP_BYTES = 1 << 26
_TITLES = {BookSnapshots: "book snapshots", BookEvents: "book events", Quotes: "quotes", Bars: "bars"}

Item = RawTrades | RawBook | RawSnapshots | RawQuotes | Trades | BookSnapshots | BookEvents | Quotes


def open_stream(
    source: str, options: Options, request: ReadRequest, scanned: Callable[[Any], None] | None = None
) -> Stream:
    """One stream of one symbol, looked through once where its source leaves scales open; `scanned` hears of that.

    Raises:
        InputError: bad data; the source holds nothing.
    """
    read = plugins.load("sources", source).function
    items = read(options, request)
    first = next(items, None)
    if first is None:
        where = f" in {options.path}" if hasattr(options, "path") else ""
        raise InputError(f"ingest.{request.stream}: source '{source}' holds nothing for {request.symbol}{where}")
    whole = chain([first], items)
    opener = _openers().get(type(first))
    if opener is None:
        return _open_made(first, whole, lambda known: read(options, replace(request, options=known)), source, request)
    heard = whole if scanned is None else _heard(whole, scanned)
    return opener(heard, lambda: read(options, replace(request, verify=False)), request, KEEP_BYTES)


def _openers() -> Mapping[type, Callable[..., Stream]]:
    return {
        RawTrades: _open_trades,
        RawBook: open_book,
        RawSnapshots: open_snapshots,
        RawQuotes: open_quotes,
        RawBars: open_bars,
    }


def _open_made(
    first: Any, whole: Iterator[Any], again: Callable[[SymbolOptions], Iterator[Any]], source: str, request: ReadRequest
) -> Stream:
    """Pieces that are made already; they are made again where another stream of the symbol needs finer scales."""

    def make(symbol: Symbol) -> Iterator[Any]:
        pieces = whole if symbol == first.symbol else _rescaled(again, symbol, source, request)
        return _clean_made(pieces, source, request) if isinstance(first, Trades) else pieces

    return Stream(request.stream, type(first), first.symbol, make)


def _rescaled(
    again: Callable[[SymbolOptions], Iterator[Any]], symbol: Symbol, source: str, request: ReadRequest
) -> Iterator[Any]:
    known = {"price_tick": symbol.price_tick, "quantity_lot": symbol.quantity_lot}
    for piece in again(request.options.model_copy(update=known)):
        if piece.symbol != symbol:
            rule = f"ingest.{request.stream}: source '{source}' keeps its own scales for {symbol.name}"
            fix = f"set price_tick: {symbol.price_tick} and quantity_lot: {symbol.quantity_lot} under symbols"
            raise InputError(f"{rule}, but the streams of a symbol share theirs; {fix}")
        yield piece


def read_stream(source: str, options: Options, request: ReadRequest) -> Iterator[Trades]:
    """Clean trades of one stream in pieces; each carries in `report` what was counted so far.

    Raises:
        InputError: bad data; no trades at all; the source holds a book.
    """
    stream = open_stream(source, options, request)
    if stream.kind is not Trades:
        raise InputError(f"ingest.{request.stream}: source '{source}' holds {_TITLES[stream.kind]}, not trades")
    yield from stream.make(stream.symbol)


def _heard(pieces: Iterator[Any], scanned: Callable[[Any], None]) -> Iterator[Any]:
    for raw in pieces:
        scanned(raw)
        yield raw


def _open_trades(
    first: Iterator[RawTrades], again: Callable[[], Iterator[RawTrades]], request: ReadRequest, room: int
) -> Stream:
    found = Scan(request.options)
    kept = looked_through(first, found.add, room)

    def make(symbol: Symbol) -> Iterator[Trades]:
        pieces = iter(kept) if kept is not None else again()
        report = {"checked": found.checked, "quote_step": None if found.quote_step is None else str(found.quote_step)}
        return _folded(_gathered(pieces, found), symbol, State(_rules(request, found)), {**report, **found.counted})

    return Stream(request.stream, Trades, found.symbol(request.symbol), make)


def _clean_made(pieces: Iterator[Trades], source: str, request: ReadRequest) -> Iterator[Trades]:
    first = next(pieces)
    raws = (_as_raw(piece, source) for piece in chain([first], pieces))
    yield from _folded(raws, first.symbol, State(_rules(request, None)), {"checked": {}, "quote_step": None})


def _rules(request: ReadRequest, found: Scan | None) -> Rules:
    step = found.quote_step if found else None
    return Rules(request.on_bad_row, request.start_ns, request.end_ns, request.limit, step)


def _gathered(pieces: Iterator[RawTrades], found: Scan) -> Iterator[RawTrades]:
    """Pieces as they come; those of a file that is out of order as one, so that memory holds all of that file."""
    for file, group in groupby(pieces, key=lambda raw: raw.file):
        if file in found.unordered:
            yield joined(list(group))
        else:
            yield from group


def _folded(pieces: Iterator[RawTrades], symbol: Symbol, state: State, report: dict[str, Any]) -> Iterator[Trades]:
    """The fold, one piece late, so that the last piece carries the whole account."""
    held: Trades | None = None
    for raw in pieces:
        trades, state = clean(raw, symbol, state)
        if len(trades):
            if held is not None:
                yield held
            held = trades
        if state.done:
            break
    if held is None:
        raise _nothing_left(symbol.name, state)
    yield replace(held, report={**state.counts.to_json(), **report})


def _nothing_left(name: str, state: State) -> InputError:
    counts = state.counts
    seen = f"{counts.rows_in:,} rows read, {counts.before_start:,} before start, dropped {dict(counts.dropped or {})}"
    return InputError(f"{name}: no trades are left ({seen}); check path, start, end and on_bad_row")


def _as_raw(trades: Trades, source: str) -> RawTrades:
    return RawTrades(
        Path(source),
        trades.first_row,
        trades.time_ns,
        Units(trades.price_ticks, trades.symbol.price_tick),
        Units(trades.quantity_lots, trades.symbol.quantity_lot),
        trade_id=trades.trade_id,
        is_buyer_maker=trades.is_buyer_maker if trades.has_side else None,
    )


def request_of(section: SourceSection, stream: str, name: str, options: SymbolOptions, **run: Any) -> ReadRequest:
    """What a section of the run file asks of its source, for one symbol; `run` gives device and seed."""
    return ReadRequest(
        stream=stream,
        symbol=name,
        options=options,
        start_ns=None if section.start is None else parse_instant(section.start),
        end_ns=None if section.end is None else parse_instant(section.end),
        limit=section.limit,
        on_bad_row=section.on_bad_row,
        verify=section.verify,
        **run,
    )


def read_trades(
    path: str | Path | list[str | Path] | None = None,
    source: str = "parquet",
    symbol: str = "",
    device: str = "auto",
    **options: Any,
) -> Trades:
    """Reads trades into one table.

    Args:
        path: file, folder, glob or list; None for a source without files.
        source: `binance`, `parquet`, `simulated` or a dotted path.
        symbol: exchange name.
        device: `auto`, `cuda` or `cpu`.
        options: keys of the source (`columns`), of its section (`start`, `end`, `limit`, `on_bad_row`, `verify`)
            and of the symbol (`price_tick`, `quantity_lot`, `multiplier`, `inverse`), as in a run file.

    Returns:
        N trades with exact integer columns; `report` says what reading counted.

    Raises:
        InputError: bad data or a bad argument.
    """
    where = "read_trades"
    known = {key: options.pop(key) for key in tuple(options) if key in SymbolOptions.model_fields}
    if path is not None:
        options["path"] = [str(item) for item in path] if isinstance(path, list) else str(path)
    section = check_values(SourceSection, {"source": source, **options}, where)
    facts = check_values(SymbolOptions, known, where)
    request = request_of(section, "trades", symbol, facts, device=choose_device(device).device)
    return Trades.concat(list(read_stream(source, section.options, request)))
