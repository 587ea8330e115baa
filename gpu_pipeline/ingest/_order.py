"""Trade order: by id where there are ids, else by time, then as in the file (DESIGN 4.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest._raw import Units, Values

CONTENT = ("time_ns", "price_ticks", "quantity_lots", "is_buyer_maker")


@dataclass(frozen=True)
class Last:
    """The last trade that was seen, with its time as the file has it."""

    file: Path
    time_ns: int
    price_ticks: int
    quantity_lots: int
    is_buyer_maker: bool
    trade_id: int | None


@dataclass(frozen=True)
class Rows:
    """Scaled rows of one piece.

    Attributes:
        place: [N] int64 position in the piece as it came.
        total: rows of the piece, bad ones too.
        as_in_file: `place` rises.
        quote: what the notional is compared with, or None.
    """

    file: Path
    first_row: int
    place: Tensor
    time_ns: Tensor
    price_ticks: Tensor
    quantity_lots: Tensor
    is_buyer_maker: Tensor
    trade_id: Tensor | None
    quote: Values | None
    total: int
    as_in_file: bool = True

    def __len__(self) -> int:
        return len(self.place)

    def pick(self, rows: Tensor | slice) -> Rows:
        """Some rows."""
        cut: dict[str, Any] = {name: getattr(self, name)[rows] for name in ("place", *CONTENT)}
        quote = self.quote
        if quote is not None:
            quote = Units(quote.units[rows], quote.step) if isinstance(quote, Units) else quote[rows]
        ids = None if self.trade_id is None else self.trade_id[rows]
        return replace(self, **cut, trade_id=ids, quote=quote)

    def row(self, position: int) -> int:
        """The data row of the file, counted from 1."""
        return self.first_row + int(self.place[position]) + 1

    def last(self) -> Last:
        """The last row."""
        content = {name: getattr(self, name)[-1].item() for name in CONTENT}
        return Last(self.file, **content, trade_id=None if self.trade_id is None else int(self.trade_id[-1]))


def in_order(rows: Rows, last: Last | None) -> tuple[Rows, int]:
    """Rows in trade order, and how many stood behind a later one.

    Raises:
        InputError: ids fall while time rises, or the rows begin before the last ones ended.
    """
    if not len(rows):
        return rows, 0
    key = rows.time_ns if rows.trade_id is None else rows.trade_id
    behind = 0
    if not is_sorted(key):
        _check_restart(rows)
        behind = int((key < torch.cummax(key, 0).values).sum())
        rows = replace(rows.pick(torch.sort(key, stable=True).indices), as_in_file=False)
    _check_begin(rows, last)
    return rows, behind


def is_sorted(key: Tensor) -> bool:
    """No value is below the one before it."""
    return bool((key[1:] >= key[:-1]).all())


def _check_restart(rows: Rows) -> None:
    if rows.trade_id is None:
        return
    wrong = (rows.trade_id[1:] < rows.trade_id[:-1]) & (rows.time_ns[1:] > rows.time_ns[:-1])
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0]) + 1
        before, here = int(rows.trade_id[at - 1]), int(rows.trade_id[at])
        rule = f"the trade id falls from {before} to {here} while time rises"
        fix = "the ids are no order: map trade_id to another column, or to null to order by time"
        raise InputError.at(rows.file, rule, row=rows.row(at), fix=fix)


def _check_begin(rows: Rows, last: Last | None) -> None:
    if last is None:
        return
    by_id = rows.trade_id is not None and last.trade_id is not None
    first = int(rows.trade_id[0]) if rows.trade_id is not None else int(rows.time_ns[0])
    end = last.trade_id if last.trade_id is not None else last.time_ns
    if first < end:
        name = "trade id" if by_id else "time"
        rule = f"begins at {name} {first}, before {last.file} ended at {end}"
        raise InputError.at(rows.file, rule, row=rows.row(0), fix="give the files in order and without overlap")


def repeats(rows: Rows, last: Last | None) -> Tensor | None:
    """[N] bool: the row has the id of the row before it; None where no row has."""
    if rows.trade_id is None or not len(rows):
        return None
    again = last is not None and last.trade_id == int(rows.trade_id[0])
    same = rows.trade_id[1:] == rows.trade_id[:-1]
    if not again and not bool(same.any()):
        return None
    return torch.cat([same.new_tensor([again]), same])


def check_repeats(rows: Rows, repeat: Tensor | None, last: Last | None, stop: int) -> None:
    """Repeated ids before position `stop` must have the same content.

    Raises:
        InputError: the same id with another time, price, quantity or side.
    """
    if repeat is None:
        return
    for name in CONTENT:
        column = getattr(rows, name)
        before = torch.cat([column[:1], column[:-1]])
        if last is not None and bool(repeat[0]):
            before[0] = getattr(last, name)
        other = (repeat & (column != before))[:stop]
        if bool(other.any()):
            at = int(other.nonzero()[0])
            assert rows.trade_id is not None
            rule = f"trade id {int(rows.trade_id[at])} is there twice with different {name}"
            value = f"{column[at].item()} after {before[at].item()}"
            raise InputError.at(rows.file, rule, row=rows.row(at), value=value, fix="remove the wrong one")


def running_time(time_ns: Tensor, latest: int | None) -> Tensor:
    """[N] int64: times with every step back set to the latest time before it."""
    if not len(time_ns):
        return time_ns
    if latest is not None and int(time_ns[0]) < latest:
        time_ns = torch.clamp(time_ns, min=latest)
    return time_ns if is_sorted(time_ns) else torch.cummax(time_ns, 0).values
