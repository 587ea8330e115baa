"""Adaptive depth: how many levels of a book the training part fills (DESIGN 4.8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import CHANNELS
from gpu_pipeline.dataset.streams import Rows

QUANTITIES = [CHANNELS.index("bid_quantity"), CHANNELS.index("ask_quantity")]


@dataclass(frozen=True)
class KeptLevels:
    """What was fitted.

    Attributes:
        min_nonzero: what was asked for.
        nonzero: [L] per level, training rows with a quantity: of the asset and side that has the fewest.
        kept: the prefix of levels that all have enough.
    """

    min_nonzero: int
    nonzero: tuple[int, ...]
    kept: int

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {"min_nonzero": self.min_nonzero, "kept": self.kept, "nonzero": list(self.nonzero)}


def fit_levels(rows: Rows, spans: Sequence[tuple[int, int]]) -> KeptLevels | None:
    """The prefix of levels common to all assets and sides, fitted on training rows alone; None where not asked for.

    Args:
        rows: a book stream.
        spans: its training rows, one span for each symbol whose rows they are.

    Raises:
        InputError: not even the best level has enough.
    """
    if rows.section.levels is None:
        return None
    least = rows.section.levels.min_nonzero
    counts = torch.cat([_nonzero(rows, lo, hi) for lo, hi in spans], dim=1).min(1).values
    kept = int((counts >= least).to(torch.int64).cumprod(0).sum())
    if not kept:
        raise InputError(
            f"dataset.streams.{rows.name}.levels: an asset and side has its best level in {int(counts[0]):,} training "
            f"rows only (min_nonzero {least:,}); lower min_nonzero, use more data or leave that asset out"
        )
    return KeptLevels(least, tuple(counts.tolist()), kept)


def keep_levels(rows: Rows, found: KeptLevels | None) -> Rows:
    """The stream with the columns of those levels alone."""
    if found is None:
        return rows
    width = len(rows.columns) // len(found.nonzero) * found.kept
    return replace(rows, columns=rows.columns[:width], values=rows.values[:, :width])


def _nonzero(rows: Rows, start: int, stop: int) -> Tensor:
    """[L, sides x assets] int64: rows of a span with a quantity there."""
    beside = max(1, len(rows.assets))
    cells = rows.values[start:stop].unflatten(1, (-1, len(CHANNELS), beside))
    return (cells[:, :, QUANTITIES] != 0).sum(0).flatten(1)
