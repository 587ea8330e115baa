"""Is the book what the venue says it is: its quality, and its best levels against quotes at equal update ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from gpu_pipeline.book import _quality, _tops
from gpu_pipeline.book._pieces import cut_events
from gpu_pipeline.book._stage import Account, Load, Piece, cells
from gpu_pipeline.core.config import RunConfig
from gpu_pipeline.core.schema import BookEvents, Quotes, Symbol, Tensor
from gpu_pipeline.core.trace import Trace

LEVELS = ("bid_ticks", "bid_lots", "ask_ticks", "ask_lots")
SHOWN = 5


@dataclass
class Comparison:
    """Quotes against the best levels of the book after the message of the same update id.

    Attributes:
        quotes: how many there were; those of an id with which no message ends are not compared.
        compared: how many were.
        equal: those with the same prices and quantities on both sides.
        differences: the first others: update id, and (book, quote) by column.
    """

    quotes: int = 0
    compared: int = 0
    equal: int = 0
    differences: list[dict[str, Any]] = field(default_factory=list)

    def take(self, quotes: Tensor, tops: Tensor) -> None:
        """Compares quotes [Q, 5] with tops [M, 5]: update id and LEVELS, both by rising id."""
        self.quotes += len(quotes)
        if not len(tops):
            return
        at = torch.searchsorted(tops[:, 0].contiguous(), quotes[:, 0].contiguous(), right=True) - 1
        matched = (at >= 0) & (tops[at.clamp(min=0), 0] == quotes[:, 0])
        found, wanted = tops[at[matched]], quotes[matched]
        same = (found == wanted).all(1)
        self.compared += len(same)
        self.equal += int(same.sum())
        for row in torch.nonzero(~same)[: SHOWN - len(self.differences), 0].tolist():
            values = zip(LEVELS, found[row, 1:].tolist(), wanted[row, 1:].tolist(), strict=True)
            told = {name: (book, quote) for name, book, quote in values if book != quote}
            self.differences.append({"update_id": int(wanted[row, 0]), **told})


@dataclass(frozen=True)
class Result:
    """What was found of one symbol.

    Attributes:
        symbol: its name.
        days: rows of the quality table.
        bad: malformed books by kind.
        compared: stream of quotes -> comparison.
    """

    symbol: str
    days: list[dict[str, Any]]
    bad: Mapping[str, int]
    compared: Mapping[str, Comparison]

    def findings(self, feed: Mapping[str, Any]) -> list[str]:
        """What is wrong, a line each; none is a pass.

        Args:
            feed: what ingest counted of the stream.
        """
        lines = [f"{row['day']}: {_listed(_quality.wrong(row))}" for row in self.days if _quality.wrong(row)]
        if any(self.bad.values()):
            lines.append(f"malformed books: {_listed(self.bad)}")
        for stream, found in self.compared.items():
            if found.equal < found.compared:
                lines.append(f"{found.compared - found.equal:,} of {found.compared:,} quotes of '{stream}' differ")
            if not found.compared:
                lines.append(f"no quote of '{stream}' has the update id of a message: nothing was compared")
        gaps = feed.get("messages", {}).get("gaps", 0)
        return [f"{self.symbol}: {line}" for line in (*lines, *([f"gaps in the feed: {gaps:,}"] if gaps else []))]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count)


def audit(
    config: RunConfig,
    symbols: Mapping[str, Symbol],
    book: Load,
    quotes: Mapping[str, Callable[[Symbol], Iterator[Quotes]]],
    trace: Trace,
) -> list[Result]:
    """Looks at every symbol's book as the stage does, malformed books left out and counted.

    Args:
        config: the run.
        symbols: instruments by name.
        book: the pieces of a symbol's book stream.
        quotes: stream of quotes -> its pieces of a symbol; they are compared where the book has update ids.
        trace: hears how far it is.

    Raises:
        InputError: what no form can read.
    """
    assert config.book is not None
    form, options = config.book.plugin.module, config.book.options
    if "on_bad_book" in type(options).model_fields:
        options = options.model_copy(update={"on_bad_book": "drop"})
    results = []
    accounts = {name: Account(options, symbol) for name, symbol in symbols.items()}
    with trace.progress("audit") as ticker:
        for _ in cells(form, options, book, accounts, ticker):
            pass
        for name, account in accounts.items():
            symbol, compared = symbols[name], {}
            if account.has_events:
                compared = {stream: compare(book(symbol), load(symbol)) for stream, load in quotes.items()}
            results.append(Result(symbol.name, account.quality.rows(), account.bad, compared))
    return results


def compare(book: Iterator[Piece], quotes: Iterator[Quotes]) -> Comparison:
    """Merges the best levels after every message and the quotes by update id; memory holds a piece of each."""
    made = Comparison()
    sides = [_Queue(_top_rows(book)), _Queue(map(_quote_rows, quotes))]
    tops, offered = sides
    while not (tops.done and offered.done):
        behind = min((side for side in sides if not side.done), key=lambda side: side.last)
        behind.pull()
        until = min(tops.last, offered.last)
        ready = offered.rows[:, 0] <= until
        made.take(offered.rows[ready], tops.rows)
        offered.rows = offered.rows[~ready]
        tops.rows = tops.rows[tops.rows[:, 0] >= until] if not tops.done else tops.rows
    return made


_END = torch.iinfo(torch.int64).max


class _Queue:
    """Rows [n, 5] by rising update id (the first column) that wait for the other side."""

    def __init__(self, pieces: Iterator[Tensor]) -> None:
        self._pieces = pieces
        self.rows = torch.empty(0, 5, dtype=torch.int64)
        self.last = -1
        self.done = False

    def pull(self) -> None:
        """Takes the next piece, if there is one."""
        piece = next(self._pieces, None)
        if piece is None:
            self.done, self.last = True, _END
            return
        rows = torch.cat((self.rows.to(piece.device), piece[piece[:, 0] >= 0]))
        self.rows = rows[rows[:, 0].argsort(stable=True)]
        self.last = max(self.last, int(self.rows[-1, 0])) if len(self.rows) else self.last


def _quote_rows(quotes: Quotes) -> Tensor:
    return torch.stack([quotes.update_id, *(getattr(quotes, name) for name in LEVELS)], 1)


def _top_rows(book: Iterator[Piece]) -> Iterator[Tensor]:
    state: _tops.State | None = None
    for piece in book:
        assert isinstance(piece, BookEvents)
        tops, _, state = _tops.of_events(piece, state or _tops.start(piece))
        yield _rows(tops)
    if state is not None:
        yield _rows(_tops.of_events(cut_events(state.events, slice(0, 0)), state, closed=True)[0])


def _rows(tops: _tops.Tops) -> Tensor:
    return torch.stack([tops.update_id, *(getattr(tops, name) for name in LEVELS)], 1)
