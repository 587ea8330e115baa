"""Rows that cannot be trades: which rule each one breaks."""

from __future__ import annotations

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest._raw import RawTrades, Units, Values

# Code -> (column, rule); 0 is a good row. The first rule that a row breaks names it.
RULES = (
    ("", ""),
    ("time_ns", "a trade needs a time in the file's unit"),
    ("price", "a price must be a number"),
    ("price", "a price must be finite"),
    ("price", "a price must be above 0"),
    ("quantity", "a quantity must be a number"),
    ("quantity", "a quantity must be finite"),
    ("quantity", "a quantity must not be negative"),
    ("trade_id", "a trade needs its id"),
    ("trade_id", "an id must not be negative"),
    ("is_buyer_maker", "a trade needs its side (buy or sell, true or false)"),
)
NAMES = (
    "",
    "time_missing",
    "price_missing",
    "price_infinite",
    "price_not_positive",
    "quantity_missing",
    "quantity_infinite",
    "quantity_negative",
    "trade_id_missing",
    "trade_id_negative",
    "side_missing",
)
WAY_OUT = "mend the file, or set on_bad_row: drop"


def faults(raw: RawTrades) -> Tensor | None:
    """[N] int8 position in RULES, 0 for a good row; None where every row is good."""
    broken = [(code, mask) for code, mask in _checks(raw) if bool(mask.any())]
    if not broken:
        return None
    found = torch.zeros(len(raw), dtype=torch.int8, device=raw.time_ns.device)
    for code, mask in reversed(broken):
        found[mask] = code
    return found


def _checks(raw: RawTrades) -> list[tuple[int, Tensor]]:
    checks = [(1, raw.nulls.get("time_ns"))]
    checks += number_checks(raw.price, raw.nulls.get("price"), 2, zero_allowed=False)
    checks += number_checks(raw.quantity, raw.nulls.get("quantity"), 5, zero_allowed=True)
    checks += [(8, raw.nulls.get("trade_id")), (10, raw.nulls.get("is_buyer_maker"))]
    if raw.trade_id is not None:
        checks.append((9, raw.trade_id < 0))
    return sorted(((code, mask) for code, mask in checks if mask is not None), key=lambda check: check[0])


def number_checks(
    values: Values, null: Tensor | None, first: int, zero_allowed: bool
) -> list[tuple[int, Tensor | None]]:
    """(code, mask of the rows that break the rule): missing or NaN `first`, infinite + 1, out of range + 2."""
    plain = values.units if isinstance(values, Units) else values
    low = plain >= 0 if zero_allowed else plain > 0
    good = low if isinstance(values, Units) else low & (plain < torch.inf)
    if bool(good.all()):
        return [(first, null)]
    return [(first, null), (first, torch.isnan(plain)), (first + 1, torch.isinf(plain)), (first + 2, ~low)]


def fault_error(raw: RawTrades, position: int, code: int) -> InputError:
    """The error that names file, row, rule and value."""
    column, rule = RULES[code]
    return InputError.at(
        raw.file, rule, row=raw.first_row + position + 1, value=_cell(raw, column, position), fix=WAY_OUT
    )


def _cell(raw: RawTrades, column: str, position: int) -> object:
    null = raw.nulls.get(column)
    if null is not None and bool(null[position]):
        return raw.shown.get(column, "empty")
    values = getattr(raw, column)
    if isinstance(values, Units):
        return str(values.step * int(values.units[position]))
    return values[position].item()
