"""Undecimated wavelet transform of the log close over the past: three levels, haar or db4.

The maximal overlap transform, by the à trous algorithm (D. Percival, A. Walden, Wavelet Methods for Time Series
Analysis, 2000, ch. 5), with S_0 = ln close and L taps l:

S_j(t) = sum of s_l S_{j-1}(t - 2^(j-1) l),  s = scaling filter / sqrt 2, whose sum is 1
D_j(t) = sum of d_l S_{j-1}(t - 2^(j-1) l),  d_l = (-1)^l s_{L-1-l}, whose sum is 0

Every tap lies at or before t, so nothing is known early; there is no border but the warm-up, (2^j - 1)(L - 1) rows.
haar has L = 2; db4 is the filter of four vanishing moments, L = 8 (I. Daubechies, Ten Lectures on Wavelets, 1992,
table 6.1), with its large taps on the newest prices.

wavelet_dj_F         = D_j(t), a log return between stretches of about 2^j bars
wavelet_smooth_F     = S_3(t) - ln close, the distance of the smooth price from the close
wavelet_energy_j_F_w = sqrt(mean of D_j^2 over w bars), the volatility at that scale
wavelet_share_j_F_w  = its square / the sum of the three squares; 0 where nothing moved
"""

from __future__ import annotations

import math
from typing import Literal

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, Rows
from gpu_pipeline.features.expression import Columns, Expression, log, sqrt, where

LEVELS = (1, 2, 3)
SCALING = {
    "haar": (math.sqrt(0.5), math.sqrt(0.5)),
    "db4": (
        0.23037781330889650086,
        0.71484657055291564708,
        0.63088076792985890788,
        -0.02798376941685985421,
        -0.18703481171909308408,
        0.03084138183556076363,
        0.03288301166688519974,
        -0.01059740178506903211,
    ),
}


def _filters(wavelet: str) -> tuple[list[float], list[float]]:
    smooth = [tap / math.sqrt(2.0) for tap in SCALING[wavelet]]
    return smooth, [tap * (-1) ** index for index, tap in enumerate(reversed(smooth))]


def _transform(bars: Columns, wavelet: str) -> tuple[list[Expression], Expression]:
    """Details of the three levels, and the last smooth less the log close.

    The filters are applied to differences from the newest value: the same sums, exactly 0 where nothing moved.
    """
    start = smooth = log(bars.close)
    details = []
    scaling, detail = _filters(wavelet)
    for level in LEVELS:
        steps = [smooth.lag(2 ** (level - 1) * tap) - smooth for tap in range(1, len(scaling))]
        details.append(_sum(steps, detail[1:]))
        smooth = smooth + _sum(steps, scaling[1:])
    return details, smooth - start


def _sum(steps: list[Expression], taps: list[float]) -> Expression:
    total = steps[0] * taps[0]
    for step, tap in zip(steps[1:], taps[1:], strict=True):
        total = total + step * tap
    return total


def wavelet(bars: Columns, wavelet: str) -> dict[str, Expression]:
    """Details of three scales and the smooth price against the close."""
    details, smooth = _transform(bars, wavelet)
    named = {f"wavelet_d{level}": detail for level, detail in zip(LEVELS, details, strict=True)}
    return {**named, "wavelet_smooth": smooth}


def _energies(bars: Columns, wavelet: str, window: int) -> list[Expression]:
    return [(detail * detail).rolling(window, "mean") for detail in _transform(bars, wavelet)[0]]


def wavelet_energy(bars: Columns, wavelet: str, window: int) -> dict[str, Expression]:
    """Root mean square of the details of three scales."""
    energies = _energies(bars, wavelet, window)
    return {f"wavelet_energy_{level}": sqrt(energy) for level, energy in zip(LEVELS, energies, strict=True)}


def wavelet_share(bars: Columns, wavelet: str, window: int) -> dict[str, Expression]:
    """How the energy of the details is divided among three scales."""
    energies = _energies(bars, wavelet, window)
    total = energies[0] + energies[1] + energies[2]
    return {
        f"wavelet_share_{level}": where(total > 0, energy / total, 0.0)
        for level, energy in zip(LEVELS, energies, strict=True)
    }


class Wavelet(Options):
    """Which filter."""

    wavelet: Literal["haar", "db4"] = "db4"


class WaveletAndWindow(Wavelet):
    """Which filter, and over how many bars its energy is taken."""

    window: Rows = 32


FEATURES = (
    Feature("wavelet", wavelet, Wavelet),
    Feature("wavelet_energy", wavelet_energy, WaveletAndWindow),
    Feature("wavelet_share", wavelet_share, WaveletAndWindow),
)
