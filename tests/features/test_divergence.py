"""Divergences against the definition in plain Python over lists, with TA-Lib's oscillators."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import talib

from gpu_pipeline.features._make import make_features
from tests.features import edge_markets


def columns(market: edge_markets.Columns, features: dict[str, object]) -> dict[str, np.ndarray]:
    made = make_features(edge_markets.bars_of(market), features)
    return {name: made.values[:, index].numpy() for index, name in enumerate(made.names)}


def sign(x: float, least: float = 0.0) -> int:
    return (x > least) - (x < -least)


def directions(close: list[float], oscillator: list[float], window: int, least: list[float]) -> list[float]:
    found = []
    for t in range(len(close)):
        if t < window or math.isnan(oscillator[t - window]):
            found.append(math.nan)
        else:
            change = oscillator[t] - oscillator[t - window]
            found.append(float(sign(close[t] - close[t - window]) - sign(change, least[t])))
    return found


def is_low(price: list[float], j: int, span: int) -> bool:
    before, after = price[j - span : j], price[j + 1 : j + span + 1]
    return all(price[j] < other for other in before) and all(price[j] <= other for other in after)


def swings(price: list[float], rsi: list[float], span: int, longest: int) -> list[float]:
    """1 where the last two lows known diverge; highs are lows of the negated price and rsi."""
    found = []
    for t in range(len(price)):
        known = [
            j for j in range(span, t - span + 1) if not math.isnan(rsi[j - span]) and is_low(price, j, span)
        ]  # all of them, anew on every bar
        flag = 0.0
        if len(known) >= 2:
            p, q = known[-2], known[-1]
            recent = q - p <= longest and t - q <= longest
            flag = float(recent and price[q] < price[p] and rsi[q] - rsi[p] > 1e-9)
        found.append(flag)
    return found


def check_swings(market: edge_markets.Columns, span: int, longest: int, window: int) -> dict[str, float]:
    made = columns(market, {"swing_divergence": {"windows": [[span, longest, window]]}})
    rsi = talib.RSI(market["close"], window)
    warmup, share = window + 2 * span, {}
    for name, price, strength in (("bullish", market["low"], rsi), ("bearish", -market["high"], -rsi)):
        ours = made[f"{name}_divergence_{span}_{longest}_{window}"]
        wanted = swings(price.tolist(), strength.tolist(), span, longest)
        assert np.isnan(ours[:warmup]).all() and ours[warmup:].tolist() == wanted[warmup:], name
        share[name] = float(np.mean(wanted[warmup:]))
    return share


@pytest.mark.parametrize("name", edge_markets.made(100))
def test_directions(name: str) -> None:
    market = edge_markets.made(400)[name]
    close, volume = market["close"], market["volume"]
    names = ("rsi_divergence", "macd_divergence", "obv_divergence")
    made = columns(market, {name: {"windows": [5]} for name in names})
    balance = np.concatenate([[0], np.cumsum(np.sign(np.diff(close)) * volume[1:])])
    traded = np.convolve(volume, np.ones(5))[: len(volume)]
    oracles = {
        "rsi_divergence_5_14": (talib.RSI(close, 14), np.full(len(close), 1e-9)),
        "macd_divergence_5": (talib.MACD(close, 12, 26, 9)[2], 1e-12 * close),
        "obv_divergence_5": (balance, 1e-11 * traded + 1e-12 * np.abs(balance)),
    }
    for column, (oscillator, least) in oracles.items():
        wanted = directions(close.tolist(), oscillator.tolist(), 5, least.tolist())
        assert np.array_equal(made[column], wanted, equal_nan=True), column


@pytest.mark.parametrize(("span", "longest", "window"), [(1, 30, 2), (3, 25, 14), (5, 60, 5)])
def test_swings_of_a_walk(span: int, longest: int, window: int) -> None:
    share = check_swings(edge_markets.walk(400, 2), span, longest, window)
    assert all(value > 0.01 for value in share.values())


@pytest.mark.parametrize("name", edge_markets.made(100))
def test_swings_of_made_markets(name: str) -> None:
    check_swings(edge_markets.made(300)[name], 2, 40, 5)


def test_swings_of_real_minutes(market_data: Path) -> None:
    market = edge_markets.cut(edge_markets.real(market_data, "6EH4_1m_202401"), 1000)
    share = check_swings(market, 3, 40, 14)
    assert all(0.02 < value < 0.6 for value in share.values())


def test_a_divergence_is_shown_when_its_pivot_is_known_and_not_before() -> None:
    low = np.array([9.0, 8, 7, 6, 5, 6, 7, 8, 7, 6, 5, 4.5, 6, 7, 8, 9])
    close = low + np.array([0.0] * 11 + [1.5] + [0.0] * 4)  # the second low closes high: a weaker fall
    market = {"open": close, "high": np.maximum(low, close), "low": low, "close": close, "volume": np.ones(16)}
    flags = columns(market, {"swing_divergence": {"windows": [[2, 60, 2]]}})["bullish_divergence_2_60_2"]
    assert np.flatnonzero(flags == 1).tolist() == [13, 14, 15]
