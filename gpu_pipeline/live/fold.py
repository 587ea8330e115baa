"""The fold of one symbol: trades and pieces of its book in, one row per closed short bar out.

Pieces come in the order in which they are known, in any size: a whole history, a minute, one trade. The rows are those
of the dataset, bit for bit on the CPU, since they are made by the stages' own functions.

Axes: T rows of a window, F columns of a stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gpu_pipeline.bars import _fold
from gpu_pipeline.bars._aggregate import to_bars
from gpu_pipeline.book._pieces import join_depth
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars, BookEvents, BookSnapshots, Depth, Features, Symbol, Trades
from gpu_pipeline.dataset.model_input import model_input
from gpu_pipeline.dataset.streams import book_rows, feature_rows
from gpu_pipeline.features._book import BOOK, BookRows
from gpu_pipeline.features._evaluate import State
from gpu_pipeline.features.engine import Rows
from gpu_pipeline.live.plan import Plan, StreamPlan

CPU = torch.device("cpu")


@dataclass(frozen=True)
class LiveRow:
    """What a model may see when a short bar closes.

    Attributes:
        symbol: its name.
        time_ns: close of the bar.
        known_ns: when that was known, latency included.
        last_trade_row: position of the closing trade in the symbol's trades.
        values: stream -> [F] float32, its last row known then; absent where nothing is known yet.
        windows: stream -> [T, F] float32; empty where the row is no sample: a window is not full, a short-bar feature
            has no value yet, a cell of the book is missing or the book has ended.
    """

    symbol: str
    time_ns: int
    known_ns: int
    last_trade_row: int
    values: Mapping[str, Tensor]
    windows: Mapping[str, Tensor]


@dataclass(frozen=True)
class Tail:
    """The last rows of a stream, as model input.

    Attributes:
        values: [R, F] float32.
        known_ns: [R] int64.
        usable: [R] bool, False where no window may hold the row.
        ready: [R] bool, False where no decision may be made at the row.
        cadence_ns: distance of the cells of a book; -1 where the rows are bars, or before the second cell.
    """

    values: Tensor
    known_ns: Tensor
    usable: Tensor
    ready: Tensor
    cadence_ns: int = -1

    @classmethod
    def empty(cls, width: int) -> Tail:
        """Nothing yet."""
        none = torch.zeros(0, dtype=torch.bool)
        return cls(torch.zeros(0, width, dtype=torch.float32), torch.zeros(0, dtype=torch.int64), none, none)

    def add(self, other: Tail) -> Tail:
        """With the next rows behind."""
        parts = {
            name: torch.cat((getattr(self, name), getattr(other, name)))
            for name in ("values", "known_ns", "usable", "ready")
        }
        return Tail(**parts, cadence_ns=max(self.cadence_ns, other.cadence_ns))

    def last(self, rows: int) -> Tail:
        """The last rows alone."""
        first = max(0, len(self.known_ns) - rows)
        parts = {name: getattr(self, name)[first:].clone() for name in ("values", "known_ns", "usable", "ready")}
        return Tail(**parts, cadence_ns=self.cadence_ns)


@dataclass
class SymbolFold:
    """The state of one symbol, moved on by `take_trades`, `take_book` and `take_bars`.

    Attributes:
        trades: how many were taken.
        books: how many snapshots or events of the book were taken.
        started: streams whose first row with finite short-bar features has passed: earlier rows stand in no window.
    """

    symbol: Symbol
    plan: Plan
    trades: int = 0
    books: int = 0
    bars: dict[str, Tensor] = field(default_factory=dict)
    features: State = field(default_factory=dict)
    book: Any = None
    cells: list[Depth] = field(default_factory=list)
    tails: dict[str, Tail] = field(default_factory=dict)
    started: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._none: dict[str, Bars] = {}
        if not self.features:
            self.features = self.plan.engine.start(CPU)
        for stream in self.plan.streams:
            self.tails.setdefault(stream.name, Tail.empty(len(stream.fitted.columns)))
            self.started.setdefault(stream.name, False)

    @torch.inference_mode()
    def take_book(self, piece: BookSnapshots | BookEvents) -> None:
        """Moves the book on; what cells show of it is decided when a later piece or trade has passed them."""
        if self.plan.form is None or not len(piece):
            return
        self.books += len(piece)
        depth, self.book = self.plan.form.step(piece, self.plan.options, self.book)
        self._take_cells(depth)

    @torch.inference_mode()
    def take_trades(self, trades: Trades) -> Iterator[LiveRow]:
        """Rows of the short bars that close with these trades, which follow the earlier ones.

        Raises:
            InputError: trades are missing before these, or go back in time.
        """
        if not len(trades):
            return
        if trades.first_row != self.trades:
            raise InputError(
                f"live: trades of {self.symbol.name} begin at row {trades.first_row:,}, but {self.trades:,} were taken;"
                " feed them without a gap, or start from the first"
            )
        self._pass_cells(int(trades.time_ns[-1]) - 1)
        self.trades += len(trades)
        sums, self.bars = _fold.step(trades, self.plan.chains, self.bars)
        needed = [chain for chain in self.plan.chains if chain.resolution in self.plan.engine.needed]
        if not self.cells and not any(sums[chain.resolution].shape[1] for chain in needed):
            return
        tables = {chain.resolution: self._table(chain, sums, trades.has_side) for chain in needed}
        yield from self._fold_features(tables)

    def _table(self, chain: _fold.Chain, sums: Mapping[str, Tensor], has_side: bool) -> Rows:
        """The bars of a chain that closed; mostly none did, and they are made once."""
        closed = sums[chain.resolution]
        if closed.shape[1]:
            return to_bars(closed, self.symbol, chain.name, has_side=has_side)
        if chain.resolution not in self._none:
            self._none[chain.resolution] = to_bars(closed, self.symbol, chain.name, has_side=has_side)
        return self._none[chain.resolution]

    @torch.inference_mode()
    def take_bars(self, bars: Bars) -> Iterator[LiveRow]:
        """Rows of closed short bars, where the plan needs nothing else (`Plan.refuse_bars_alone`)."""
        yield from self._fold_features({self.plan.engine.base: bars})

    def _fold_features(self, tables: dict[str, Rows]) -> Iterator[LiveRow]:
        if BOOK in self.plan.engine.needed:
            tables[BOOK] = self._book_rows()
        features, self.features = self.plan.engine.step(tables, self.features)
        self.cells = []
        if len(features):
            yield from self._rows(features)

    def _book_rows(self) -> BookRows:
        if self.cells:
            return BookRows.of(join_depth(self.cells))
        none = torch.zeros(0, dtype=torch.int64)
        return BookRows(self.symbol, torch.zeros(0, 1 << 10, 4, dtype=torch.float64), none, none.bool())

    def _pass_cells(self, until_ns: int) -> None:
        """Cells whose moment is at or before a time are due: what is not known by then is too late for them."""
        if self.plan.form is None or self.book is None:
            return
        latest_ns = self.book.latest_ns
        depth, book = self.plan.form.end(self.plan.options, self.book, until_ns)
        # A later piece may hold news that the venue dates earlier.
        self.book = replace(book, latest_ns=latest_ns)
        self._take_cells(depth)

    def _take_cells(self, depth: Depth) -> None:
        if not len(depth):
            return
        if BOOK in self.plan.engine.needed:
            self.cells.append(depth)
        for stream in self.plan.streams:
            if stream.of_book:
                rows = book_rows(stream.name, stream.section, [depth])
                width = len(stream.fitted.columns)
                values = model_input(rows.values[:, :width], stream.fitted)
                cadence = max(self.tails[stream.name].cadence_ns, self._cadence(depth))
                made = Tail(values, rows.known_ns, ~rows.missing, rows.ready, cadence)
                self.tails[stream.name] = self.tails[stream.name].add(made)

    def _cadence(self, depth: Depth) -> int:
        return int(depth.time_ns[1] - depth.time_ns[0]) if len(depth) > 1 else -1

    def _rows(self, features: Features) -> Iterator[LiveRow]:
        before = {stream.name: len(self.tails[stream.name].known_ns) for stream in self.plan.streams}
        for stream in self.plan.streams:
            if not stream.of_book:
                self._take_features(stream, features)
        decision = next(stream for stream in self.plan.streams if stream.name == self.plan.decision)
        for row in range(len(features)):
            known_ns = int(features.known_ns[row]) + decision.latency_ns
            yield self._row(features, row, known_ns, before)
        longest = {stream.name: stream.window for stream in self.plan.streams}
        last_ns = int(features.known_ns[-1]) + decision.latency_ns
        for stream in self.plan.streams:
            # Cells that this decision could not see yet stay, with a window of rows before them.
            unseen = int((self.tails[stream.name].known_ns >= last_ns).sum()) if not stream.same_bars else 0
            self.tails[stream.name] = self.tails[stream.name].last(longest[stream.name] + unseen)

    def _take_features(self, stream: StreamPlan, features: Features) -> None:
        rows = feature_rows(stream.name, stream.section, [features], stream.listed)
        values = model_input(rows.values, stream.fitted)
        started = rows.ready.cummax(0).values | self.started[stream.name]
        self.started[stream.name] = bool(started[-1])
        made = Tail(values, rows.known_ns, started & ~rows.missing, rows.ready)
        self.tails[stream.name] = self.tails[stream.name].add(made)

    def _row(self, features: Features, row: int, known_ns: int, before: Mapping[str, int]) -> LiveRow:
        values, windows, full = {}, {}, True
        for stream in self.plan.streams:
            tail = self.tails[stream.name]
            at = before[stream.name] + row if stream.same_bars else _last_before(tail.known_ns, known_ns)
            if at >= 0:
                values[stream.name] = tail.values[at]
            begin = at + 1 - stream.window
            full = (
                full
                and begin >= 0
                and bool(tail.usable[begin : at + 1].all())
                and self._fits(stream, tail, at, known_ns)
            )
            if full:
                windows[stream.name] = tail.values[begin : at + 1]
        return LiveRow(
            symbol=self.symbol.name,
            time_ns=int(features.time_ns[row]),
            known_ns=known_ns,
            last_trade_row=int(features.last_trade_row[row]),
            values=values,
            windows=windows if full else {},
        )

    def _fits(self, stream: StreamPlan, tail: Tail, at: int, known_ns: int) -> bool:
        if stream.name == self.plan.decision:
            return bool(tail.ready[at])
        return tail.cadence_ns < 0 or known_ns - int(tail.known_ns[at]) <= tail.cadence_ns


def _last_before(known_ns: Tensor, moment_ns: int) -> int:
    return int(torch.searchsorted(known_ns, moment_ns)) - 1
