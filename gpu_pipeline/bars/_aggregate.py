"""From the integer sums of bars to the tables of DESIGN 4.3; the arithmetic is `kernels.bar_columns`."""

from __future__ import annotations

import torch

from gpu_pipeline.core.schema import BAR_COLUMNS, Bars, Scale, Symbol, Tensor
from kernels.bar_columns import bar_columns


def to_bars(
    sums: Tensor,  # [K, B] int64, the rows of bar_sums.COLUMNS
    symbol: Symbol,
    name: str,
    *,
    has_side: bool = True,
    is_partial: bool = False,
) -> Bars:
    """All columns of bars from their integer sums.

    vwap is NaN for inverse contracts (their notional does not hold the price); taker columns are NaN without a side.

    Raises:
        ValueError: a bar spans so many ticks that its moments are not exact.
    """
    scales = [_ratio(scale) for scale in (symbol.price, symbol.quantity, symbol.notional)]
    columns = bar_columns(sums, *scales, has_side=has_side, inverse=symbol.inverse)
    columns["is_partial"] = torch.full((sums.shape[1],), is_partial, device=sums.device)
    return Bars(symbol, name, {column: columns[column] for column in BAR_COLUMNS}, has_side=has_side)


def _ratio(scale: Scale) -> tuple[float, float]:
    return float(scale.fraction.numerator), float(scale.fraction.denominator)
