"""Depth feeds in tall form: one row per level, the rows of a message together (Parquet, CSV)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest import _tall
from gpu_pipeline.ingest._depth import RawDepth
from gpu_pipeline.ingest._levels import changes, gathered, messages_of_one_level
from gpu_pipeline.ingest._tall import CLOCKS, Form, Rows

_LEVEL: dict[str, tuple[str, ...]] = {
    "side": ("side",),
    "price": ("price",),
    "quantity": ("quantity", "qty", "size", "amount"),
}
DIFFS = Form(
    aliases={
        **CLOCKS,
        "first_id": ("first_id", "first_update_id"),
        "final_id": ("final_id", "final_update_id", "last_update_id"),
        "previous_id": ("prev_final_id", "previous_final_id", "previous_id", "prev_update_id"),
        **_LEVEL,
    },
    required=("first_id", "final_id", "side", "price", "quantity"),
    numbers=("price", "quantity"),
    text=("side",),
)
SNAPSHOTS = Form(
    aliases={**CLOCKS, "update_id": ("last_update_id", "update_id"), **_LEVEL},
    required=("update_id", "side", "price", "quantity"),
    numbers=("price", "quantity"),
    text=("side",),
    timed=False,
)


def read(path: Path, mapping: Mapping[str, str | None], verify: bool, *, snapshots: bool) -> Iterator[RawDepth]:
    """Whole messages piece by piece; a message begins where an id or a clock changes.

    Raises:
        InputError: the file is damaged or lacks a column.
    """
    tables = _tall.read(path, SNAPSHOTS if snapshots else DIFFS, mapping, verify)
    yield from gathered((_rows(rows, snapshots) for rows in tables if len(rows)), _begins)


def _begins(rows: RawDepth) -> Tensor:
    return torch.stack(
        [changes(getattr(rows, name)) for name in ("first_id", "final_id", "previous_id", "time_ns", "known_ns")]
    ).any(0)


def _rows(rows: Rows, snapshots: bool) -> RawDepth:
    """Each row as a message of one level."""
    final = rows.ids("update_id" if snapshots else "final_id")
    piece = messages_of_one_level(rows, torch.full((len(rows),), snapshots), final)
    return piece if snapshots else replace(piece, first_id=rows.ids("first_id"), previous_id=rows.ids("previous_id"))
