"""Order-book snapshots on a fixed grid: near levels as they are, deeper ones in bins (DESIGN 4.5)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from gpu_pipeline.book._check import check
from gpu_pipeline.book._grid import cells
from gpu_pipeline.core.config import Duration
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import BookSnapshots, Depth
from gpu_pipeline.core.units import parse_duration
from kernels.depth import depth_tensor


class DeepBins(Options):
    """Bins of equally many levels behind the near ones.

    Attributes:
        count: number of bins.
        levels_each: levels in one bin.
        up_to: the last level that is binned, instead of `levels_each`.
    """

    count: int = Field(gt=0)
    levels_each: int | None = Field(default=None, gt=0)
    up_to: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.levels_each is None) == (self.up_to is None):
            raise ValueError("needs exactly one of 'levels_each' and 'up_to' (the last level that is binned)")
        return self

    def sizes(self, near_levels: int) -> list[int]:
        """Levels of each bin."""
        each = self.levels_each or ((self.up_to or 0) - near_levels) // self.count
        return [each] * self.count


class Config(Options):
    """The grid, and how deep the tensor is.

    Attributes:
        cadence: distance of grid times, which are multiples of it since 1970 UTC.
        tolerance: a cell at g sees snapshots up to g + tolerance, and is known then.
        max_gap: oldest snapshot that may stand for a cell; None means six times the cadence.
        near_levels: best levels kept as they are.
        deep_bins: bins behind them, or None.
        fill: how cells older than the cadence are filled.
    """

    cadence: Duration = "10s"
    tolerance: Duration = "0ms"
    max_gap: Duration | None = None
    near_levels: int = Field(default=50, gt=0)
    deep_bins: DeepBins | None = DeepBins(count=10, levels_each=10)
    fill: Literal["forward_fill"] = "forward_fill"

    @property
    def max_gap_ns(self) -> int:
        """The oldest snapshot that may stand for a cell, in nanoseconds."""
        return 6 * parse_duration(self.cadence) if self.max_gap is None else parse_duration(self.max_gap)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if parse_duration(self.cadence) <= 0:
            raise ValueError(f"cadence must be longer than 0, got {self.cadence}")
        if self.max_gap_ns < parse_duration(self.cadence):
            raise ValueError(f"max_gap must be at least the cadence ({self.cadence}), got {self.max_gap}")
        deep = self.deep_bins
        if deep and deep.up_to and (deep.up_to <= self.near_levels or (deep.up_to - self.near_levels) % deep.count):
            raise ValueError(
                f"deep_bins.up_to less near_levels must be a multiple of count: {deep.up_to} - {self.near_levels} "
                f"levels do not make {deep.count} equal bins"
            )
        return self


def make(snapshots: BookSnapshots, config: Config) -> Depth:
    """The depth tensor of snapshots on the grid of the configuration.

    Missing cells have quantity 0, price NaN and `valid` False.

    Raises:
        InputError: a malformed snapshot (time and row are named), or ticks and lots that float64 cannot hold.
    """
    check(snapshots)
    grid = cells(snapshots, parse_duration(config.cadence), parse_duration(config.tolerance), config.max_gap_ns)
    sizes = config.deep_bins.sizes(config.near_levels) if config.deep_bins else []
    try:
        depth, beyond = depth_tensor(
            snapshots.price_ticks,
            snapshots.quantity_lots,
            snapshots.offsets,
            snapshots.bid_count,
            grid.rows,
            config.near_levels,
            sizes,
        )
    except ValueError as error:
        raise InputError(f"book of {snapshots.symbol.name}: {error}") from error
    return Depth(
        symbol=snapshots.symbol,
        depth=depth,
        beyond=beyond,
        time_ns=grid.time_ns,
        known_ns=grid.known_ns,
        age_ns=grid.age_ns,
        valid=grid.rows >= 0,
        filled=grid.filled,
    )
