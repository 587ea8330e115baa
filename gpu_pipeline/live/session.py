"""A session: a feed through the engine into an output, with checkpoints between pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from gpu_pipeline.core.trace import Ticker
from gpu_pipeline.live.engine import LiveEngine, Predict
from gpu_pipeline.live.feed import Piece
from gpu_pipeline.live.fold import LiveRow
from gpu_pipeline.live.plan import Plan


class Output(Protocol):
    """Where rows go."""

    def write(self, row: LiveRow, predicted: Mapping[str, Mapping[str, float]]) -> None:
        """Takes a row."""

    def close(self) -> None:
        """Everything was written."""


Open = Callable[[Plan], Output]


def run_session(
    engine: LiveEngine,
    pieces: Iterable[Piece],
    out: Output,
    predict: Predict,
    ticker: Ticker,
    checkpoint: Path | None = None,
    every: int = 1000,
) -> None:
    """Feeds the pieces; rows go to `out`, which is closed at the end, whatever happens.

    The state is written to `checkpoint` after every `every` rows and when the feed ends or is interrupted, always
    between two pieces: a row that was written is in the state, and one that is in the state was written.
    """
    saved, whole = engine.rows, True
    try:
        for piece in pieces:
            whole = False
            for row in engine.take(piece):
                out.write(row, predict(row))
            whole = True
            ticker.advance(len(piece), piece.symbol.name)
            if checkpoint is not None and engine.rows - saved >= every:
                engine.save(checkpoint)
                saved = engine.rows
    finally:
        out.close()
        if checkpoint is not None and whole:
            engine.save(checkpoint)
