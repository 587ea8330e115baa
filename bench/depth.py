"""Order books on a time grid."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench._inputs import size, words
from bench._measure import Case
from kernels.depth import depth_tensor

TESTS = "tests/kernels/test_depth.py"
SIDE, NEAR, BINS = 100, 10, (10,) * 5


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Snapshots of 100 levels a side, all of them on the grid, to 10 levels and 5 bins of 10."""
    snapshots = size(device, tiny, cpu=20_000, cuda=1_000_000, small=200)
    level = torch.arange(SIDE, device=device)
    price = torch.cat((100_000 - level, 100_001 + level)).repeat(snapshots)
    lots = torch.randint(1, 10_000, (len(price),), device=device)
    offsets = torch.arange(snapshots + 1, device=device) * 2 * SIDE
    count, rows = torch.full((snapshots,), SIDE, device=device), torch.arange(snapshots, device=device)
    moved = 2 * price.nbytes + snapshots * (3 * 8 + (NEAR + len(BINS)) * 4 * 8 + 2 * 8)

    def ours() -> object:
        return depth_tensor(price, lots, offsets, count, rows, NEAR, BINS)

    shape = f"{words(snapshots)} x 2 x {SIDE} levels"
    yield Case("depth_tensor", "ours", shape, snapshots, "snapshots", ours, moved)
