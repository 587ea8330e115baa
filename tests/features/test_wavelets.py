"""The undecimated wavelet transform against direct convolution with the equivalent filter of each level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpu_pipeline.core.errors import ConfigError
from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._make import make_features
from gpu_pipeline.features._set import read_set
from gpu_pipeline.features.wavelets import SCALING
from tests.features.ohlc import MARKETS, REAL, candles, close_to, column, flat, real_bars, walk

# Daubechies (1992), table 6.1, as tabulated; the code holds more digits.
TABLES = {
    "haar": [0.7071067811865476, 0.7071067811865476],
    "db4": [
        *(0.2303778133088964, 0.7148465705529154, 0.6308807679298587, -0.0279837694168599),
        *(-0.1870348117190931, 0.0308413818355607, 0.0328830116668852, -0.0105974017850690),
    ],
}
WARMUPS = {"haar": (1, 3, 7), "db4": (7, 21, 49)}


def spread_out(taps: np.ndarray, step: int) -> np.ndarray:
    wide = np.zeros((len(taps) - 1) * step + 1)
    wide[::step] = taps
    return wide


def equivalent_filters(wavelet: str) -> tuple[list[np.ndarray], np.ndarray]:
    """One filter on the log price per detail, and the one of the last smooth."""
    scaling = np.array(TABLES[wavelet]) / np.sqrt(2)
    detail = scaling[::-1] * (-1.0) ** np.arange(len(scaling))
    smooth, details = np.ones(1), []
    for level in range(3):
        details.append(np.convolve(smooth, spread_out(detail, 2**level)))
        smooth = np.convolve(smooth, spread_out(scaling, 2**level))
    return details, smooth


def check(bars: Bars, wavelet: str) -> None:
    price = np.log(bars.close.numpy())
    details, smooth = equivalent_filters(wavelet)
    found = []
    for level, taps in enumerate(details):
        wanted = np.convolve(price, taps)[: len(price)]
        wanted[: WARMUPS[wavelet][level]] = np.nan
        found.append(column(bars, "wavelet", wavelet, output=level))
        close_to(found[-1], wanted, rtol=1e-8, atol=1e-12)
    last = np.convolve(price, smooth)[: len(price)] - price
    last[: WARMUPS[wavelet][2]] = np.nan
    close_to(column(bars, "wavelet", wavelet, output=3), last, rtol=1e-8, atol=1e-12)
    check_energies(bars, wavelet, np.array(found))


def check_energies(bars: Bars, wavelet: str, found: np.ndarray, window: int = 16) -> None:
    windows = np.lib.stride_tricks.sliding_window_view(found**2, window, axis=1).mean(axis=2)
    total = windows.sum(axis=0)
    for level in range(3):
        ours = column(bars, "wavelet_energy", wavelet, window, output=level)
        close_to(ours[window - 1 :], np.sqrt(windows[level]), atol=1e-12)
        share = np.where(np.isnan(total), np.nan, np.divide(windows[level], total, where=total > 0, out=0 * total))
        close_to(column(bars, "wavelet_share", wavelet, window, output=level)[window - 1 :], share, rtol=1e-7)


@pytest.mark.parametrize("wavelet", TABLES)
@pytest.mark.parametrize("market", MARKETS)
def test_direct_convolution(market: str, wavelet: str) -> None:
    check(MARKETS[market](), wavelet)


@pytest.mark.parametrize("name", REAL)
def test_real_bars(name: str, market_data: Path) -> None:
    check(real_bars(market_data, name), "db4")


@pytest.mark.parametrize("wavelet", TABLES)
def test_filters_are_orthonormal_with_vanishing_moments(wavelet: str) -> None:
    taps = np.array(SCALING[wavelet])
    close_to(taps, TABLES[wavelet], atol=1e-15)
    length = len(taps)
    for shift in range(0, length, 2):
        assert taps[shift:] @ taps[: length - shift] == pytest.approx(float(shift == 0), abs=1e-14)
    high = taps[::-1] * (-1.0) ** np.arange(length)
    for moment in range(length // 2):
        assert abs(high @ np.arange(length, dtype=float) ** moment) < 1e-10


def test_details_and_smooth_hold_all_the_energy() -> None:
    """Of a periodic series the transform keeps the sum of squares (Percival and Walden, ch. 5)."""
    once = np.cumsum(np.random.default_rng(4).normal(0, 0.01, 64))
    once -= np.linspace(0, once[-1], 64)
    bars = candles(*[np.exp(np.tile(once, 3))] * 4)
    made = make_features(bars, {"wavelet": {"windows": ["db4"]}}).values.numpy()[128:]
    made[:, 3] += once
    assert (made**2).sum() == pytest.approx((once**2).sum(), rel=1e-12)


def test_a_cubic_leaves_no_detail_of_db4() -> None:
    time = np.arange(200) / 200
    bars = candles(*[np.exp(time**3 - time)] * 4)
    for level in range(3):
        assert np.nanmax(np.abs(column(bars, "wavelet", "db4", output=level))) < 1e-12
        assert np.nanmax(np.abs(column(bars, "wavelet", "haar", output=level))) > 1e-4


def test_nothing_moved() -> None:
    for name in ("wavelet", "wavelet_energy", "wavelet_share"):
        made = make_features(flat(200, price=2.7e-05), {name: {}})
        assert (made.values[80:] == 0).all() and not made.levels


def test_column_names() -> None:
    made = make_features(walk(20, 1), {"wavelet": {"windows": ["haar"]}, "wavelet_energy": {"windows": [["db4", 16]]}})
    assert made.names[:4] == ("wavelet_d1_haar", "wavelet_d2_haar", "wavelet_d3_haar", "wavelet_smooth_haar")
    assert made.names[4:] == ("wavelet_energy_1_db4_16", "wavelet_energy_2_db4_16", "wavelet_energy_3_db4_16")
    with pytest.raises(ConfigError, match="'haar' or 'db4'"):
        read_set({"wavelet": {"windows": ["sym4"]}})
