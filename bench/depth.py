"""Order books on a time grid."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench._inputs import size, words
from bench._measure import Case
from kernels.depth import depth_tensor

TESTS = "tests/kernels/test_depth.py"
# Levels a side, kept as they are, and in bins: a shallow book, and a day of 1,000 levels every 10 s.
SHALLOW = 100, 10, (10,) * 5
DAY, DEEP = 8_640, (1_000, 50, (95,) * 10)


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Snapshots, all of them on the grid, to levels and bins."""
    yield _case(size(device, tiny, cpu=20_000, cuda=1_000_000, small=200), *SHALLOW, device, "snapshots")
    yield _case(size(device, tiny, cpu=DAY, cuda=DAY, small=20), *DEEP, device, "level rows")


def _case(snapshots: int, side: int, near: int, bins: tuple[int, ...], device: torch.device, unit: str) -> Case:
    level = torch.arange(side, device=device)
    price = torch.cat((100_000 - level, 100_001 + level)).repeat(snapshots)
    lots = torch.randint(1, 10_000, (len(price),), device=device)
    offsets = torch.arange(snapshots + 1, device=device) * 2 * side
    count, rows = torch.full((snapshots,), side, device=device), torch.arange(snapshots, device=device)
    moved = 2 * price.nbytes + snapshots * (3 * 8 + (near + len(bins)) * 4 * 8 + 2 * 8)
    items = snapshots if unit == "snapshots" else len(price)
    call = lambda: depth_tensor(price, lots, offsets, count, rows, near, bins)  # noqa: E731
    return Case("depth_tensor", "ours", f"{words(snapshots)} x 2 x {side} levels", items, unit, call, moved)
