"""Fractional differences, Hurst exponent and variance ratio against their papers' formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import special

from gpu_pipeline.core.errors import ConfigError
from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._make import make_features
from gpu_pipeline.features._set import read_set
from tests.features.ohlc import MARKETS, REAL, candles, close_to, column, flat, real_bars


def of_log(price: np.ndarray) -> Bars:
    return candles(*[np.exp(price)] * 4)


def binomial_weights(order: float, count: int) -> np.ndarray:
    """(-1)^k binom(d, k): the series of (1 - B)^d."""
    places = np.arange(count)
    return (-1.0) ** places * special.binom(order, places)


def differenced(price: np.ndarray, weights: np.ndarray) -> np.ndarray:
    wanted = np.convolve(price, weights)[: len(price)]
    wanted[: len(weights) - 1] = np.nan
    return wanted


def lo_mackinlay(price: np.ndarray, q: int) -> tuple[float, float]:
    """M_r(q) + 1, and z(q) or z*(q), whichever is nearer to 0, of prices X_0 .. X_T, term by term."""
    steps = np.diff(price)
    number, mean = len(steps), (price[-1] - price[0]) / len(steps)
    short = sum((r - mean) ** 2 for r in steps) / (number - 1)
    scale = q * (number - q + 1) * (1 - q / number)
    long = sum((price[k] - price[k - q] - q * mean) ** 2 for k in range(q, number + 1)) / scale
    squares = (steps - mean) ** 2
    delta = [number * sum(squares[k] * squares[k - j] for k in range(j, number)) for j in range(1, q)]
    theta = sum((2 * (q - j) / q) ** 2 * d / squares.sum() ** 2 for j, d in enumerate(delta, 1))
    ratio, steady = long / short, 2 * (2 * q - 1) * (q - 1) / (3 * q)
    robust = np.sqrt(number) * (ratio - 1) / np.sqrt(theta) if theta > 0 else np.inf
    return ratio, min(np.sqrt(number) * (ratio - 1) / np.sqrt(steady), robust, key=abs)


def mean_squares_hurst(price: np.ndarray) -> float:
    steps = [s for s in (1, 2, 4, 8, 16, 32) if s <= len(price) // 4]
    means = np.array([np.mean((price[s:] - price[:-s]) ** 2) for s in steps])
    if means.max() == 0:
        return 0.5
    slope = np.polyfit(np.log(steps), np.log(np.maximum(means, 1e-12 * means.max())), 1)[0]
    return float(np.clip(slope / 2, 0, 1))


def check(bars: Bars, rows: range) -> None:
    price = np.log(bars.close.numpy())
    for order, window in ((0.4, 20), (1.6, 50)):
        wanted = differenced(price, binomial_weights(order, window))
        close_to(column(bars, "fracdiff_width", order, window), wanted, rtol=1e-9)
    short, long = column(bars, "hurst", 8), column(bars, "hurst", 70)
    ratios = {(w, q): column(bars, "variance_ratio", w, q) for w, q in ((3, 2), (40, 2), (60, 5))}
    scores = {(w, q): column(bars, "variance_ratio", w, q, output=1) for w, q in ratios}
    for row in rows:
        close_to(short[row], mean_squares_hurst(price[row - 7 : row + 1]), rtol=1e-7, atol=1e-8)
        close_to(long[row], mean_squares_hurst(price[row - 69 : row + 1]), rtol=1e-7, atol=1e-8)
        for (window, q), ratio in ratios.items():
            held = price[row - window : row + 1]
            wanted = lo_mackinlay(held, q) if np.ptp(np.diff(held)) > 0 else (1.0, 0.0)
            close_to([ratio[row], scores[window, q][row]], wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("market", MARKETS)
def test_formulas(market: str) -> None:
    bars = MARKETS[market]()
    check(bars, range(75, len(bars), 23))


@pytest.mark.parametrize("name", REAL)
def test_real_bars(name: str, market_data: Path) -> None:
    bars = real_bars(market_data, name)
    check(bars, range(100, len(bars), len(bars) // 20))


@pytest.mark.parametrize(("order", "threshold"), [(0.4, 1e-3), (0.9, 1e-4), (0.1, 1e-3)])
def test_weights_end_where_they_are_small(order: float, threshold: float) -> None:
    bars = MARKETS["walk"]()
    weights = binomial_weights(order, 400)
    small = np.flatnonzero(np.abs(weights) < threshold)
    assert 5 < small[0] < 300
    wanted = differenced(np.log(bars.close.numpy()), weights[: small[0]])
    close_to(column(bars, "fracdiff", order, threshold), wanted, rtol=1e-9)


def test_whole_orders_are_differences() -> None:
    bars = MARKETS["ticks with gaps"]()
    price = np.log(bars.close.numpy())
    close_to(column(bars, "fracdiff", 1.0)[1:], np.diff(price), atol=1e-14)
    close_to(column(bars, "fracdiff", 2.0)[2:], np.diff(price, 2), atol=1e-14)


def fractional_brownian_motions(hurst: float, rows: int, paths: int) -> np.ndarray:
    """[rows, paths] by the Cholesky factor of the covariance."""
    time = np.arange(1, rows + 1) ** (2 * hurst)
    apart = np.abs(np.subtract.outer(np.arange(rows), np.arange(rows))) ** (2 * hurst)
    factor = np.linalg.cholesky(0.5 * (time[:, None] + time[None, :] - apart))
    return 0.01 * factor @ np.random.default_rng(3).normal(size=(rows, paths))


@pytest.mark.parametrize("hurst", [0.2, 0.5, 0.8])
def test_hurst_finds_the_exponent_of_fractional_brownian_motion(hurst: float) -> None:
    paths = fractional_brownian_motions(hurst, 400, 12).T
    found = [column(of_log(path), "hurst", 400)[-1] for path in paths]
    assert np.mean(found) == pytest.approx(hurst, abs=0.07)


def test_hurst_of_prices_that_only_bounce_or_only_rise() -> None:
    time = np.arange(100)
    assert (column(of_log(0.01 * (time % 2)), "hurst", 32)[31:] == 0).all()
    close_to(column(of_log(0.01 * time), "hurst", 32)[31:], np.ones(69), atol=1e-9)


def test_variance_ratio_of_random_walks_is_standard_normal() -> None:
    rng = np.random.default_rng(7)
    steps = rng.normal(0, 1e-3, 60_000) * np.repeat(rng.uniform(0.5, 3, 600), 100)
    bars = of_log(np.cumsum(steps))
    ratio, z = (column(bars, "variance_ratio", 300, 4, output=index)[300::300] for index in (0, 1))
    assert abs(ratio.mean() - 1) < 0.03 and abs(z.mean()) < 0.2 and abs(z.std() - 1) < 0.15


def test_a_price_that_returns_after_a_pause_has_a_z_of_ordinary_size() -> None:
    price = np.zeros(60)
    price[20:23] = 0.01
    assert np.abs(column(of_log(price), "variance_ratio", 40, 2, output=1)[40:]).max() < 2


def test_variance_ratio_of_turning_and_of_trending_prices() -> None:
    rng = np.random.default_rng(8)
    noise = rng.normal(0, 1e-3, 3000)
    turning, trending = of_log(noise), of_log(np.cumsum(np.convolve(noise, np.ones(5))))
    assert np.nanmax(column(turning, "variance_ratio", 500, 4)) < 0.5
    assert np.nanmin(column(trending, "variance_ratio", 500, 4)) > 2
    assert np.nanmax(column(turning, "variance_ratio", 500, 4, output=1)) < -4


def test_nothing_moved() -> None:
    made = make_features(flat(), {"hurst": {}, "variance_ratio": {"windows": [[20, 4]]}, "fracdiff": {}})
    assert made.names == ("hurst_64", "variance_ratio_20_4", "variance_ratio_z_20_4", "fracdiff_0.4_0.001")
    assert made.values[-1, :3].tolist() == [0.5, 1.0, 0.0] and made.values[-1, 3] == made.values[-9, 3]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"fracdiff": {"windows": [[0.3, 1e-9]]}}, "1e-09 gives more than 10,000 weights; raise threshold"),
        ({"variance_ratio": {"windows": [[5, 5]]}}, r"horizon must be at least 2 and below window \(5\), got 5"),
        ({"variance_ratio": {"windows": [[5, 1]]}}, r"horizon must be at least 2 and below window \(5\), got 1"),
        ({"hurst": {"windows": [7]}}, "greater than or equal to 8"),
    ],
)
def test_wrong_parameters(entry: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_set(entry)
