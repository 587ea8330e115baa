"""Books of several assets side by side, on the grid of one of them (DESIGN 4.5).

A row is a grid time of the reference asset, and takes every asset's cell of that very time: `book` has decided by then
what the cell sees, how old it is and whether it is filled or missing. An asset without such a cell, or whose cell is
missing, shows no prices and quantity 0 there. All symbols see the same rows, each strictly after the row is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpu_pipeline.core.config import StreamSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import CHANNELS, Depth
from gpu_pipeline.core.units import format_step, parse_duration
from gpu_pipeline.dataset.streams import Rows, book_values, checked, has_touch, levels_of

REFERENCE_MISSING = "reference_missing"
TOO_FEW = "too_few_assets"


def aligned_rows(name: str, section: StreamSection, parts: Sequence[Depth]) -> Rows:
    """Rows of a `from: book` stream of several assets: L levels x 4 channels x A assets, the last one fastest.

    A row stands in no window where the reference asset is missing, or fewer than `min_assets_required` are not.

    Args:
        name: of the stream.
        section: of the stream.
        parts: depth of each asset, in the order of the columns.

    Raises:
        InputError: assets differ in cadence, grid or levels, or the reference asset is not there or has no cell.
    """
    assets = tuple(part.symbol.name for part in parts)
    place, least = reference_of(name, section, assets), least_of(name, section, assets)
    levels, grid = levels_of(name, parts), parts[place]
    _require_one_grid(name, parts, grid)
    values = grid.depth.new_empty(len(grid), levels, len(CHANNELS), len(assets))
    here = torch.zeros(len(grid), len(assets), dtype=torch.bool, device=grid.time_ns.device)
    filled = torch.zeros_like(here)
    known_ns = grid.known_ns.clone()
    for number, part in enumerate(parts):
        row, inside = _cells(part, grid)
        depth = part.depth[row] if len(part) else torch.zeros_like(values[..., number])
        if len(part):
            here[:, number] = inside & has_touch(part)[row]
            filled[:, number] = here[:, number] & part.filled[row]
            known_ns = torch.where(inside, torch.maximum(known_ns, part.known_ns[row]), known_ns)
        made = book_values(depth, here[:, number], section.price, section.quantity)
        values[..., number] = made.reshape(-1, levels, len(CHANNELS))
    barred = {REFERENCE_MISSING: ~here[:, place], TOO_FEW: here.sum(1) < least}
    return checked(
        Rows(
            name=name,
            section=section,
            columns=tuple(f"{c}_{level}_{asset}" for level in range(levels) for c in CHANNELS for asset in assets),
            values=values.flatten(1),
            time_ns=grid.time_ns,
            known_ns=known_ns + parse_duration(section.latency),
            offsets=(0, len(grid)),
            first=(0,),
            missing=barred[REFERENCE_MISSING] | barred[TOO_FEW],
            ready=here[:, place],
            assets=assets,
            barred=barred,
            filled=filled.sum(1),
            missing_cells=dict(zip(assets, (~here).sum(0).tolist(), strict=True)),
            cadence_ns=_cadence(name, grid),
        )
    )


def reference_of(name: str, section: StreamSection, assets: Sequence[str]) -> int:
    """The place of the reference asset, by default the first.

    Raises:
        InputError: it is none of the assets.
    """
    reference = section.reference or assets[0]
    if reference not in assets:
        raise InputError(
            f"dataset.streams.{name}.reference: no asset of this name (value {reference}); "
            f"there are {', '.join(assets)}"
        )
    return assets.index(reference)


def least_of(name: str, section: StreamSection, assets: Sequence[str]) -> int:
    """How many assets must not be missing, by default all of them.

    Raises:
        InputError: more than there are.
    """
    least = section.min_assets_required or len(assets)
    if least > len(assets):
        raise InputError(
            f"dataset.streams.{name}.min_assets_required: there are only {len(assets)} assets (value {least})"
        )
    return least


def _cells(part: Depth, grid: Depth) -> tuple[Tensor, Tensor]:
    """For each time of the reference grid: the row of the asset's cell [T] int64, and whether there is one [T] bool."""
    if not len(part):
        nowhere = torch.zeros_like(grid.time_ns)
        return nowhere, nowhere.bool()
    row = torch.searchsorted(part.time_ns, grid.time_ns).clamp(max=len(part) - 1)
    return row, part.time_ns[row] == grid.time_ns


def _require_one_grid(name: str, parts: Sequence[Depth], grid: Depth) -> None:
    if not len(grid):
        raise InputError(
            f"dataset.streams.{name}: the reference asset {grid.symbol.name} has no cell; use more data or another one"
        )
    wanted = _cadence(name, grid)
    for part in parts:
        found = _cadence(name, part)
        if wanted and found and wanted != found:
            raise InputError(
                f"dataset.streams.{name}: {part.symbol.name} and {grid.symbol.name} differ in their cadence "
                f"(value {format_step(found)} and {format_step(wanted)}); aligned books need the same one"
            )
        step = wanted or found
        if step and len(part) and int(part.time_ns[0] - grid.time_ns[0]) % step:
            raise InputError(
                f"dataset.streams.{name}: the grids of {part.symbol.name} and {grid.symbol.name} are shifted "
                f"(value {int(part.time_ns[0] - grid.time_ns[0]) % step} ns); both must be multiples of the cadence"
            )


def _cadence(name: str, part: Depth) -> int | None:
    """Distance of grid times in nanoseconds; None where there are fewer than two."""
    steps = part.time_ns.diff()
    if not len(steps):
        return None
    odd = (steps != steps[0]) | (steps <= 0)
    if bool(odd.any()):
        raise InputError(
            f"dataset.streams.{name}: cell {int(odd.nonzero()[0]) + 1:,} of {part.symbol.name} is off its grid "
            f"(value {int(steps[odd][0])} ns after the one before, not {int(steps[0])}); rerun the book stage"
        )
    return int(steps[0])
