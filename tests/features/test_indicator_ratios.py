"""Forms of the indicators that are no levels, against TA-Lib's levels; their marks; prices scaled by any factor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import talib

from gpu_pipeline.features._feature import catalogue
from gpu_pipeline.features._make import make_features
from tests.features import edge_markets

LEVELS = ("sma", "ema", "wma", "dema", "tema", "kama", "macd", "bbands", "atr", "mom", "typprice", "sar")
LEVELS += ("obv", "ad", "adosc", "volume_sma")
WINDOWED = ("sma_ratio", "ema_ratio", "wma_ratio", "dema_ratio", "tema_ratio", "kama_ratio", "volume_sma_ratio")
WINDOWED += ("obv_change", "ad_change")
PLAIN = ("bbands_ratio", "macd_ratio", "adosc_ratio", "typprice_ratio", "sar_distance")
RATIOS = {**{name: {"windows": [10]} for name in WINDOWED}, **{name: {} for name in PLAIN}}


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part / whole, 0 where there is nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole == 0, 0.0 * part, part / whole)


def total(x: np.ndarray, window: int) -> np.ndarray:
    head = np.full(min(window - 1, len(x)), np.nan)
    return np.concatenate([head, np.lib.stride_tricks.sliding_window_view(x, window).sum(axis=1)])


def wanted(market: edge_markets.Columns) -> dict[str, np.ndarray]:
    high, low, close, volume = (market[name] for name in ("high", "low", "close", "volume"))
    averages = {name: getattr(talib, name.upper())(close, 10) for name in ("sma", "ema", "wma", "dema", "tema", "kama")}
    found = {f"{name}_ratio_10": close / average - 1 for name, average in averages.items()}
    lines = zip(("macd", "macd_signal", "macd_hist"), talib.MACD(close, 12, 26, 9), strict=True)
    found |= {f"{name}_ratio_12_26_9": line / close for name, line in lines}
    upper, middle, lower = talib.BBANDS(close, 20, 2, 2)
    found["band_width_20_2"] = (upper - lower) / middle
    found["band_percent_20_2"] = np.where(upper == lower, 0.5, share(close - lower, upper - lower))
    change = np.concatenate([[np.nan], np.diff(close)])
    flow = share((close - low) - (high - close), high - low) * volume
    found["obv_change_10"] = share(total(np.sign(change) * volume, 10), total(volume, 10))
    found["ad_change_10"] = share(total(flow, 10), total(volume, 10))
    found["adosc_ratio_3_10"] = share(talib.ADOSC(high, low, close, volume, 3, 10), total(volume, 10) / 10)
    found["volume_sma_ratio_10"] = share(volume + 0 * total(volume, 10), total(volume, 10) / 10)
    found["typprice_ratio"] = close / talib.TYPPRICE(high, low, close) - 1
    found["sar_distance_0.02_0.2"] = (close - talib.SAR(high, low)) / close
    return found


def check(market: edge_markets.Columns) -> None:
    made = make_features(edge_markets.bars_of(market), RATIOS)
    oracle = wanted(market)
    assert sorted(oracle) == sorted(made.names) and not made.levels
    for index, name in enumerate(made.names):
        rounding = 1e-7 if name.startswith("band_percent") else 1e-10  # TA-Lib's bands may lie a tick apart
        np.testing.assert_allclose(made.values[:, index].numpy(), oracle[name], rtol=1e-9, atol=rounding, err_msg=name)


@pytest.mark.parametrize("name", edge_markets.made(100))
def test_made_markets(name: str) -> None:
    check(edge_markets.made()[name])


@pytest.mark.parametrize("name", edge_markets.REAL)
def test_minute_bars_of_others(name: str, market_data: Path) -> None:
    check(edge_markets.real(market_data, name))


def test_shares_stay_within_their_bounds() -> None:
    made = make_features(edge_markets.bars_of(edge_markets.made()["no volume"]), RATIOS)
    for name in ("obv_change_10", "ad_change_10"):
        column = made.values[10:, made.names.index(name)]
        assert column.abs().max() <= 1 + 1e-12 and column.min() < -0.5 and column.max() > 0.5


def test_levels_are_marked() -> None:
    features = catalogue()
    assert all(features[name].levels for name in LEVELS) and not any(features[name].levels for name in RATIOS)
    bands = features["bbands"]
    assert bands.level_columns(bands.config()) == ("bb_upper_20_2", "bb_middle_20_2", "bb_lower_20_2")


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**13])
def test_what_is_no_level_does_not_change_with_the_unit_of_the_price(factor: float) -> None:
    market = edge_markets.walk(400, 31)
    scaled = {name: column * (1.0 if name == "volume" else factor) for name, column in market.items()}
    others = ["rsi", "cmo", "adx", "plus_di", "minus_di", "aroonosc", "cci", "mfi", "willr", "natr", "roc", "trix"]
    chosen = {**RATIOS, **{name: {"windows": [10]} for name in others}, "stoch": {}, "ppo": {}, "ultosc": {}}
    one, other = (make_features(edge_markets.bars_of(x), chosen).values.numpy() for x in (market, scaled))
    assert np.array_equal(one, other, equal_nan=True)
