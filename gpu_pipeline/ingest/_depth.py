"""A depth feed as it was recorded: messages and their levels, nothing checked or scaled yet; snapshots put in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest._faults import WAY_OUT, number_checks
from gpu_pipeline.ingest._raw import Units, Values, mapped

# Code -> (column, rule); 0 is a good level. The first rule that a level breaks names it.
RULES = (
    ("", ""),
    ("side", "a level needs its side (1 or bid, -1 or ask)"),
    ("price", "a price must be a number"),
    ("price", "a price must be finite"),
    ("price", "a price must be above 0"),
    ("quantity", "a quantity must be a number"),
    ("quantity", "a quantity must be finite"),
    ("quantity", "a quantity must not be negative"),
)
NAMES = (
    "",
    "side_missing",
    "price_missing",
    "price_infinite",
    "price_not_positive",
    "quantity_missing",
    "quantity_infinite",
    "quantity_negative",
)
MESSAGE_COLUMNS = ("first_id", "final_id", "previous_id", "time_ns", "known_ns", "is_snapshot", "row")
LEVEL_COLUMNS = ("side", "price", "quantity", "level_row")


@dataclass(frozen=True)
class RawDepth:
    """Some messages of one file: M messages with R levels.

    Attributes:
        file: the file that they came from.
        first_id: [M] int64, first update of the message; a snapshot's own id. -1 where there is none.
        final_id: [M] int64, last update of the message.
        previous_id: [M] int64, `final_id` of the message before as the venue says; -1 where it says nothing.
        time_ns: [M] int64, the venue's time; -1 where the file has none.
        known_ns: [M] int64, the latest of all clocks that the file has; -1 where it has none.
        is_snapshot: [M] bool, the levels are the whole book.
        row: [M] int64, data row (line) of the file, counted from 1.
        offsets: [M+1] int64 into the levels.
        side: [R] int64: 1 bid, -1 ask, 0 unknown.
        price: [R] float64, float32 or Units.
        quantity: [R] the level's new quantity, 0 deletes it.
        level_row: [R] int64, data row (line) of the file, counted from 1.
        nulls: column name -> [R] bool, True where the cell is empty.
        shown: column name -> text of the first cell that means nothing.
        checked: how the file's bytes were verified.
        begins: the file's first messages.
    """

    file: Path
    first_id: Tensor
    final_id: Tensor
    previous_id: Tensor
    time_ns: Tensor
    known_ns: Tensor
    is_snapshot: Tensor
    row: Tensor
    offsets: Tensor
    side: Tensor
    price: Values
    quantity: Values
    level_row: Tensor
    nulls: Mapping[str, Tensor] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)
    checked: str = "none there"
    begins: bool = False

    def __len__(self) -> int:
        return len(self.final_id)

    def part(self, start: int, stop: int) -> RawDepth:
        """Messages `start:stop` with their levels."""
        first, end = int(self.offsets[start]), int(self.offsets[stop])
        messages: dict[str, Any] = {name: getattr(self, name)[start:stop] for name in MESSAGE_COLUMNS}
        levels: dict[str, Any] = {
            name: mapped(getattr(self, name), lambda column: column[first:end]) for name in LEVEL_COLUMNS
        }
        nulls = {name: null[first:end] for name, null in self.nulls.items()}
        offsets = self.offsets[start : stop + 1] - first
        return replace(self, **messages, **levels, offsets=offsets, nulls=nulls, begins=self.begins and start == 0)

    def nbytes(self) -> int:
        """Bytes of its columns."""
        columns = [getattr(self, name) for name in (*MESSAGE_COLUMNS, *LEVEL_COLUMNS)]
        return sum(column.units.nbytes if isinstance(column, Units) else column.nbytes for column in columns)


def level_faults(raw: RawDepth) -> Tensor | None:
    """[R] int8 position in RULES, 0 for a good level; None where every level is good."""
    checks: list[tuple[int, Tensor | None]] = [(1, raw.side == 0)]
    checks += number_checks(raw.price, raw.nulls.get("price"), 2, zero_allowed=False)
    checks += number_checks(raw.quantity, raw.nulls.get("quantity"), 5, zero_allowed=True)
    broken = [(code, mask) for code, mask in checks if mask is not None and bool(mask.any())]
    if not broken:
        return None
    found = torch.zeros(len(raw.side), dtype=torch.int8)
    for code, mask in reversed(broken):
        found[mask] = code
    return found


def level_error(raw: RawDepth, level: int, code: int) -> InputError:
    """The error that names file, row, rule and value."""
    column, rule = RULES[code]
    return InputError.at(raw.file, rule, row=int(raw.level_row[level]), value=_shown(raw, column, level), fix=WAY_OUT)


def _shown(raw: RawDepth, column: str, level: int) -> object:
    if column == "side" or bool(raw.nulls.get(column, torch.zeros(len(raw.side), dtype=torch.bool))[level]):
        return raw.shown.get(column, "empty")
    values = getattr(raw, column)
    return str(values.step * int(values.units[level])) if isinstance(values, Units) else values[level].item()


def id_faults(raw: RawDepth) -> Tensor:
    """[M] bool: ids that make no sense."""
    return (raw.first_id < 0) | (raw.first_id > raw.final_id)


def id_error(raw: RawDepth, message: int) -> InputError:
    """The error that names file, row and ids."""
    ids = f"{int(raw.first_id[message])} to {int(raw.final_id[message])}"
    rule = "ids of a message must satisfy 0 <= first_id <= final_id"
    return InputError.at(raw.file, rule, row=int(raw.row[message]), value=ids, fix=WAY_OUT)


def in_order(snapshots: Iterator[RawDepth], diffs: Iterator[RawDepth]) -> Iterator[RawDepth]:
    """Messages with each snapshot (a piece of its own) before the first message that does not end before it.

    A snapshot without a time of the venue holds from the message behind it: it is no older than the message before,
    and its own arrival says nothing of it where the recorder's clock is wrong.
    """
    waiting = next(snapshots, None)
    for piece in diffs:
        begin = 0
        while waiting is not None and (place := _place(piece, begin, int(waiting.final_id[0]))) is not None:
            if place > begin:
                yield piece.part(begin, place)
            yield _timed(waiting, piece, place)
            begin, waiting = place, next(snapshots, None)
        if begin < len(piece):
            yield piece.part(begin, len(piece)) if begin else piece
    while waiting is not None:
        yield waiting
        waiting = next(snapshots, None)


def _place(piece: RawDepth, begin: int, snapshot_id: int) -> int | None:
    reached = (piece.final_id[begin:] >= snapshot_id).nonzero()
    return begin + int(reached[0]) if len(reached) else None


def _timed(snapshot: RawDepth, piece: RawDepth, place: int) -> RawDepth:
    if int(snapshot.time_ns[0]) >= 0:
        return snapshot
    time_ns, known_ns = piece.time_ns[place : place + 1], piece.known_ns[place : place + 1]
    return replace(snapshot, time_ns=time_ns, known_ns=torch.maximum(snapshot.known_ns, known_ns))
