"""What the file of a peer provides, and the trades that it is given.

A peer's file NAME.py holds, beside a docstring that states its rule and how its bars differ from ours:

    CALLS                                   name -> Call, in the order in which they are timed
    prepare(trades, threshold)              in its environment: call name -> function without arguments
    table(result)                           in its environment: the bars of a call as columns, for the check
    definition(trades, threshold, call)     here: the same columns by a plain reading of the rule, and the bars' rows

`threshold` counts price steps x quantity steps, as an integer. NAME.py imports its peer inside functions only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np

RESIDENT, FILE = "dollar bars", "file to dollar bars"
# Time, price, quantity, notional and side of a trade as we hold them.
TRADE_BYTES = 4 * 8 + 1
# Metadata key of our clean files, and their columns.
CLEAN = b"gpu_pipeline.trades"
COLUMNS = ("time_ns", "price_ticks", "quantity_lots", "trade_id", "is_buyer_maker")


@dataclass(frozen=True)
class Call:
    """One thing that a peer is timed at.

    Attributes:
        op: RESIDENT, from trades in memory as the peer wants them, or FILE, from a clean Parquet file.
        gives: columns that come out and those that do not, for the name of the record.
        why: how its bars differ from ours.
        row_bytes: bytes of a trade that it must read.
        rows: how many of the first trades it is given; None for all.
    """

    op: str
    gives: str
    why: str
    row_bytes: int
    rows: int | None = None


@dataclass(frozen=True)
class FileTrades:
    """The trades of one clean file; integer columns [N], steps in quote currency and base units."""

    path: Path
    time_ns: np.ndarray
    price_ticks: np.ndarray
    quantity_lots: np.ndarray
    trade_id: np.ndarray
    is_buyer_maker: np.ndarray
    price_step: Fraction
    lot: Fraction

    def __len__(self) -> int:
        return len(self.time_ns)

    @cached_property
    def notional(self) -> np.ndarray:
        """[N] int64, ticks x lots."""
        return self.price_ticks * self.quantity_lots

    @cached_property
    def price(self) -> np.ndarray:
        """[N] float64 in quote currency."""
        return scaled(self.price_ticks, self.price_step)

    @cached_property
    def quantity(self) -> np.ndarray:
        """[N] float64 in base units."""
        return scaled(self.quantity_lots, self.lot)

    @cached_property
    def side(self) -> np.ndarray:
        """[N] int8: 1 taker buys, -1 taker sells."""
        return np.where(self.is_buyer_maker, np.int8(-1), np.int8(1))

    def quote(self, threshold: int) -> float:
        """A threshold in quote currency."""
        return float(threshold * self.price_step * self.lot)

    def head(self, rows: int | None) -> FileTrades:
        """The first trades; the path still names the whole file."""
        return replace(self, **{name: getattr(self, name)[:rows] for name in COLUMNS})


def scaled(integers: np.ndarray, step: Fraction) -> np.ndarray:
    """Integers x step as the nearest float64 of each decimal, as readers of decimal files get them."""
    return integers * float(step.numerator) / float(step.denominator)


def read(path: Path) -> FileTrades:
    """Reads a clean file; integers stay integers."""
    import pyarrow.parquet as pq

    file = pq.read_table(path, columns=list(COLUMNS))
    symbol = json.loads(file.schema.metadata[CLEAN])["symbol"]
    columns = {name: file[name].to_numpy() for name in COLUMNS}
    steps = {"price_step": Fraction(symbol["price_tick"]), "lot": Fraction(symbol["quantity_lot"])}
    return FileTrades(path, **columns, **steps)
