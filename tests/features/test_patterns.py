"""Candlestick patterns against TA-Lib, code for code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import talib
from talib import abstract

from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._candle import Candle
from gpu_pipeline.features._make import make_features
from gpu_pipeline.features.expression import Expression
from gpu_pipeline.features.patterns import FEATURES
from tests.features.ohlc import REAL, flat, gapped, real_bars, walk

NAMES = [feature.name for feature in FEATURES]
WANTED = {
    "cdldoji",
    "cdlhammer",
    "cdlinvertedhammer",
    "cdlhangingman",
    "cdlshootingstar",
    "cdlengulfing",
    "cdlharami",
    "cdlharamicross",
    "cdlmorningstar",
    "cdleveningstar",
    "cdlpiercing",
    "cdldarkcloudcover",
    "cdl3whitesoldiers",
    "cdl3blackcrows",
    "cdlmarubozu",
    "cdlspinningtop",
    "cdldragonflydoji",
    "cdlgravestonedoji",
    "cdl3inside",
    "cdl3outside",
}


def codes_of(bars: Bars) -> dict[str, set[float]]:
    """Asserts equality with TA-Lib after its lookback; the codes that occurred by pattern."""
    made = make_features(bars, {name: {} for name in NAMES})
    prices = [getattr(bars, side).numpy() for side in ("open", "high", "low", "close")]
    found = {}
    for index, name in enumerate(NAMES):
        lookback = abstract.Function(name.upper()).lookback
        ours, theirs = made.values[:, index].numpy(), getattr(talib, name.upper())(*prices)
        assert np.isnan(ours[:lookback]).all() and made.warmup[name] == lookback, name
        different = np.flatnonzero(ours[lookback:] != theirs[lookback:]) + lookback
        assert not len(different), f"{name}: {len(different)} rows differ, the first {different[:1]}"
        found[name] = set(ours[lookback:].tolist())
    return found


def test_the_twenty_patterns() -> None:
    assert set(NAMES) == WANTED and len(NAMES) == 20


@pytest.mark.parametrize("tick", [0.01, 1e-8, 0.25])
def test_candles_of_a_few_ticks_with_gaps(tick: float) -> None:
    found: dict[str, set[float]] = {name: set() for name in NAMES}
    for seed, most in enumerate((3, 6, 12, 40)):
        for name, codes in codes_of(gapped(20_000, seed, tick, most)).items():
            found[name] |= codes
    assert all(len(codes) >= 2 for codes in found.values())
    assert all(found[name] == {-100, 0, 100} for name in ("cdlmarubozu", "cdlspinningtop", "cdl3inside", "cdl3outside"))
    assert all(found[name] == {-100, -80, 0, 80, 100} for name in ("cdlengulfing", "cdlharami", "cdlharamicross"))


def fresh_mean(candle: Candle, size: Expression, period: int) -> Expression:
    return (size.rolling(period, "sum").lag(1) / period).lag(candle.back)


def test_sums_are_rounded_as_they_are_moved_on(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = gapped(40_000, 2, 0.1, most=12, around=30)
    codes_of(bars)
    monkeypatch.setattr(Candle, "_mean", fresh_mean)
    with pytest.raises(AssertionError, match="rows differ"):
        codes_of(bars)


@pytest.mark.parametrize("seed", range(2))
def test_random_walks_on_the_tick_grid(seed: int) -> None:
    codes_of(walk(3000, seed))


def test_constant_prices() -> None:
    found = codes_of(flat())
    assert found["cdldoji"] == {100.0} and found["cdlengulfing"] == {0.0}


@pytest.mark.parametrize("length", [1, 3, 10, 13, 14])
def test_short_histories(length: int) -> None:
    codes_of(gapped(length, 1, 0.01))


@pytest.mark.parametrize("name", REAL)
def test_real_bars(name: str, market_data: Path) -> None:
    found = codes_of(real_bars(market_data, name))
    assert all(len(codes) >= 2 for pattern, codes in found.items() if pattern in ("cdldoji", "cdlengulfing"))
