"""The stage: one safetensors file of depth per symbol, and the quality of each day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from gpu_pipeline.book import _quality
from gpu_pipeline.book._depth_file import depth_file, load_depth
from gpu_pipeline.book._quality import Quality
from gpu_pipeline.core.config import RunConfig
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import BookEvents, BookSnapshots, Depth, Symbol
from gpu_pipeline.core.store import write_table
from gpu_pipeline.core.trace import Ticker, Trace
from gpu_pipeline.core.units import parse_duration

Piece = BookSnapshots | BookEvents
Load = Callable[[Symbol], Iterator[Piece]]
QUALITY = "quality.parquet"
# What a form without such keys of its own gets.
JUMP_PERCENT, MAX_GAP_NS = 5.0, parse_duration("60s")


def write(folder: Path, config: RunConfig, symbols: dict[str, Symbol], book: Load, trace: Trace) -> dict[str, Any]:
    """Writes `folder/{SYMBOL}.safetensors`, ticks and lots in float64, for every symbol, and `quality.parquet`.

    Args:
        folder: where the files go.
        config: the run.
        symbols: instruments by name.
        book: the pieces of a symbol's book stream in time order.
        trace: hears how far it is.

    Returns:
        what the manifest says: rows in, grid times out, counts per symbol, and the quality of each symbol and day.

    Raises:
        InputError: a malformed book, or an empty stream.
    """
    assert config.book is not None
    form, options = config.book.plugin.module, config.book.options
    accounts: dict[str, Any] = {}
    quality: list[dict[str, Any]] = []
    with trace.progress("book") as ticker:
        for symbol in symbols.values():
            account = Account(options, symbol)
            with depth_file(folder / f"{symbol.name}.safetensors") as file:
                for depth in cells(form, options, book(symbol), account, ticker):
                    file.append(depth)
            accounts[symbol.name] = account.to_json()
            quality += account.quality.rows()
    write_table(folder / QUALITY, _quality.table(quality))
    return {
        "rows_in": sum(account["rows_in"] for account in accounts.values()),
        "rows_out": sum(account["cells"] for account in accounts.values()),
        "note": f"{config.book.form}; rows are grid times",
        "symbols": accounts,
        "quality": quality,
    }


class Account:
    """What one symbol's stream was, and what became of it."""

    def __init__(self, options: Options, symbol: Symbol) -> None:
        max_gap_ns = getattr(options, "max_gap_ns", MAX_GAP_NS)
        self.quality = Quality(symbol, max_gap_ns, getattr(options, "jump_percent", JUMP_PERCENT))
        self.bad: dict[str, int] = {}
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
        shape = {"levels": self._levels, "span_ns": self._span}
        return {"rows_in": sum(self._rows.values()), **found, **counts, **bad, **shape}


def cells(
    form: ModuleType, options: Options, pieces: Iterator[Piece], account: Account, ticker: Ticker
) -> Iterator[Depth]:
    """The cells of one symbol, piece by piece, each counted as it goes by.

    Raises:
        InputError: a malformed book.
    """
    state = None
    for piece in pieces:
        account.take(piece)
        depth, state = form.step(piece, options, state)
        account.give(depth)
        yield depth
        ticker.advance(len(piece), piece.symbol.name)
    if state is not None:
        depth, state = form.end(options, state)
        account.quality.close()
        account.give(depth)
        account.bad = dict(getattr(state, "bad", {}))
        yield depth


def load(folder: Path, symbol: Symbol, device: torch.device) -> Depth:
    """The depth tensor of a symbol.

    Raises:
        InputError: there is none, or the file is damaged.
    """
    return load_depth(folder / f"{symbol.name}.safetensors", device)
