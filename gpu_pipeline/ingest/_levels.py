"""Rows of one level each, gathered into messages: which rows are of the symbol, and where a message begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest._depth import LEVEL_COLUMNS, MESSAGE_COLUMNS, RawDepth
from gpu_pipeline.ingest._raw import join_values, mapped
from gpu_pipeline.ingest._tall import Rows

CLOCKS_AND_IDS = ("final_id", "time_ns", "known_ns")


def messages_of_one_level(rows: Rows, is_snapshot: Tensor, ids: Tensor | None = None) -> RawDepth:
    """Each row as a message of one level; ids are -1 where there are none."""
    price, no_price = rows.numbers("price")
    quantity, no_quantity = rows.numbers("quantity")
    nulls = {name: null for name, null in (("price", no_price), ("quantity", no_quantity)) if null is not None}
    none = torch.full((len(rows),), -1, dtype=torch.int64)
    time_ns, known_ns = rows.clocks()
    numbers = rows.row_numbers()
    return RawDepth(
        file=rows.file,
        first_id=none if ids is None else ids,
        final_id=none if ids is None else ids,
        previous_id=none,
        time_ns=time_ns,
        known_ns=known_ns,
        is_snapshot=is_snapshot,
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


def instrument_rows(rows: Rows, instrument: str | None, seen: set[str]) -> Tensor | None:
    """[N] bool, the rows of the instrument, in any case of its letters; None where all are meant.

    Args:
        rows: of a file, which may have a column `symbol`.
        instrument: its name there; None takes every row.
        seen: names in the files so far, to which those of these rows are added.
    """
    if instrument is None or "symbol" not in rows.columns:
        return None
    column = rows.columns["symbol"].cast(pa.string())
    if len(seen) < 20:
        seen.update(str(name) for name in pc.unique(column).to_pylist())
    same = pc.equal(pc.utf8_lower(column), instrument.lower()).fill_null(False)
    return torch.from_numpy(same.to_numpy(zero_copy_only=False).copy())


def check_found(found: bool, path: Path, instrument: str | None, seen: set[str]) -> None:
    """Refuses files without a row of the instrument.

    Raises:
        InputError: none was found.
    """
    if found or instrument is None:
        return
    fix = "set instrument to one of them, or to null to take every row"
    raise InputError.at(path, f"holds no row of {instrument}; it has {', '.join(sorted(seen)[:10]) or 'none'}", fix=fix)


def chosen(piece: RawDepth, wanted: Tensor) -> RawDepth:
    """Messages of one level each that are wanted: [N] bool, or int64 positions."""
    messages: dict[str, Any] = {name: getattr(piece, name)[wanted] for name in MESSAGE_COLUMNS}
    return replace(with_levels(piece, wanted), **messages, offsets=torch.arange(len(messages["row"]) + 1))


def with_levels(piece: RawDepth, wanted: Tensor) -> RawDepth:
    """The piece with other levels, [R] bool or positions, and its messages as they are."""
    levels: dict[str, Any] = {
        name: mapped(getattr(piece, name), lambda column: column[wanted]) for name in LEVEL_COLUMNS
    }
    return replace(piece, **levels, nulls={name: null[wanted] for name, null in piece.nulls.items()})


def gathered(
    pieces: Iterator[RawDepth],
    begins: Callable[[RawDepth], Tensor],
    arrange: Callable[[RawDepth, Tensor], RawDepth] = lambda rows, _: rows,
) -> Iterator[RawDepth]:
    """Rows as whole messages, the rows of one together, wherever the pieces were cut.

    Args:
        pieces: rows as messages of one level each.
        begins: [N] bool, the row does not belong to the message of the row before it; the first is not asked for.
        arrange: puts the levels of whole messages in order; hears of each row's message.
    """
    held: RawDepth | None = None
    for piece in pieces:
        if held is not None and held.file != piece.file:
            yield _messages(held, begins, arrange)
            held = None
        rows = piece if held is None else _joined(held, piece)
        last = int(_starts(rows, begins)[-1])
        if last:
            yield _messages(rows.part(0, last), begins, arrange)
        held = rows.part(last, len(rows)) if last else rows
    if held is not None:
        yield _messages(held, begins, arrange)


def _starts(rows: RawDepth, begins: Callable[[RawDepth], Tensor]) -> Tensor:
    starts = begins(rows)
    starts[0] = True
    return starts.nonzero().flatten()


def _messages(
    rows: RawDepth, begins: Callable[[RawDepth], Tensor], arrange: Callable[[RawDepth, Tensor], RawDepth]
) -> RawDepth:
    """A message is as late as its last row; it is named by its first one."""
    starts = _starts(rows, begins)
    ends = torch.cat([starts[1:], torch.tensor([len(rows)])])
    rows = arrange(rows, torch.repeat_interleave(torch.arange(len(starts)), ends - starts))
    columns: dict[str, Any] = {name: getattr(rows, name)[ends - 1] for name in MESSAGE_COLUMNS}
    columns["row"] = rows.row[starts]
    return replace(rows, **columns, offsets=torch.cat([starts, ends[-1:]]))


def _joined(first: RawDepth, second: RawDepth) -> RawDepth:
    both: dict[str, Any] = {name: torch.cat([getattr(first, name), getattr(second, name)]) for name in MESSAGE_COLUMNS}
    for name in LEVEL_COLUMNS:
        both[name] = join_values([getattr(first, name), getattr(second, name)])
    nulls = {
        name: torch.cat([_null(piece, name) for piece in (first, second)]) for name in {*first.nulls, *second.nulls}
    }
    shown: Mapping[str, str] = {**second.shown, **first.shown}
    return replace(first, **both, nulls=nulls, shown=shown, offsets=torch.arange(len(both["row"]) + 1))


def _null(piece: RawDepth, name: str) -> Tensor:
    return piece.nulls.get(name, torch.zeros(len(piece.side), dtype=torch.bool))


def changes(column: Tensor) -> Tensor:
    """[N] bool: the value is not that of the row before; False for the first row."""
    differs = torch.zeros(len(column), dtype=torch.bool)
    differs[1:] = column[1:] != column[:-1]
    return differs
