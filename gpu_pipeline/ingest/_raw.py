"""What a source is asked for and what it hands over, before scales and order are settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import torch

from gpu_pipeline.core.config import SymbolOptions
from gpu_pipeline.core.schema import Symbol, Tensor


@dataclass(frozen=True)
class ReadRequest:
    """One stream of one symbol, as the run file asks for it.

    Attributes:
        stream: name of the stream under `ingest`.
        symbol: exchange name.
        options: what is known of the symbol beforehand.
        device: where the columns are wanted.
        seed: of the run, for sources that draw random numbers.
        start_ns: trades before it are left out; None for no bound.
        end_ns: trades at or after it are left out; None for no bound.
        limit: at most so many trades, counted after the bounds.
        on_bad_row: an impossible value is an error, or its row is dropped and counted.
        verify: checksums of files are compared.
    """

    stream: str
    symbol: str
    options: SymbolOptions = field(default_factory=SymbolOptions)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 7
    start_ns: int | None = None
    end_ns: int | None = None
    limit: int | None = None
    on_bad_row: Literal["error", "drop"] = "error"
    verify: bool = True


@dataclass(frozen=True)
class Units:
    """A column of exact values: value = units x step.

    Attributes:
        units: [N] int64.
        step: exact decimal step.
    """

    units: Tensor
    step: Decimal

    def __len__(self) -> int:
        return len(self.units)


# float64 and float32 columns stay as they came: a float32 is compared with decimals in float32.
Values = Tensor | Units

TENSORS = ("time_ns", "price", "quantity", "trade_id", "is_buyer_maker", "quote_quantity", "base_quantity")


@dataclass(frozen=True)
class RawTrades:
    """A piece of one file in file order; nothing is checked, sorted or scaled yet.

    Attributes:
        file: the file that the piece came from.
        first_row: rows of the file before this piece; messages count data rows from 1.
        time_ns: [N] int64.
        price: [N] float64, float32 or Units.
        quantity: [N] base units, or contracts.
        trade_id: [N] int64, None where the source has no ids.
        is_buyer_maker: [N] bool, None where the source has no side.
        quote_quantity: [N] float64, float32 or Units: only cross-checks the notional.
        base_quantity: [N] the same for an inverse contract, in coins.
        nulls: column name -> [N] bool, True where the cell is empty or means nothing (floats may hold NaN instead).
        shown: column name -> text of the first cell that is not empty, but means nothing.
        declared: scales that the file itself states, for example in our own clean files.
        checked: how the file's bytes were verified: `checksum`, `page checksums`, `none there`, `skipped`.
        counted: what the source counted in the piece, for the report.
    """

    file: Path
    first_row: int
    time_ns: Tensor
    price: Values
    quantity: Values
    trade_id: Tensor | None = None
    is_buyer_maker: Tensor | None = None
    quote_quantity: Values | None = None
    base_quantity: Values | None = None
    nulls: dict[str, Tensor] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    declared: Symbol | None = None
    checked: str = "none there"
    counted: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time_ns)

    def nbytes(self) -> int:
        """Bytes of its columns."""
        columns = [column for name in TENSORS if (column := getattr(self, name)) is not None]
        return sum(column.units.nbytes if isinstance(column, Units) else column.nbytes for column in columns)

    def map(self, change: Callable[[Tensor], Tensor]) -> RawTrades:
        """The same piece with every column passed through `change`, for example a selection of rows."""
        columns: dict[str, Any] = {
            name: mapped(value, change) for name in TENSORS if (value := getattr(self, name)) is not None
        }
        return replace(self, **columns, nulls={name: change(null) for name, null in self.nulls.items()})


def mapped(value: Values, change: Callable[[Tensor], Tensor]) -> Values:
    """A column passed through `change`."""
    return replace(value, units=change(value.units)) if isinstance(value, Units) else change(value)


def joined(pieces: Sequence[RawTrades]) -> RawTrades:
    """Consecutive pieces of one file as one."""
    first = pieces[0]
    if len(pieces) == 1:
        return first
    named = [name for name in TENSORS if getattr(first, name) is not None]
    columns: dict[str, Any] = {name: join_values([getattr(piece, name) for piece in pieces]) for name in named}
    empty = sorted({name for piece in pieces for name in piece.nulls})
    nulls = {name: torch.cat([_null(piece, name) for piece in pieces]) for name in empty}
    shown = {name: text for piece in reversed(pieces) for name, text in piece.shown.items()}
    return replace(first, **columns, nulls=nulls, shown=shown)


def _null(piece: RawTrades, name: str) -> Tensor:
    none = torch.zeros(len(piece), dtype=torch.bool, device=piece.time_ns.device)
    return piece.nulls.get(name, none)


def join_values(parts: Sequence[Values]) -> Values:
    """Consecutive pieces of a column as one, at the finest of their steps."""
    units = [part for part in parts if isinstance(part, Units)]
    if not units:
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    finest = min(part.step for part in units)
    return Units(torch.cat([part.units * int(part.step / finest) for part in units]), finest)
