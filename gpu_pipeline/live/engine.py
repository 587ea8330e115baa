"""The engine: pieces in, rows out, with a state that can be saved at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars, Symbol, Trades
from gpu_pipeline.live.feed import Piece
from gpu_pipeline.live.fold import LiveRow, SymbolFold
from gpu_pipeline.live.plan import Plan
from gpu_pipeline.live.state import load_live, save_live

# Windows of a row in, probability by model and class out.
Predict: TypeAlias = Callable[[LiveRow], Mapping[str, Mapping[str, float]]]


class LiveEngine:
    """Folds of all symbols of a run.

    Attributes:
        plan: what was trained.
        folds: by symbol.
        rows: how many rows came out, over all states that went on from each other.
    """

    def __init__(self, plan: Plan, symbols: Mapping[str, Symbol]) -> None:
        self.plan = plan
        self.folds = {name: SymbolFold(symbol, plan) for name, symbol in symbols.items()}
        self.rows = 0

    @classmethod
    def restore(cls, folder: Path, plan: Plan) -> LiveEngine:
        """Goes on from a saved state.

        Raises:
            InputError: the state is missing or damaged, or belongs to another run.
        """
        engine = cls(plan, {})
        engine.folds, note = load_live(folder, plan)
        engine.rows = int(note["rows"])
        return engine

    def save(self, folder: Path) -> None:
        """Writes the state, whole or not at all."""
        save_live(folder, self.plan, self.folds, {"rows": self.rows})

    def take(self, piece: Piece) -> Iterator[LiveRow]:
        """Rows that a piece makes; pieces of a symbol come in the order in which they are known.

        Raises:
            InputError: an unknown symbol, a gap in the trades, a malformed book, or bars where they are not enough.
        """
        if piece.symbol.name not in self.folds:
            raise InputError(f"live: no symbol '{piece.symbol.name}'; there are {', '.join(self.folds)}")
        fold = self.folds[piece.symbol.name]
        for row in self._made(fold, piece):
            self.rows += 1
            yield row

    def _made(self, fold: SymbolFold, piece: Piece) -> Iterable[LiveRow]:
        if isinstance(piece, Trades):
            return fold.take_trades(piece)
        if isinstance(piece, Bars):
            self.plan.refuse_bars_alone()
            return fold.take_bars(piece)
        fold.take_book(piece)
        return ()

    @property
    def taken(self) -> dict[str, int]:
        """Trades of each symbol so far."""
        return {name: fold.trades for name, fold in self.folds.items()}


def to_json(row: LiveRow, plan: Plan, predicted: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, Any]:
    """A row as plain values: model input by stream and column, whether it is a sample, and predictions."""
    columns = {stream.name: stream.fitted.columns for stream in plan.streams}
    return {
        "symbol": row.symbol,
        "time_ns": row.time_ns,
        "known_ns": row.known_ns,
        "last_trade_row": row.last_trade_row,
        "sample": bool(row.windows),
        "input": {name: dict(zip(columns[name], values.tolist(), strict=True)) for name, values in row.values.items()},
        **({"predicted": predicted} if predicted else {}),
    }
