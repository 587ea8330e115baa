"""Which snapshots can be seen at a moment: those dated up to then that had arrived by then."""

from __future__ import annotations

import torch

from gpu_pipeline.core.schema import BookSnapshots, Tensor


def seen_ns(books: BookSnapshots, lag_ns: int = 0) -> Tensor:
    """[S] int64: the first moment at which a snapshot has arrived and is at least `lag_ns` old."""
    return torch.maximum(books.time_ns + lag_ns, books.known_ns)


def last_known(books: BookSnapshots, moments: Tensor, lag_ns: int = 0) -> Tensor:
    """[T] int64: of the snapshots that can be seen at each moment, the last in their order; -1 where there is none.

    Args:
        books: snapshots in their order.
        moments: [T] int64.
        lag_ns: only snapshots that are at least so old.
    """
    if not len(books):
        return torch.full_like(moments, -1)
    times, order = seen_ns(books, lag_ns).sort(stable=True)
    latest = order.cummax(0).values
    count = torch.searchsorted(times, moments, right=True)
    return torch.where(count > 0, latest[(count - 1).clamp(min=0)], -1)


def needed(books: BookSnapshots, moment: int, lag_ns: int = 0) -> Tensor:
    """[S] bool: what `last_known` can give at or after a moment: none that a later one hides from then on."""
    found = torch.ones_like(books.time_ns, dtype=torch.bool)
    if len(books):
        times = seen_ns(books, lag_ns).clamp(min=moment)
        later = times.flip(0).cummin(0).values.flip(0)
        found[:-1] = times[:-1] < later[1:]
    return found
