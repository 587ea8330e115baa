"""Depth feeds in tall form: one row per level, the rows of a message together (Parquet, CSV)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest import _tall
from gpu_pipeline.ingest._depth import LEVEL_COLUMNS, MESSAGE_COLUMNS, RawDepth
from gpu_pipeline.ingest._raw import Values, join_values
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
    held: RawDepth | None = None
    for rows in _tall.read(path, SNAPSHOTS if snapshots else DIFFS, mapping, verify):
        if not len(rows):
            continue
        piece = _rows(rows, snapshots)
        if held is not None:
            same_file = held.file == piece.file
            if not same_file:
                yield held
            piece = _joined(held, piece) if same_file else piece
        piece = _messages(piece)
        last = len(piece) - 1
        if last:
            yield piece.part(0, last)
        held = piece.part(last, last + 1)
    if held is not None:
        yield held


def _rows(rows: Rows, snapshots: bool) -> RawDepth:
    """Each row as a message of one level."""
    price, no_price = rows.numbers("price")
    quantity, no_quantity = rows.numbers("quantity")
    nulls = {name: null for name, null in (("price", no_price), ("quantity", no_quantity)) if null is not None}
    final = rows.ids("update_id" if snapshots else "final_id")
    time_ns, known_ns = rows.clocks()
    numbers = rows.row_numbers()
    return RawDepth(
        file=rows.file,
        first_id=final if snapshots else rows.ids("first_id"),
        final_id=final,
        previous_id=torch.full_like(final, -1) if snapshots else rows.ids("previous_id"),
        time_ns=time_ns,
        known_ns=known_ns,
        is_snapshot=torch.full((len(rows),), snapshots),
        row=numbers,
        offsets=torch.arange(len(rows) + 1),
        side=rows.sides(),
        price=price,
        quantity=quantity,
        level_row=numbers,
        nulls=nulls,
        shown=rows.shown,
        checked=rows.checked,
        begins=rows.first_row == 0,
    )


def _messages(piece: RawDepth) -> RawDepth:
    """Neighbouring messages with the same ids and clocks as one."""
    differs = torch.ones(len(piece), dtype=torch.bool)
    differs[1:] = False
    for name in ("first_id", "final_id", "previous_id", "time_ns", "known_ns"):
        column = getattr(piece, name)
        differs[1:] |= column[1:] != column[:-1]
    starts = differs.nonzero().flatten()
    messages: dict[str, Any] = {name: getattr(piece, name)[starts] for name in MESSAGE_COLUMNS}
    return replace(piece, **messages, offsets=torch.cat([piece.offsets[starts], piece.offsets[-1:]]))


def _joined(first: RawDepth, second: RawDepth) -> RawDepth:
    messages: dict[str, Any] = {
        name: torch.cat([getattr(first, name), getattr(second, name)]) for name in MESSAGE_COLUMNS
    }
    levels: dict[str, Any] = {name: _both(getattr(first, name), getattr(second, name)) for name in LEVEL_COLUMNS}
    nulls = {
        name: torch.cat([_null(piece, name) for piece in (first, second)]) for name in {*first.nulls, *second.nulls}
    }
    offsets = torch.cat([first.offsets, second.offsets[1:] + first.offsets[-1]])
    shown = {**second.shown, **first.shown}
    return replace(first, **messages, **levels, nulls=nulls, offsets=offsets, shown=shown)


def _both(first: Values, second: Values) -> Values:
    return join_values([first, second])


def _null(piece: RawDepth, name: str) -> Tensor:
    return piece.nulls.get(name, torch.zeros(len(piece.side), dtype=torch.bool))
