"""Sums that cannot wrap: integers of any size from int64 columns, for manifests."""

from __future__ import annotations

import torch

_LOW = (1 << 32) - 1
_ROOM = 1 << 63


def exact_sum(values: torch.Tensor) -> int:
    """The sum of [N] int64 values as a Python integer, whatever its size."""
    if not len(values):
        return 0
    low, high = (int(extreme) for extreme in torch.aminmax(values))
    if max(high, -low) * len(values) < _ROOM:
        return int(values.sum())
    return (int((values >> 32).sum()) << 32) + int((values & _LOW).sum())
