"""One stream of one symbol in two passes: scales over all the input, then the fold that makes the pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Protocol, TypeVar

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookEvents, BookSnapshots, Quotes, Symbol
from gpu_pipeline.ingest import _book_sequence, _quote_rows, _snapshots
from gpu_pipeline.ingest._book_sequence import RawBook
from gpu_pipeline.ingest._depth import level_faults
from gpu_pipeline.ingest._quote_rows import NUMBERS, RawQuotes
from gpu_pipeline.ingest._raw import ReadRequest, mapped
from gpu_pipeline.ingest._scales import merged
from gpu_pipeline.ingest._scan import Scan
from gpu_pipeline.ingest._snapshots import RawSnapshots


class _Raw(Protocol):
    def nbytes(self) -> int: ...


class _State(Protocol):
    @property
    def done(self) -> bool: ...


Raw = TypeVar("Raw", bound=_Raw)
Made = TypeVar("Made")
Folded = TypeVar("Folded", bound=_State)


@dataclass(frozen=True)
class Stream:
    """What a source holds of one symbol, looked through once; nothing is made yet.

    Attributes:
        name: of the stream under `ingest`.
        kind: Trades, BookSnapshots, BookEvents or Quotes.
        symbol: with the scales that were given, or that this stream needs.
        make: its pieces, with the scales of the symbol that it is given; to be called once.
    """

    name: str
    kind: type
    symbol: Symbol
    make: Callable[[Symbol], Iterator[Any]]


def shared_symbol(streams: Iterable[Stream]) -> Symbol:
    """One symbol for all streams: scales that are found are the finest that any of them needs.

    Raises:
        InputError: two streams are of different contracts.
    """
    streams = list(streams)
    tick = reduce(merged, (stream.symbol.price_tick for stream in streams))
    lot = reduce(merged, (stream.symbol.quantity_lot for stream in streams))
    shared: dict[str, Any] = {"price_tick": tick, "quantity_lot": lot}
    # The section of one stream may say when the venue trades.
    shared |= next((vars(hours) for stream in streams if (hours := stream.symbol.hours).limited), {})
    symbols = {stream.name: replace(stream.symbol, **shared) for stream in streams}
    (name, symbol), *others = symbols.items()
    other = next((found for found in others if found[1] != symbol), None)
    if other is not None:
        rule = f"ingest.{other[0]}: {other[1].name} is not the contract that ingest.{name} holds"
        raise InputError(f"{rule} ({other[1].to_json()} and {symbol.to_json()}); read them as two symbols")
    return symbol


def looked_through(pieces: Iterator[Raw], add: Callable[[Raw], None], room: int) -> list[Raw] | None:
    """Hands every piece to `add`; returns them too where they are smaller than `room` bytes."""
    kept: list[Raw] | None = []
    for raw in pieces:
        add(raw)
        room -= raw.nbytes()
        if room < 0:
            kept = None
        if kept is not None:
            kept.append(raw)
    return kept


def open_book(
    pieces: Iterator[RawBook], again: Callable[[], Iterator[RawBook]], request: ReadRequest, room: int
) -> Stream:
    """A depth feed.

    Raises:
        InputError: a value that is no decimal.
    """
    found = Scan(request.options)
    kept = looked_through(pieces, lambda raw: _scan_levels(found, raw), room)

    def make(symbol: Symbol) -> Iterator[BookEvents]:
        raws = again() if kept is None else iter(kept)
        step = lambda raw, state: _book_sequence.sequence(raw, symbol, request, state)  # noqa: E731
        said = {"checked": found.checked}
        return _folded(raws, step, _book_sequence.State(), lambda state: {**state.counts.to_json(), **said}, symbol)

    return Stream(request.stream, BookEvents, found.symbol(request.symbol), make)


def open_snapshots(
    pieces: Iterator[RawSnapshots], again: Callable[[], Iterator[RawSnapshots]], request: ReadRequest, room: int
) -> Stream:
    """Snapshots of a book.

    Raises:
        InputError: a value that is no decimal.
    """
    found = Scan(request.options)
    kept = looked_through(pieces, lambda raw: _scan_levels(found, raw), room)

    def make(symbol: Symbol) -> Iterator[BookSnapshots]:
        raws = again() if kept is None else iter(kept)
        step = lambda raw, state: _snapshots.clean(raw, symbol, request, state)  # noqa: E731
        said = {"checked": found.checked}
        return _folded(raws, step, _snapshots.State(), lambda state: {**state.counts, **said}, symbol)

    return Stream(request.stream, BookSnapshots, found.symbol(request.symbol), make)


def open_quotes(
    pieces: Iterator[RawQuotes], again: Callable[[], Iterator[RawQuotes]], request: ReadRequest, room: int
) -> Stream:
    """A stream of best bids and offers.

    Raises:
        InputError: a value that is no decimal.
    """
    found = Scan(request.options)
    kept = looked_through(pieces, lambda raw: _scan_quotes(found, raw), room)

    def make(symbol: Symbol) -> Iterator[Quotes]:
        raws = again() if kept is None else iter(kept)
        step = lambda raw, state: _quote_rows.clean(raw, symbol, request, state)  # noqa: E731
        return _folded(
            raws, step, _quote_rows.State(), lambda state: state.report() | {"checked": found.checked}, symbol
        )

    return Stream(request.stream, Quotes, found.symbol(request.symbol), make)


def _scan_levels(found: Scan, raw: RawBook | RawSnapshots) -> None:
    depth = raw.depth
    found.check(depth.checked, depth.begins)
    codes = level_faults(depth)
    for name, values in (("price", depth.price), ("quantity", depth.quantity)):
        rows = depth.level_row
        if codes is not None:
            good = codes == 0
            values, rows = mapped(values, lambda column: column[good]), rows[good]  # noqa: B023
        found.infer(name, values, depth.file, rows)


def _scan_quotes(found: Scan, raw: RawQuotes) -> None:
    found.check(raw.checked, raw.first_row == 0)
    for name in NUMBERS:
        rows = _quote_rows.without_missing(raw, name)
        values = mapped(raw.numbers[name], lambda column: column[rows])  # noqa: B023
        found.infer(name.split("_")[1], values, raw.file, raw.first_row + 1 + rows)


def _folded(
    raws: Iterator[Raw],
    step: Callable[[Raw, Folded], tuple[Any, Folded]],
    state: Folded,
    report: Callable[[Folded], Mapping[str, Any]],
    symbol: Symbol,
) -> Iterator[Any]:
    """The fold, one piece late, so that the last piece carries the whole account."""
    held: Any = None
    for raw in raws:
        made, state = step(raw, state)
        if len(made):
            if held is not None:
                yield held
            held = made
        if state.done:
            break
    if held is None:
        raise InputError(f"{symbol.name}: nothing is left ({dict(report(state))}); check paths, start, end, on_bad_row")
    yield replace(held, report=report(state))
