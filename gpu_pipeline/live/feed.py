"""What comes in: pieces of trades and books of many symbols, in the order in which they are known.

JSON lines, one message each (a price or quantity is a string or a number; a string is exact):
    {"type": "trade", "symbol": S, "time": T, "price": P, "quantity": Q, "id": 17, "is_buyer_maker": false}
    {"type": "book", "symbol": S, "time": T, "known": T, "bids": [[P, Q], ...], "asks": [[P, Q], ...]}
    {"type": "bar", "symbol": S, "open_timestamp": T, "close_timestamp": T, "open": 1.0, ..., "num_ticks": 9}
A bar is a closed short bar with the columns that it has, where a run's features need no other input.
Times are nanoseconds since 1970 (an integer) or ISO 8601; `known` is when the snapshot could be read, its time where
absent; bids and asks stand best first. Empty lines are passed over.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

import torch

from gpu_pipeline.book._pieces import cut_events, select
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import (
    BAR_COLUMNS,
    BAR_INTEGERS,
    TIME_COLUMNS,
    Bars,
    BookEvents,
    BookSnapshots,
    Scale,
    Symbol,
    Trades,
)
from gpu_pipeline.core.units import parse_instant

Piece: TypeAlias = Trades | BookSnapshots | BookEvents | Bars
_TRADE = ("symbol", "time", "price", "quantity")
_BOOK = ("symbol", "time", "bids", "asks")
_BAR = ("symbol", "open_timestamp", "close_timestamp", "open", "high", "low", "close")
_FIELDS = {"trade": _TRADE, "book": _BOOK, "bar": _BAR}


def read_lines(lines: Iterable[str], symbols: Mapping[str, Symbol], rows: Mapping[str, int]) -> Iterator[Piece]:
    """One piece per message; `rows` says how many trades of each symbol were taken before.

    Raises:
        InputError: a line is no message of a known symbol; names the line and the field.
    """
    taken = dict(rows)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        message = _message(line, number)
        symbol = _symbol(message, symbols, number)
        if message["type"] == "trade":
            yield _trade(message, symbol, taken.get(symbol.name, 0), number)
            taken[symbol.name] = taken.get(symbol.name, 0) + 1
        elif message["type"] == "bar":
            yield _bar(message, symbol, number)
        else:
            yield _book(message, symbol, number)


def _message(line: str, number: int) -> dict[str, Any]:
    try:
        message = json.loads(line, parse_float=Decimal)
    except ValueError as error:
        raise InputError(f"live, line {number}: is not JSON ({error})") from error
    kind = message.get("type") if isinstance(message, dict) else None
    if kind not in _FIELDS:
        raise InputError(f"live, line {number}: 'type' must be trade, book or bar (value {kind!r})")
    for field in _FIELDS[kind]:
        if field not in message:
            raise InputError(f"live, line {number}: a {kind} needs the field '{field}'")
    found: dict[str, Any] = message
    return found


def _symbol(message: Mapping[str, Any], symbols: Mapping[str, Symbol], number: int) -> Symbol:
    name = str(message["symbol"])
    if name not in symbols:
        raise InputError(f"live, line {number}: no symbol '{name}' in this run; there are {', '.join(symbols)}")
    return symbols[name]


def _time(value: Any, number: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return parse_instant(str(value))
    except ValueError as error:
        raise InputError(f"live, line {number}: 'time' {error}") from error


def _steps(value: Any, scale: Scale, what: str, number: int, least: int) -> int:
    """A decimal as a whole number of steps."""
    try:
        steps = Decimal(str(value)) / scale.step
    except InvalidOperation as error:
        raise InputError(f"live, line {number}: '{what}' is not a number (value {value!r})") from error
    if not steps.is_finite() or steps != steps.to_integral_value():
        raise InputError(
            f"live, line {number}: '{what}' is finer than the step {scale.step} of the training run (value {value})"
        )
    if steps < least:
        raise InputError(f"live, line {number}: '{what}' must be at least {scale.step * least} (value {value})")
    return int(steps)


def _column(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _trade(message: Mapping[str, Any], symbol: Symbol, row: int, number: int) -> Trades:
    ticks = _steps(message["price"], symbol.price, "price", number, 1)
    lots = _steps(message["quantity"], symbol.quantity, "quantity", number, 0)
    side = message.get("is_buyer_maker")
    return Trades(
        symbol=symbol,
        time_ns=_column(_time(message["time"], number)),
        price_ticks=_column(ticks),
        quantity_lots=_column(lots),
        notional=_column(lots if symbol.inverse else ticks * lots),
        trade_id=_column(int(message.get("id", row))),
        is_buyer_maker=torch.tensor([bool(side)]),
        first_row=row,
        has_side=side is not None,
    )


def _book(message: Mapping[str, Any], symbol: Symbol, number: int) -> BookSnapshots:
    levels = []
    for side in ("bids", "asks"):
        for level in message[side]:
            if not isinstance(level, list) or len(level) != 2:
                raise InputError(f"live, line {number}: '{side}' holds pairs of price and quantity (value {level!r})")
            price = _steps(level[0], symbol.price, f"{side} price", number, 1)
            levels.append((price, _steps(level[1], symbol.quantity, f"{side} quantity", number, 1)))
    time_ns = _time(message["time"], number)
    return BookSnapshots(
        symbol=symbol,
        time_ns=_column(time_ns),
        known_ns=_column(_time(message.get("known", time_ns), number)),
        offsets=_column(0, len(levels)),
        bid_count=_column(len(message["bids"])),
        price_ticks=_column(*(price for price, _ in levels)),
        quantity_lots=_column(*(quantity for _, quantity in levels)),
    )


def _bar(message: Mapping[str, Any], symbol: Symbol, number: int) -> Bars:
    columns: dict[str, torch.Tensor] = {"is_partial": torch.zeros(1, dtype=torch.bool)}
    for name in (name for name in BAR_COLUMNS if name != "is_partial"):
        if name in TIME_COLUMNS:
            columns[name] = _column(_time(message[name], number))
        elif name in BAR_INTEGERS:
            columns[name] = _column(int(message.get(name, -1)))
        else:
            columns[name] = torch.tensor([_float(message.get(name, "nan"), name, number)], dtype=torch.float64)
    return Bars(symbol, "live", columns, has_side="buy_volume" in message)


def _float(value: Any, what: str, number: int) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"live, line {number}: '{what}' is not a number (value {value!r})") from error


def interleave(trades: Iterable[Trades], books: Iterable[Piece]) -> Iterator[Piece]:
    """Pieces of one symbol so that every piece of the book comes before the trades that may see it.

    A piece that comes early does no harm: a cell shows what was known at its moment, whenever it was fed.
    """
    waiting = iter(books)
    following = next(waiting, None)
    for piece in trades:
        last_ns = int(piece.time_ns[-1]) if len(piece) else -1
        while following is not None and _first_known(following) <= last_ns:
            yield following
            following = next(waiting, None)
        yield piece
    while following is not None:
        yield following
        following = next(waiting, None)


def merge(feeds: Iterable[Iterable[Piece]]) -> Iterator[Piece]:
    """Pieces of several symbols by their last time; each symbol's stay in their order."""
    return heapq.merge(*feeds, key=_last_ns)


