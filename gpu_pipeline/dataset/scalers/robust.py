"""Median and interquartile range of the training rows: a few wild bars do not set the scale of all others."""

from __future__ import annotations

from fractions import Fraction

from torch import Tensor

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.dataset.quantiles import quantiles

NORMAL_IQR = 1.3489795003921634


class Config(Options):
    """No keys."""


def fit(values: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Center = median, scale = interquartile range / 1.349, the standard deviation where the column is normal.

    Args:
        values: [R, F] float64 training rows; what is not finite is left out.
        config: of this scaler.

    Returns:
        center [F], scale [F] float64; NaN where a column has no finite value, scale 0 where its quartiles are equal.
    """
    low, middle, high = quantiles(values, (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4)))
    return middle, (high - low) / NORMAL_IQR
