"""Volatility estimators against their formulas in numpy, window by window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpu_pipeline.core.schema import Bars
from tests.features.ohlc import MARKETS, REAL, candles, close_to, column, flat, frame_of, real_bars

LN2 = np.log(2)


def wanted(bars: Bars, window: int, row: int) -> dict[str, float]:
    """All estimators of the window that ends at a row, each from scratch."""
    rows = slice(row - window + 1, row + 1)
    frame = frame_of(bars)
    opened, high, low, close = (np.log(frame[name].to_numpy())[rows] for name in ("open", "high", "low", "close"))
    before = np.log(frame.close.to_numpy())[row - window : row]
    rs = np.mean((high - close) * (high - opened) + (low - close) * (low - opened))
    k = 0.34 / (1.34 + (window + 1) / (window - 1))
    change = close - before
    bipower = np.pi / 2 * window / (window - 1) * np.sum(np.abs(change[1:]) * np.abs(change[:-1]))
    realised = np.sum(change**2)
    return {
        "parkinson": np.sqrt(np.mean((high - low) ** 2) / (4 * LN2)),
        "garman_klass": np.sqrt(np.mean((high - low) ** 2 / 2 - (2 * LN2 - 1) * (close - opened) ** 2)),
        "rogers_satchell": np.sqrt(rs),
        "yang_zhang": np.sqrt(np.var(opened - before, ddof=1) + k * np.var(close - opened, ddof=1) + (1 - k) * rs),
        "bipower_volatility": np.sqrt(bipower),
        "jump_share": max(0.0, 1 - bipower / realised) if realised > 0 else 0.0,
    }


def check(bars: Bars, window: int, rows: range) -> None:
    ours = {name: column(bars, name, window) for name in wanted(bars, window, window)}
    for row in rows:
        for name, value in wanted(bars, window, row).items():
            close_to(ours[name][row], value, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("window", [2, 20])
def test_formulas(market: str, window: int) -> None:
    check(MARKETS[market](), window, range(window, 200, 7))


@pytest.mark.parametrize("name", REAL)
def test_real_bars(name: str, market_data: Path) -> None:
    bars = real_bars(market_data, name)
    check(bars, 30, range(100, len(bars), len(bars) // 40))


def test_warmups_and_nothing_moved() -> None:
    first = {"parkinson": 19, "garman_klass": 19, "rogers_satchell": 19, "yang_zhang": 20, "bipower_volatility": 20}
    for name, warmup in {**first, "jump_share": 20}.items():
        values = column(flat(), name, 20)
        assert np.isnan(values[:warmup]).all() and (values[warmup:] == 0).all()


def test_they_estimate_the_volatility_of_a_brownian_motion() -> None:
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 1e-5, (4000, 400))
    path = np.cumsum(steps.ravel()).reshape(steps.shape)
    opened = np.concatenate([[0.0], path[:-1, -1]])
    high, low = np.maximum(path.max(axis=1), opened), np.minimum(path.min(axis=1), opened)
    bars = candles(*(np.exp(side) for side in (opened, high, low, path[:, -1])))
    truth = 1e-5 * np.sqrt(400)
    for name in ("parkinson", "garman_klass", "rogers_satchell", "yang_zhang"):
        assert column(bars, name, 3999)[-1] == pytest.approx(truth, rel=0.07), name
    assert column(bars, "bipower_volatility", 3999)[-1] == pytest.approx(truth * np.sqrt(3999), rel=0.05)
    assert column(bars, "jump_share", 3999)[-1] < 0.05


def test_a_jump_shows_in_the_share() -> None:
    rng = np.random.default_rng(1)
    change = rng.normal(0, 1e-4, 300)
    change[250] = 0.02
    close = 100 * np.exp(np.cumsum(change))
    share = column(candles(close, close, close, close), "jump_share", 50)
    assert share[249] < 0.3 and (share[250:] > 0.95).all()
