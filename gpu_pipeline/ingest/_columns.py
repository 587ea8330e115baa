"""From a file's columns to ours: which name means what, and cells as tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from gpu_pipeline.core.errors import InputError, nearest
from gpu_pipeline.core.schema import Symbol, Tensor
from gpu_pipeline.ingest._raw import RawTrades, Units, Values

Name = Literal[
    "timestamp", "price", "quantity", "quote_quantity", "base_quantity", "is_buyer_maker", "side", "trade_id"
]
Ours = TypeVar("Ours", bound=str)
NUMBERS: tuple[Name, ...] = ("price", "quantity", "quote_quantity", "base_quantity")
REQUIRED: tuple[Name, ...] = ("timestamp", "price", "quantity")
# Names that files of the field use, in snake case.
ALIASES: Mapping[Name, tuple[str, ...]] = {
    "timestamp": ("timestamp", "time", "transact_time"),
    "price": ("price",),
    "quantity": ("quantity", "qty"),
    "quote_quantity": ("quote_quantity", "quote_qty"),
    "base_quantity": ("base_quantity", "base_qty"),
    "is_buyer_maker": ("is_buyer_maker", "was_the_buyer_the_maker"),
    "side": ("side",),
    "trade_id": ("trade_id", "id", "agg_id", "agg_trade_id"),
}
# A time since 1970 as a whole number says its unit by its size: 1973 in ms is 1e11, year 5138 in ms 1e14.
BUY, SELL, FALSE, TRUE = 0, 1, 2, 3
WORDS: Mapping[str, int] = {"buy": BUY, "sell": SELL, "false": FALSE, "true": TRUE}
_ONE = Decimal(1)
UNITS_NS = ((10**11, 10**14, 1_000_000, "ms"), (10**14, 10**17, 1_000, "us"), (10**17, 2**63 - 1, 1, "ns"))


def snake(name: str) -> str:
    """`isBuyerMaker` -> `is_buyer_maker`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip()).lower()


def find(names: Sequence[str], mapping: Mapping[Name, str | None], file: Path) -> dict[Name, str]:
    """Our names -> the file's names: what `columns` says, else the names that files of the field use.

    Raises:
        InputError: a required column is missing, a mapped one is not there, or two mean the same.
    """
    found = match(names, mapping, file, ALIASES, REQUIRED)
    if "is_buyer_maker" in found and "side" in found:
        del found["side" if mapping.get("side") is None else "is_buyer_maker"]
    return found


def match(
    names: Sequence[str],
    mapping: Mapping[Ours, str | None],
    file: Path,
    aliases: Mapping[Ours, tuple[str, ...]],
    required: Sequence[Ours],
) -> dict[Ours, str]:
    """Our names -> the file's names, for any table: `aliases` are the names in the field, in snake case.

    Raises:
        InputError: a required column is missing, a mapped one is not there, or two mean the same.
    """
    found = {
        ours: column for ours in aliases if (column := _match_one(ours, names, mapping, file, aliases)) is not None
    }
    missing = [ours for ours in required if ours not in found]
    if missing:
        shown = ", ".join(names[:20]) or "none"
        fix = f"name it under columns, for example columns: {{{missing[0]}: COLUMN}}"
        raise InputError.at(file, f"has no column for {' and '.join(missing)}; its columns are {shown}", fix=fix)
    return found


def _match_one(
    ours: Ours,
    names: Sequence[str],
    mapping: Mapping[Ours, str | None],
    file: Path,
    aliases: Mapping[Ours, tuple[str, ...]],
) -> str | None:
    if ours in mapping:
        column = mapping[ours]
        if column is not None and names.count(column) != 1:
            hint = nearest(column, names)
            fix = f"did you mean '{hint}'?" if hint else f"its columns are {', '.join(names[:20]) or 'none'}"
            rule = "has no such column" if column not in names else "has this column more than once"
            raise InputError.at(file, f"columns.{ours}: the file {rule}", value=column, fix=fix)
        return column
    alike = [name for name in names if snake(name) in aliases[ours]]
    if len(alike) > 1:
        fix = f"name one under columns, for example columns: {{{ours}: {alike[0]}}}"
        raise InputError.at(file, f"columns {' and '.join(alike)} could both be {ours}", fix=fix)
    return alike[0] if alike else None


@dataclass(frozen=True)
class Cells:
    """One column of one piece.

    Attributes:
        kind: `integer`, `float`, `decimal` (units), `time` (ns), `bool`, `text` (BUY, SELL, FALSE, TRUE, else -1).
        values: [N] tensor.
        null: [N] bool, True where empty; None where nothing is.
        shown: the first text that is none of these.
        step: value of one unit of a decimal.
    """

    kind: str
    values: Tensor
    null: Tensor | None = None
    shown: str = ""
    step: Decimal = _ONE


