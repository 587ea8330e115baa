"""`fill: linear`: filled cells that stand between two snapshots (DESIGN 4.5).

A cell at grid time g is decided at its moment m = g + tolerance, from what was known by m and nothing else. It is
filled where the last snapshot that it can see is older at m than the cadence. Interpolation at g needs a snapshot on
either side of g, and both must be known by m: the one before is the last known that is dated at or before g, the one
after is the first known that is dated behind g, hence in (g, m]. What the cell shows is, per level and channel in
float64, before + (after - before) x (g - time before) / (time after - time before). `age_ns` still counts from the last
snapshot that the cell can see.

A filled cell's last snapshot is older than the cadence, so one that lies behind g exists only where the tolerance is
longer than the cadence: with a shorter one nothing is ever interpolated. What becomes known after m never changes the
cell: a late snapshot right behind g does not stand for "the one after", and does not bar the next that is known either.

A filled cell is forward filled where it has no such pair, where the two are further apart than `max_gap`, or where one
of them lacks a side that the other has. Lots beyond the last level are interpolated too, to the nearest whole lot.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from gpu_pipeline.book._grid import Between, Grid
from gpu_pipeline.book._seen import last_known, needed
from gpu_pipeline.core.schema import BookSnapshots, Tensor


def find_between(books: BookSnapshots, moments: Tensor, rows: Tensor, grid: Grid) -> Between:
    """The filled cells that stand between two snapshots.

    Args:
        books: S snapshots by rising time.
        moments: [T] int64 moments of the cells.
        rows: [T] int64 the snapshot that each sees, -1 where it is missing.
        grid: cadence, tolerance and max_gap.
    """
    grid_ns = moments - grid.tolerance_ns
    cells = torch.nonzero(rows >= 0)[:, 0]
    last_ns = books.time_ns[rows[cells]]
    cells = cells[(moments[cells] - last_ns > grid.cadence_ns) & (last_ns > grid_ns[cells])]
    before = last_known(books, moments[cells], grid.tolerance_ns)
    cells, before = cells[before >= 0], before[before >= 0]
    after = _first_known_behind(books, grid_ns[cells], moments[cells])
    apart = books.time_ns[after] - books.time_ns[before]
    fit = (apart <= grid.max_gap_ns) & (_sides(books)[before] == _sides(books)[after]).all(1)
    share = (grid_ns[cells] - books.time_ns[before]).double() / apart.double()
    return Between(cells[fit], before[fit], after[fit], share[fit])


def _first_known_behind(books: BookSnapshots, grid_ns: Tensor, moments: Tensor) -> Tensor:
    """[K] int64: the first snapshot behind a time that is known by a moment; there is one."""
    after = torch.searchsorted(books.time_ns, grid_ns, right=True)
    while bool((late := books.known_ns[after] > moments).any()):
        after = after + late
    return after


def _sides(books: BookSnapshots) -> Tensor:
    """[S, 2] bool: whether a snapshot has bids, and asks."""
    return torch.stack((books.bid_count > 0, books.bid_count < books.offsets.diff()), 1)


def needed_between(books: BookSnapshots, moment: int, grid: Grid) -> Tensor:
    """[S] bool: what can stand on either side of a grid time whose cell is decided at or after a moment."""
    return needed(books, moment, grid.tolerance_ns) | (books.time_ns > moment - grid.tolerance_ns)


def interpolate(
    depth: Tensor, beyond: Tensor, between: Between, cells_of: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> None:
    """Puts the interpolated cells into a depth tensor.

    Args:
        depth: [T, L, 4] float64, changed in place.
        beyond: [T, 2] int64, changed in place.
        between: the cells, and their snapshots.
        cells_of: depth and lots beyond of the snapshots of numbers [K].
    """
    (low, rest_low), (high, rest_high) = cells_of(between.before), cells_of(between.after)
    depth[between.cells] = low + (high - low) * between.share[:, None, None]
    moved = (rest_high - rest_low).double() * between.share[:, None]
    beyond[between.cells] = rest_low + moved.round().long()
