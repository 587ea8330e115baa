"""Notional in exact integers, and the cross-check of a quote column against it."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Symbol, Tensor, Trades
from gpu_pipeline.ingest._order import Rows
from gpu_pipeline.ingest._raw import Units

TOLERANCE = 1e-9
TOLERANCE_FLOAT32 = 1e-6
_MAX = 2**63 - 1


def notional_of(rows: Rows, symbol: Symbol) -> Tensor:
    """[N] int64 ticks x lots, or lots of an inverse contract.

    Raises:
        InputError: a notional of 2^63 units or more.
    """
    lots, ticks = rows.quantity_lots, rows.price_ticks
    if symbol.inverse or not len(rows):
        return lots.clone()
    room = _MAX // max(1, symbol.notional.fraction.numerator)
    if int(ticks.max()) * int(lots.max()) > room:
        large = lots > torch.div(torch.full_like(ticks, room), ticks, rounding_mode="floor")
        if bool(large.any()):
            at = int(large.nonzero()[0])
            value = f"{int(ticks[at])} ticks x {int(lots[at])} lots"
            fix = "set a coarser price_tick or quantity_lot under symbols, if the data allow it"
            raise InputError.at(rows.file, "notional does not fit 64 bits", row=rows.row(at), value=value, fix=fix)
    return ticks * lots


def mismatches(rows: Rows, trades: Trades, step: Decimal | None) -> int:
    """Trades whose quote quantity is not the notional (coins of an inverse contract: notional / price).

    Two values agree within the last decimal that the column shows plus 1e-9 of the value (1e-6 of a float32 column).
    Empty cells are not compared.
    """
    if rows.quote is None or not len(rows):
        return 0
    quote = rows.quote
    narrow = not isinstance(quote, Units) and quote.dtype == torch.float32
    shown = _floats(quote)
    exact = trades.symbol.notional.to_float(trades.notional)
    if trades.symbol.inverse:
        exact = exact / trades.symbol.price.to_float(trades.price_ticks)
    room = float(step or 0) + (TOLERANCE_FLOAT32 if narrow else TOLERANCE) * exact.abs()
    return int(((shown - exact).abs() > room).sum())


def _floats(values: Units | Tensor) -> Tensor:
    if not isinstance(values, Units):
        return values.to(torch.float64)
    step = Fraction(values.step)
    return values.units.to(torch.float64) * float(step.numerator) / float(step.denominator)
