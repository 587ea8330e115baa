"""The one function that makes model input, and the numbers fitted for it on training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from gpu_pipeline.core.config import ScalerSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.dataset.quantiles import quantiles


@dataclass(frozen=True)
class Fitted:
    """What was fitted for one stream on its training rows.

    Attributes:
        columns: F names.
        fill: [F] float64, put where a value is not finite: the training median, 0 where there is no training value.
        center: [F] float64.
        scale: [F] float64 > 0; 1 where the training rows have no spread.
        imputed: columns without a training value.
        zero_spread: columns whose spread in training, as the scaler measures it, is zero.
    """

    columns: tuple[str, ...]
    fill: Tensor
    center: Tensor
    scale: Tensor
    imputed: tuple[str, ...]
    zero_spread: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; float64 survive JSON exactly."""
        numbers = {name: getattr(self, name).tolist() for name in ("fill", "center", "scale")}
        names = {name: list(getattr(self, name)) for name in ("columns", "imputed", "zero_spread")}
        return {**names, **numbers}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], device: torch.device) -> Fitted:
        """The inverse of `to_json`."""
        fill, center, scale = (
            torch.tensor(values[name], dtype=torch.float64, device=device) for name in ("fill", "center", "scale")
        )
        columns, imputed, flat = (tuple(values[name]) for name in ("columns", "imputed", "zero_spread"))
        return cls(columns, fill, center, scale, imputed, flat)


def fit(columns: tuple[str, ...], training: Tensor, scaler: ScalerSection) -> Fitted:
    """Fits imputation and scaling on `training` [n, F] float64, rows of the training part alone."""
    if not len(training):
        raise InputError("scaler: there are no training rows to fit on; the training part needs at least one sample")
    fill = quantiles(training, (Fraction(1, 2),))[0]
    center, scale = scaler.plugin.function(training, scaler.options)
    empty, flat = fill.isnan(), scale == 0
    return Fitted(
        columns=columns,
        fill=fill.masked_fill(empty, 0.0),
        center=center.masked_fill(empty, 0.0),
        scale=scale.masked_fill(empty | flat, 1.0),
        imputed=_named(columns, empty),
        zero_spread=_named(columns, flat),
    )


def model_input(x: Tensor, fitted: Fitted) -> Tensor:
    """Model input of rows [..., F] float64: impute, (x - center) / scale in float64, one cast to float32.

    Values beyond the largest float32 become infinite and are an error.
    """
    if x.shape[-1] != len(fitted.columns):
        raise InputError(
            f"model input: {x.shape[-1]} columns, but {len(fitted.columns)} were fitted; use the same features"
        )
    known = torch.where(torch.isfinite(x), x, fitted.fill)
    made = ((known - fitted.center) / fitted.scale).to(torch.float32)
    if not bool(torch.isfinite(made).all()):
        column = fitted.columns[int((~torch.isfinite(made)).reshape(-1, x.shape[-1]).any(0).nonzero()[0])]
        raise InputError(f"model input: column '{column}' leaves the range of float32 after scaling; drop it")
    return made


def _named(columns: tuple[str, ...], mask: Tensor) -> tuple[str, ...]:
    return tuple(name for name, chosen in zip(columns, mask.tolist(), strict=True) if chosen)