def cut(trades: Trades, rows: int) -> Iterator[Trades]:
    """The trades in pieces of at most so many rows."""
    for first in range(0, len(trades), rows):
        yield trades[first : first + rows]


def rest_of(trades: Iterable[Trades], taken: int, rows: int) -> Iterator[Trades]:
    """The trades behind the first `taken` ones, in pieces of at most `rows`."""
    for piece in trades:
        if piece.first_row + len(piece) > taken:
            yield from cut(piece[max(0, taken - piece.first_row) :], rows)


def rest_of_book(books: Iterable[BookSnapshots | BookEvents], taken: int) -> Iterator[Piece]:
    """The snapshots or events behind the first `taken` ones."""
    for piece in books:
        skipped = min(taken, len(piece))
        taken -= skipped
        if skipped < len(piece):
            yield _without(piece, skipped)


def _without(piece: BookSnapshots | BookEvents, rows: int) -> Piece:
    if isinstance(piece, BookEvents):
        return cut_events(piece, slice(rows, None))
    return select(piece, torch.arange(rows, len(piece)))


def _first_known(piece: Piece) -> int:
    assert not isinstance(piece, Trades | Bars)
    return int(piece.known_ns.min()) if len(piece) else -1


def _last_ns(piece: Piece) -> int:
    if isinstance(piece, Bars):
        return int(piece.close_timestamp[-1])
    times = piece.time_ns if isinstance(piece, Trades) else piece.known_ns
    return int(times[-1]) if len(times) else -1
