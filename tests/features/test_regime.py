"""Regimes against TA-Lib, scipy, and plain numpy from their definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import talib
from scipy import stats

from gpu_pipeline.core.schema import Bars
from tests.features.factory import plain_bars
from tests.features.flow_markets import assert_near, flow_markets, frames, only, real_markets

Frames = list[tuple[Bars, pd.DataFrame]]


@pytest.fixture(scope="module")
def markets() -> Frames:
    return frames(flow_markets())


def trend(frame: pd.DataFrame, window: int, threshold: float) -> np.ndarray:
    prices = [frame[name].to_numpy() for name in ("high", "low", "close")]
    direction = np.sign(talib.PLUS_DI(*prices, window) - talib.MINUS_DI(*prices, window))
    strength = talib.ADX(*prices, window)
    return np.where(np.isnan(strength), np.nan, np.where(strength > threshold, direction, 0.0))


def ranks(values: np.ndarray, window: int) -> np.ndarray:
    out = np.full(len(values), np.nan)
    for t in range(window - 1, len(values)):
        out[t] = (stats.rankdata(values[t - window + 1 : t + 1])[-1] - 0.5) / window
    return out


def check_states(bars: Bars, frame: pd.DataFrame, window: int, volatility: int, history: int) -> tuple[set[float], ...]:
    wanted = trend(frame, window, 25)
    direction = only(bars, "trend_state", window)
    np.testing.assert_array_equal(direction, wanted)
    changes = np.log(frame.close).diff().to_numpy()
    movement = only(bars, "realised_volatility", volatility)
    assert_near(movement**2, pd.Series(changes**2).rolling(volatility).sum(), share=1e-8)
    rank = ranks(movement, history)
    assert_near(only(bars, "volatility_rank", volatility, history), rank, share=1e-12)
    state = np.where(np.isnan(rank), np.nan, (rank > 0.75) * 1.0 - (rank < 0.25))
    np.testing.assert_array_equal(only(bars, "volatility_state", volatility, history), state)
    np.testing.assert_array_equal(only(bars, "regime", window, volatility, history), 3 * wanted + state)
    return {*direction[~np.isnan(direction)]}, {*state[~np.isnan(state)]}


def test_states_on_every_market(markets: Frames) -> None:
    for bars, frame in markets:
        check_states(bars, frame, 7, 5, 40)


def test_states_of_real_bars_take_every_value(market_data: Path) -> None:
    for bars, frame in frames(real_markets(market_data)):
        trends, states = check_states(bars.select(slice(0, 3000)), frame[:3000], 14, 20, 200)
        assert trends == states == {-1.0, 0.0, 1.0}


def test_a_threshold_of_the_trend(markets: Frames) -> None:
    bars, frame = markets[0]
    calm, wild = (trend(frame, 10, threshold) for threshold in (40, 10))
    assert (calm != wild).sum() > 100
    np.testing.assert_array_equal(only(bars, "trend_state", 10, 40), calm)
    np.testing.assert_array_equal(only(bars, "trend_state", 10, 10), wild)


def test_no_movement_is_no_regime() -> None:
    bars = plain_bars(np.full(100, 5.0))
    for name, parameters in (("regime", (7, 5, 20)), ("efficiency_ratio", (7,)), ("trend_strength", (7,))):
        values = only(bars, name, *parameters)
        assert (values[~np.isnan(values)] == 0).all()
    assert (only(bars, "choppiness", 7)[7:] == 100).all() and (only(bars, "volatility_rank", 5, 9)[14:] == 0.5).all()


@pytest.mark.parametrize("window", [1, 10])
def test_efficiency_ratio(window: int, markets: Frames) -> None:
    for bars, frame in markets:
        way = frame.close.diff().abs().rolling(window).apply(sum, raw=True)
        far = frame.close.diff(window).abs()
        wanted = (far / way.where(way > 0)).where(way != 0, 0.0).where(way.notna())
        assert_near(only(bars, "efficiency_ratio", window), wanted)


@pytest.mark.parametrize("window", [3, 30])
def test_trend_strength(window: int, markets: Frames) -> None:
    for bars, frame in markets:
        ours, y = only(bars, "trend_strength", window), np.log(frame.close.to_numpy())
        most = np.sqrt((window - 2) * 0.9999 / 0.0001)
        for t in range(window - 1, len(y), 5):
            part = y[t - window + 1 : t + 1]
            if part.min() == part.max():
                assert ours[t] == 0
                continue
            fit = stats.linregress(np.arange(window), part - part[0])
            wanted = np.clip(fit.slope / fit.stderr if fit.stderr > 0 else np.sign(fit.slope) * np.inf, -most, most)
            assert ours[t] == pytest.approx(wanted, rel=1e-6, abs=1e-7)


def test_a_straight_line_has_the_largest_strength() -> None:
    rising = plain_bars(np.exp(0.001 * np.arange(50)))
    assert only(rising, "trend_strength", 10)[-1] == pytest.approx(np.sqrt(8 * 0.9999 / 0.0001))


@pytest.mark.parametrize("window", [2, 14])
def test_choppiness(window: int, markets: Frames) -> None:
    for bars, frame in markets:
        before = frame.close.shift()
        reach = pd.concat([frame.high - frame.low, (frame.high - before).abs(), (frame.low - before).abs()], axis=1)
        way = reach.max(axis=1).where(before.notna()).rolling(window).apply(sum, raw=True)
        span = frame.high.rolling(window).max() - frame.low.rolling(window).min()
        raw = 100 * np.log10((way / span.where(span > 0)).clip(lower=1)) / np.log10(window)
        wanted = raw.clip(upper=100).where(span > 0, 100.0).where(way.notna())
        assert_near(only(bars, "choppiness", window), wanted, least=1e-6)


def test_choppiness_of_a_straight_way_is_0_and_of_standing_bars_100() -> None:
    close = np.arange(1.0, 40.0)
    assert only(plain_bars(close, close, close - 1), "choppiness", 10)[-1] == pytest.approx(0, abs=1e-9)
    same = np.full(40, 5.0)
    assert only(plain_bars(same, same + 1, same - 1), "choppiness", 10)[-1] == pytest.approx(100)