@dataclass
class FileColumns:
    """Turns the cells of one file, piece by piece, into raw trades; its first times decide the unit."""

    file: Path
    declared: Symbol | None = None
    checked: str = "none there"
    rows: int = 0
    unit: tuple[int, int, int, str] | None = None
    shown: dict[str, str] = field(default_factory=dict)

    def piece(self, cells: Mapping[Name, Cells]) -> RawTrades:
        """The next piece."""
        self.shown, nulls = {}, {}
        time_ns, bad_time = self._time(cells["timestamp"])
        flag = self._flag(cells)
        numbers: dict[Any, Any] = {name: self._number(name, cells[name]) for name in NUMBERS if name in cells}
        ids = self._ids(cells.get("trade_id"))
        for column, null in (("time_ns", bad_time), ("is_buyer_maker", flag[1]), ("trade_id", ids[1])):
            if null is not None and bool(null.any()):
                nulls[column] = null
        for name in REQUIRED[1:]:
            if (null := cells[name].null) is not None:
                nulls[name] = null
        raw = RawTrades(
            self.file,
            self.rows,
            time_ns,
            trade_id=ids[0],
            is_buyer_maker=flag[0],
            nulls=nulls,
            shown=self.shown,
            declared=self.declared,
            checked=self.checked,
            **numbers,
        )
        self.rows += len(raw)
        return raw

    def _time(self, cells: Cells) -> tuple[Tensor, Tensor | None]:
        values = cells.values
        if cells.kind == "time":
            return values, cells.null
        if cells.kind != "integer":
            raise self._kind_error("timestamp", cells, "whole numbers in ms, us or ns since 1970, or a timestamp type")
        known = torch.ones_like(values, dtype=torch.bool) if cells.null is None else ~cells.null
        if self.unit is None and bool(known.any()):
            self.unit = self._decide(values, known)
        if self.unit is None:
            return values, cells.null
        low, high, scale, name = self.unit
        fits = known & (values >= low) & (values < high)
        at = _first(~fits)
        if at is not None and bool(known[at]):
            self.shown["time_ns"] = f"{int(values[at])} in a file of {name}"
        return torch.where(fits, values * scale, values), ~fits

    def _decide(self, values: Tensor, known: Tensor) -> tuple[int, int, int, str]:
        """The unit of the first time that lies between 1973 and 5138 in ms, us or ns."""
        at = _first(known & (values >= UNITS_NS[0][0]))
        if at is None:
            at = int(known.nonzero()[0])
            rule = "timestamp is no time in ms, us or ns since 1970 (1973 or later)"
            fix = "map timestamp to the right column, or convert it"
            raise InputError.at(self.file, rule, row=self.rows + at + 1, value=int(values[at]), fix=fix)
        return next(unit for unit in UNITS_NS if unit[0] <= int(values[at]) < unit[1])

    def _flag(self, cells: Mapping[Name, Cells]) -> tuple[Tensor | None, Tensor | None]:
        name: Name = "is_buyer_maker" if "is_buyer_maker" in cells else "side"
        if name not in cells:
            return None, None
        found = cells[name]
        maker = name == "is_buyer_maker"
        if found.kind == "bool" and maker:
            return found.values, found.null
        if found.kind != "text" and not (found.kind == "integer" and maker):
            raise self._kind_error(name, found, "true or false (or 1 and 0)" if maker else "buy or sell")
        codes = found.values - (FALSE if found.kind == "text" and maker else BUY)
        bad = (codes != 0) & (codes != 1)
        if found.null is not None:
            bad |= found.null
        at = _first(bad)
        if at is not None and not (found.null is not None and bool(found.null[at])):
            self.shown["is_buyer_maker"] = found.shown or str(int(found.values[at]))
        return codes == 1, bad

    def _number(self, name: Name, cells: Cells) -> Values:
        if cells.kind == "float":
            return cells.values
        if cells.kind in ("integer", "decimal"):
            return Units(cells.values, cells.step)
        raise self._kind_error(name, cells, "numbers")

    def _ids(self, cells: Cells | None) -> tuple[Tensor | None, Tensor | None]:
        if cells is None:
            return None, None
        if cells.kind != "integer":
            raise self._kind_error("trade_id", cells, "whole numbers")
        return cells.values, cells.null

    def _kind_error(self, name: Name, cells: Cells, wants: str) -> InputError:
        fix = f"map {name} to another column, or to null where it is optional"
        return InputError.at(self.file, f"column for {name} holds {cells.kind} values; it needs {wants}", fix=fix)


def _first(mask: Tensor) -> int | None:
    return int(mask.nonzero()[0]) if bool(mask.any()) else None
