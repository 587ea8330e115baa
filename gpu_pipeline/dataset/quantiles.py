"""Quantiles of columns, the same on every device: order statistics and one written-out interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor


def quantiles(values: Tensor, fractions: Sequence[Fraction]) -> Tensor:
    """Quantiles of the finite values of each column: [Q, F] float64, NaN where a column has none.

    The quantile p of n values is x[k] + (x[k+1] - x[k]) x r, where k + r = (n - 1) x p (type 7 of Hyndman and Fan 1996,
    the default of numpy and R).

    Args:
        values: [R, F] float64.
        fractions: Q numbers in [0, 1].
    """
    columns = [_column_quantiles(values[:, index], fractions) for index in range(values.shape[1])]
    return torch.tensor(columns, dtype=torch.float64, device=values.device).reshape(-1, len(fractions)).T.contiguous()


def _column_quantiles(column: Tensor, fractions: Sequence[Fraction]) -> list[float]:
    finite = column[torch.isfinite(column)]
    count = len(finite)
    if not count:
        return [float("nan")] * len(fractions)
    whole = [int((count - 1) * fraction) for fraction in fractions]
    places = [place for low in whole for place in (low, min(low + 1, count - 1))]
    found = _order_statistics(finite, places)
    pairs = zip(whole, fractions, found[::2], found[1::2], strict=True)
    # Adding 0.0 turns -0.0, which sorts equal to 0.0 in any order, into 0.0.
    return [low + (high - low) * float((count - 1) * fraction - k) + 0.0 for k, fraction, low, high in pairs]


def _order_statistics(finite: Tensor, places: list[int]) -> list[float]:
    if finite.device.type == "cpu":
        return [float(value) for value in np.partition(finite.numpy(), sorted(set(places)))[places]]
    return [float(value) for value in torch.sort(finite).values[places].tolist()]
