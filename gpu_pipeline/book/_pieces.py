"""Snapshots, events and depth tensors taken apart and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from gpu_pipeline.core.schema import BookEvents, BookSnapshots, Depth, Tensor

EVENT_COLUMNS = ("time_ns", "known_ns", "side", "price_ticks", "quantity_lots", "update_id")
DEPTH_COLUMNS = ("depth", "beyond", "time_ns", "known_ns", "age_ns", "valid", "filled")


def offsets_of(sizes: Tensor) -> Tensor:
    """[S+1] where each of S stretches of rows begins, and the last one ends."""
    return torch.cat((sizes.new_zeros(1), sizes.cumsum(0)))


def select(books: BookSnapshots, which: Tensor) -> BookSnapshots:
    """The snapshots `which` [K] int64, in that order, with their levels."""
    sizes = books.offsets.diff()[which]
    offsets = offsets_of(sizes)
    begins = torch.repeat_interleave(books.offsets[which] - offsets[:-1], sizes)
    rows = begins + torch.arange(len(begins), device=begins.device)
    kept: dict[str, Any] = {name: getattr(books, name)[which] for name in ("time_ns", "known_ns", "bid_count")}
    levels: dict[str, Any] = {name: getattr(books, name)[rows] for name in ("price_ticks", "quantity_lots")}
    return replace(books, offsets=offsets, **kept, **levels)


def join_books(first: BookSnapshots, second: BookSnapshots) -> BookSnapshots:
    """Two consecutive tables of snapshots as one."""
    names = ("time_ns", "known_ns", "bid_count", "price_ticks", "quantity_lots")
    columns: dict[str, Any] = {name: torch.cat((getattr(first, name), getattr(second, name))) for name in names}
    offsets = torch.cat((first.offsets, second.offsets[1:] - second.offsets[0] + first.offsets[-1]))
    return replace(second, offsets=offsets, **columns)


def join_events(first: BookEvents, second: BookEvents) -> BookEvents:
    """Two consecutive tables of events as one."""
    columns: dict[str, Any] = {name: torch.cat((getattr(first, name), getattr(second, name))) for name in EVENT_COLUMNS}
    return replace(second, **columns)


def cut_events(events: BookEvents, rows: slice) -> BookEvents:
    """Some consecutive events."""
    columns: dict[str, Any] = {name: getattr(events, name)[rows] for name in EVENT_COLUMNS}
    return replace(events, **columns)


def join_depth(parts: Sequence[Depth]) -> Depth:
    """Consecutive cells of one grid as one tensor."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in DEPTH_COLUMNS}
    return replace(parts[0], **columns)
