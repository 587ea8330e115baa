"""Snapshots with one column per level: cells side by side become levels, those that are not there left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest._depth import RawDepth
from gpu_pipeline.ingest._raw import Units, Values, join_values, mapped

# Levels in a piece, so that memory does not grow with their number in a snapshot.
PIECE_LEVELS = 1 << 20

# Values of a column, and where they are empty.
Column = tuple[Values, Tensor | None]


def snapshots(
    where: tuple[Path, int, str],
    times: tuple[Tensor, Tensor],
    prices: Sequence[Column],
    quantities: Sequence[Column],
    absent: Tensor | None = None,
) -> RawDepth:
    """Each row as one snapshot.

    Args:
        where: the file, its rows before these, how it was verified.
        times: [N] int64 time of the venue and the latest clock, -1 where there is none.
        prices: of the bids, best first, then of the asks, best first; equally many of both.
        quantities: beside them.
        absent: [N, columns] bool, True where there is no level; nor is there one without a price and a quantity.
    """
    (file, first_row, checked), count, width = where, len(times[0]), len(prices)
    price, no_price = _flat(prices)
    quantity, no_quantity = _flat(quantities)
    there = ~(no_price & no_quantity)
    if absent is not None:
        there &= ~absent.flatten()
    rows = torch.arange(first_row + 1, first_row + 1 + count)
    side = torch.ones(width, dtype=torch.int64)
    side[width // 2 :] = -1
    sizes = there.view(count, width).sum(1)
    none = torch.full((count,), -1, dtype=torch.int64)
    nulls = {"price": no_price[there], "quantity": no_quantity[there]}
    return RawDepth(
        file=file,
        first_id=none,
        final_id=none,
        previous_id=none,
        time_ns=times[0],
        known_ns=times[1],
        is_snapshot=torch.ones(count, dtype=torch.bool),
        row=rows,
        offsets=torch.cat([sizes.new_zeros(1), torch.cumsum(sizes, 0)]),
        side=side.repeat(count)[there],
        price=mapped(price, lambda column: column[there]),
        quantity=mapped(quantity, lambda column: column[there]),
        level_row=torch.repeat_interleave(rows, sizes),
        nulls={name: null for name, null in nulls.items() if bool(null.any())},
        checked=checked,
        begins=first_row == 0,
    )


def _flat(columns: Sequence[Column]) -> tuple[Values, Tensor]:
    """[N x columns] values row by row, and where they are empty."""
    count, width = len(columns[0][0]), len(columns)
    empty = torch.stack([_empty(values, null) for values, null in columns], 1).flatten()
    exact = [values for values, _ in columns if isinstance(values, Units)]
    if exact:
        # A column that is empty from end to end says nothing of its type.
        none = Units(torch.zeros(count, dtype=torch.int64), exact[0].step)
        found = join_values([_exact(values, none) for values, _ in columns])
    else:
        found = join_values([values for values, _ in columns])
    return mapped(found, lambda column: column.view(width, count).T.flatten()), empty


def _exact(values: Values, none: Units) -> Values:
    if isinstance(values, Units) or not bool(torch.isnan(values).all()):
        return values
    return none


def _empty(values: Values, null: Tensor | None) -> Tensor:
    if isinstance(values, Units):
        return torch.zeros(len(values), dtype=torch.bool) if null is None else null
    return torch.isnan(values)
