"""What of a stream is centred and scaled together, fitted on training rows alone (DESIGN 4.8).

`normalise: column` fits every column by itself, so in a book every level, channel and asset. `normalise: level` fits
one center and one scale for the quantities of a level over both its sides, and one for its distances to the mid, bids
mirrored: the mirror image of a book is then the mirror image of its input, and a side that is the heavier one stays so.
`normalise: none` leaves the values as they are; what is not finite is imputed all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gpu_pipeline.core.config import ScalerSection
from gpu_pipeline.core.schema import CHANNELS
from gpu_pipeline.dataset.model_input import Fitted, fit
from gpu_pipeline.dataset.streams import Rows

SIDES = 2


def fit_rows(rows: Rows, spans: Sequence[tuple[int, int]], scaler: ScalerSection) -> Fitted:
    """Imputation and scaling of a stream.

    Args:
        rows: the stream.
        spans: its training rows, one span for each symbol whose rows they are.
        scaler: how a column is centred and scaled.

    Raises:
        InputError: there are no training rows.
    """
    training = torch.cat([rows.values[lo:hi] for lo, hi in spans])
    if rows.section.normalise == "level":
        return _by_level(rows.columns, training, max(1, len(rows.assets)), scaler)
    fitted = fit(rows.columns, training, scaler)
    if rows.section.normalise == "column":
        return fitted
    zero, one = torch.zeros_like(fitted.center), torch.ones_like(fitted.scale)
    return replace(fitted, center=zero, scale=one, zero_spread=())


def _by_level(columns: tuple[str, ...], training: Tensor, assets: int, scaler: ScalerSection) -> Fitted:
    """Columns are levels x channels x assets, the last one fastest."""
    cells = training.unflatten(1, (-1, len(CHANNELS), assets))
    bids, asks = cells[:, :, :SIDES] * _mirror(cells), cells[:, :, SIDES:]
    named = torch.arange(len(columns)).reshape(-1, len(CHANNELS), assets)
    names = tuple(columns[at] for at in named[:, SIDES:].flatten().tolist())
    pooled = fit(names, torch.cat((bids, asks)).flatten(1), scaler)
    fill, center = (_both_sides(numbers, assets, mirrored=True) for numbers in (pooled.fill, pooled.center))
    return Fitted(
        columns=columns,
        fill=fill,
        center=center,
        scale=_both_sides(pooled.scale, assets, mirrored=False),
        imputed=_of_both(columns, pooled.imputed),
        zero_spread=_of_both(columns, pooled.zero_spread),
    )


def _mirror(like: Tensor) -> Tensor:
    """[2, 1]: the distance of a bid is that of an ask with the other sign; quantities have none."""
    return torch.tensor([[-1.0], [1.0]], dtype=torch.float64, device=like.device)


def _both_sides(numbers: Tensor, assets: int, *, mirrored: bool) -> Tensor:
    """[levels x 4 x assets] from [levels x 2 x assets]."""
    asks = numbers.reshape(-1, SIDES, assets)
    # Adding 0.0 turns -0.0 into 0.0.
    bids = asks * _mirror(asks) + 0.0 if mirrored else asks
    return torch.cat((bids, asks), dim=1).flatten()


def _of_both(columns: tuple[str, ...], asks: tuple[str, ...]) -> tuple[str, ...]:
    chosen = {*asks, *(name.replace("ask_", "bid_", 1) for name in asks)}
    return tuple(name for name in columns if name in chosen)
