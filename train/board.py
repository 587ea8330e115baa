"""TensorBoard curves of one model; timings live here and nowhere in a manifest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_pipeline.core.store import Output, read_table, write_text

# Beside the events: the key of the model whose curves they are.
KEY = "model.key"


class Board:
    """Writes scalars below `folder`; without one it writes nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        self._since = time.perf_counter()
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            shutil.rmtree(folder, ignore_errors=True)
            self._writer = SummaryWriter(str(folder))

    def steps(self, first: int, losses: Sequence[float], rates: Sequence[float], samples: int = 0) -> None:
        """Training loss and learning rate of steps `first`, `first + 1`, ..., and samples/s unless `samples` is 0."""
        now = time.perf_counter()
        speed, self._since = samples / max(now - self._since, 1e-9), now
        if self._writer is None:
            return
        for step, (loss, rate) in enumerate(zip(losses, rates, strict=True), first):
            self._writer.add_scalar("train/loss", loss, step)
            self._writer.add_scalar("train/lr", rate, step)
        if samples:
            self._writer.add_scalar("train/samples_per_second", speed, first + len(losses) - 1)
        self._writer.flush()

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Losses and AUC of one epoch of the history."""
        self._since = time.perf_counter()
        if self._writer is not None:
            self._writer.add_scalar("epoch/train_loss", row["train_loss"], row["epoch"])
            self._writer.add_scalar("validation/loss", row["validation_loss"], row["epoch"])
            self._writer.add_scalar("validation/auc", row["validation_auc"], row["epoch"])
            self._writer.flush()

    def close(self) -> None:
        """Ends the event file."""
        if self._writer is not None:
            self._writer.close()


def sign(folder: Path, key: str) -> None:
    """Notes whose curves `folder` holds."""
    write_text(folder / KEY, key)


def show(folder: Path, model: Output) -> None:
    """Draws the curves of a finished model again, from its tables, where those of another one or none are."""
    signed = folder / KEY
    if signed.is_file() and signed.read_text() == model.key:
        return
    board = Board(folder)
    steps = read_table(model.path / "steps.parquet").to_pydict()
    board.steps(0, steps["loss"], steps["lr"])
    for row in read_table(model.path / "history.parquet").to_pylist():
        board.epoch(row)
    board.close()
    sign(folder, model.key)
