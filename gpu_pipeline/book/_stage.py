"""The stage: one safetensors file of depth per symbol, and the quality of each day."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from gpu_pipeline.book import _quality
from gpu_pipeline.book._depth_file import depth_file, load_depth
from gpu_pipeline.book._quality import Quality
from gpu_pipeline.core.config import RunConfig
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import BookEvents, BookSnapshots, Depth, Symbol
from gpu_pipeline.core.store import write_table
from gpu_pipeline.core.trace import Ticker, Trace
from gpu_pipeline.core.units import DAY_NS, parse_duration

Piece = BookSnapshots | BookEvents
Load = Callable[[Symbol], Iterator[Piece]]
QUALITY = "quality.parquet"
# What a form without such keys of its own gets.
JUMP_PERCENT, MAX_GAP_NS = 5.0, parse_duration("60s")


def write(
    folder: Path,
    config: RunConfig,
    symbols: dict[str, Symbol],
    book: Load,
    trace: Trace,
    origin: Callable[[Symbol], str] | None = None,
) -> dict[str, Any]:
    """Writes `folder/{SYMBOL}.safetensors`, ticks and lots in float64, for every symbol, and `quality.parquet`.

    All grids end together, at the latest time of any symbol's book.

    Args:
        folder: where the files go.
        config: the run.
        symbols: instruments by name.
        book: the pieces of a symbol's book stream in time order.
        trace: hears how far it is.
        origin: what a symbol's book was read from, for messages.

    Returns:
        what the manifest says: rows in, grid times out, counts per symbol, and the quality of each symbol and day.

    Raises:
        InputError: a malformed book, or an empty stream.
    """
    assert config.book is not None
    form, options = config.book.plugin.module, config.book.options
    accounts = {name: Account(options, symbol) for name, symbol in symbols.items()}
    with trace.progress("book") as ticker, ExitStack() as stack:
        paths = {name: folder / f"{name}.safetensors" for name in symbols}
        files = {name: stack.enter_context(depth_file(path)) for name, path in paths.items()}
        for name, depth in cells(form, options, book, accounts, ticker, origin):
            files[name].append(depth)
    told = {name: account.to_json() for name, account in accounts.items()}
    quality = [row for account in accounts.values() for row in account.quality.rows()]
    write_table(folder / QUALITY, _quality.table(quality))
    return {
        "rows_in": sum(account["rows_in"] for account in told.values()),
        "rows_out": sum(account["cells"] for account in told.values()),
        "note": f"{config.book.form}; rows are grid times",
        "symbols": told,
        "quality": quality,
    }


class Account:
    """What one symbol's stream was, and what became of it."""

    def __init__(self, options: Options, symbol: Symbol) -> None:
        self.symbol = symbol
        self.latest_ns = -1
        max_gap_ns = getattr(options, "max_gap_ns", MAX_GAP_NS)
        self.quality = Quality(symbol, max_gap_ns, getattr(options, "jump_percent", JUMP_PERCENT))
        self.bad: dict[str, int] = {}
        self.interpolated = 0
        self._rows = {"snapshots": 0, "events": 0}
        self._span: list[int] | None = None
        self._levels = 0

    @property
    def has_events(self) -> bool:
        """Whether the stream held events."""
        return self._rows["events"] > 0

    def take(self, piece: Piece) -> None:
        """Counts a piece."""
        self._rows["events" if isinstance(piece, BookEvents) else "snapshots"] += len(piece)
        self.quality.add(piece)
        if len(piece):
            self.latest_ns = max(self.latest_ns, int(piece.time_ns.max()))

    def give(self, depth: Depth) -> None:
        """Counts cells."""
        self._levels = depth.depth.shape[1]
        self.quality.cells(depth)
        if len(depth):
            self._span = [(self._span or [int(depth.time_ns[0])])[0], int(depth.time_ns[-1])]

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        rows = self.quality.rows()
        counts = {name: sum(row[name] for row in rows) for name in ("cells", "fresh", "filled", "missing")}
        found = {kind: count for kind, count in self._rows.items() if count}
        bad = {"bad_books": {kind: count for kind, count in self.bad.items() if count}}
        counts["interpolated"] = self.interpolated
        shape = {"levels": self._levels, "span_ns": self._span}
        return {"rows_in": sum(self._rows.values()), **found, **counts, **bad, **shape}


def cells(
    form: ModuleType,
    options: Options,
    book: Load,
    accounts: Mapping[str, Account],
    ticker: Ticker,
    origin: Callable[[Symbol], str] | None = None,
) -> Iterator[tuple[str, Depth]]:
    """The cells of every symbol, piece by piece, each counted as it goes by; then the rest of each to a common end.

    A feed that ends before another is silent from then on, as it would be seen live: filled as far as `max_gap`, then
    missing. Without this its last cells would tell that nothing follows.

    Args:
        form: the book form.
        options: of the form.
        book: the pieces of a symbol's stream in time order.
        accounts: what counts each symbol.
        ticker: hears how far it is.
        origin: what a symbol's book was read from, for messages.

    Raises:
        InputError: a malformed book.
    """
    states: dict[str, Any] = {}
    for name, account in accounts.items():
        for piece in book(account.symbol):
            account.take(piece)
            with _named(origin, account.symbol):
                depth, states[name] = form.step(piece, options, states.get(name))
            account.give(depth)
            yield name, depth
            ticker.advance(len(piece), name)
        account.quality.close()
    until_ns = max((account.latest_ns for account in accounts.values()), default=-1)
    for name, state in states.items():
        with _named(origin, accounts[name].symbol):
            for depth in _rest(form, options, state, accounts[name], until_ns):
                yield name, depth


@contextmanager
def _named(origin: Callable[[Symbol], str] | None, symbol: Symbol) -> Iterator[None]:
    """Puts what the book was read from before a message."""
    try:
        yield
    except InputError as error:
        if origin is None:
            raise
        raise InputError(f"{origin(symbol)}: {error}") from error


def _rest(form: ModuleType, options: Options, state: Any, account: Account, until_ns: int) -> Iterator[Depth]:
    """The cells up to a time at or behind the stream's last one, a day of them at once."""
    first_ns = account.latest_ns if account.latest_ns >= 0 else until_ns
    for moment in (*range(first_ns, until_ns, DAY_NS), until_ns):
        depth, state = form.end(options, state, moment)
        account.give(depth)
        yield depth
    account.bad = dict(getattr(state, "bad", {}))
    account.interpolated = getattr(state, "interpolated", 0)


def load(folder: Path, symbol: Symbol, device: torch.device) -> Depth:
    """The depth tensor of a symbol.

    Raises:
        InputError: there is none, or the file is damaged.
    """
    return load_depth(folder / f"{symbol.name}.safetensors", device)
