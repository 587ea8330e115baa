"""Parity with TA-Lib as DESIGN 4.6 defines it: |a - b| <= 1e-9 x max|b|, and the same rows without a value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import talib

from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._make import make_features
from tests.features.factory import bars_at, dollar_ends, plain_bars, random_tape, real_tape

Prices = tuple[np.ndarray, np.ndarray, np.ndarray]
ORACLES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]] = {
    "sma": lambda high, low, close, window: talib.SMA(close, window),
    "ema": lambda high, low, close, window: talib.EMA(close, window),
    "rsi": lambda high, low, close, window: talib.RSI(close, window),
    "atr": lambda high, low, close, window: talib.ATR(high, low, close, window),
}


def assert_parity(bars: Bars, windows: dict[str, list[int]]) -> None:
    prices = [getattr(bars, name).numpy() for name in ("high", "low", "close")]
    features = make_features(bars, {name: {"windows": some} for name, some in windows.items()})
    for name, some in windows.items():
        for window in some:
            ours = features.values[:, features.names.index(f"{name}_{window}")].numpy()
            theirs = ORACLES[name](*prices, window)
            assert np.array_equal(np.isnan(ours), np.isnan(theirs)), f"{name}_{window}: other rows are NaN"
            largest = np.nanmax(np.abs(theirs), initial=0)
            assert np.nanmax(np.abs(ours - theirs), initial=0) <= 1e-9 * largest, f"{name}_{window}"


WINDOWS = {"sma": [1, 2, 20, 97], "ema": [1, 2, 12, 200], "rsi": [2, 14, 50], "atr": [2, 14, 60]}


@pytest.mark.parametrize("seed", range(3))
def test_random_walks_on_the_tick_grid(seed: int) -> None:
    tape = random_tape(30_000, seed)
    assert_parity(bars_at(tape, np.arange(10, 30_001, 10)), WINDOWS)


def test_a_long_history_of_large_moves() -> None:
    rng = np.random.default_rng(5)
    close = np.exp(np.cumsum(rng.normal(0, 0.01, 100_000)))
    wide = close * rng.uniform(0, 0.01, close.size)
    assert_parity(plain_bars(close, close + wide, close - wide), WINDOWS)


def test_constant_prices_and_prices_that_stop_moving() -> None:
    assert_parity(plain_bars(np.full(300, 9731.07)), WINDOWS)
    assert_parity(plain_bars(np.concatenate([100 + np.arange(50) % 7, np.full(2000, 103.01)])), WINDOWS)


@pytest.mark.parametrize("length", [0, 1, 13, 14, 15])
def test_histories_about_as_long_as_the_window(length: int) -> None:
    close = np.linspace(100, 101, length) if length else np.empty(0)
    if length:
        assert_parity(plain_bars(close), {"sma": [14], "ema": [14], "rsi": [14], "atr": [14]})
    else:
        assert make_features(plain_bars(close), {"rsi": {"windows": [14]}}).values.shape == (0, 1)


def test_real_trading_day(market_data: Path) -> None:
    tape = real_tape(market_data)
    bars = bars_at(tape, dollar_ends(tape, 200_000))
    assert len(bars) > 2000
    assert_parity(bars, WINDOWS)


@pytest.mark.parametrize("name", ["adabtc_binance_1m_20211127_28", "6EH4_1m_202401"])
def test_minute_bars_of_others_with_tiny_prices_and_empty_minutes(name: str, market_data: Path) -> None:
    table = pq.read_table(market_data / "bars_1m" / f"{name}.parquet").to_pandas()
    high, low, close = (table[key].to_numpy(np.float64) for key in ("high", "low", "close"))
    assert_parity(plain_bars(close, high, low), WINDOWS)
