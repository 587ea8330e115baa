"""The rows of a depth tensor as the columns that book features read: prices and quantities by level.

Axes: T grid times, L levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import CHANNELS, Depth, Symbol

# The grid of the run's book stage is one more resolution; its columns end in `_ob`.
BOOK = "book"


@dataclass(frozen=True)
class BookRows:
    """What features see of a book: cells and when each was known.

    Attributes:
        depth: [T, L, 4] float64 in ticks and lots, channels as in `Depth`.
        known_ns: [T] int64, rising.
        valid: [T] bool; a cell that is missing has no feature.
    """

    symbol: Symbol
    depth: Tensor
    known_ns: Tensor
    valid: Tensor

    @classmethod
    def of(cls, depth: Depth) -> BookRows:
        """The rows of a depth tensor."""
        return cls(depth.symbol, depth.depth, depth.known_ns, depth.valid)

    def __len__(self) -> int:
        return len(self.known_ns)

    @property
    def device(self) -> torch.device:
        """Where the rows live."""
        return self.depth.device

    def select(self, rows: slice | Tensor) -> BookRows:
        """Some of the rows."""
        return replace(self, depth=self.depth[rows], known_ns=self.known_ns[rows], valid=self.valid[rows])


def read_levels(book: BookRows, readers: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """The columns of `readers` (column -> features that need it), float64 [T]; NaN where the cell is missing.

    Prices in quote currency, quantities in base units: ticks and lots divided by their scales.

    Raises:
        InputError: the tensor has fewer levels than a feature reads.
    """
    levels = book.depth.shape[1]
    columns = {}
    for name, users in readers.items():
        channel, _, level = name.rpartition("_")
        if int(level) > levels:
            fix = "raise book.near_levels, or ask for fewer levels"
            raise InputError(f"features: '{users[0]}' needs level {level} of the book, which has {levels}; {fix}")
        scale = book.symbol.price if channel.endswith("price") else book.symbol.quantity
        cells = scale.to_float(book.depth[:, int(level) - 1, CHANNELS.index(channel)])
        columns[name] = torch.where(book.valid, cells, math.nan)
    return columns
