"""TensorBoard curves of one model; timings live here and nowhere in a manifest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Board:
    """Writes scalars below `folder`; without one it writes nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        self._since = time.perf_counter()
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            shutil.rmtree(folder, ignore_errors=True)
            self._writer = SummaryWriter(str(folder))

    def steps(self, first: int, losses: Sequence[float], rates: Sequence[float], samples: int) -> None:
        """Training loss and learning rate of steps `first`, `first + 1`, ..., and samples/s over all of them."""
        now = time.perf_counter()
        speed, self._since = samples / max(now - self._since, 1e-9), now
        if self._writer is None:
            return
        for step, (loss, rate) in enumerate(zip(losses, rates, strict=True), first):
            self._writer.add_scalar("train/loss", loss, step)
            self._writer.add_scalar("train/lr", rate, step)
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
