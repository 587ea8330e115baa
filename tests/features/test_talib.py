"""Parity with TA-Lib as DESIGN 4.6 defines it: |a - b| <= 1e-9 x max|b|, and the same rows without a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import talib

from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._make import make_features
from tests.features import edge_markets
from tests.features.factory import bars_at, dollar_ends, plain_bars, random_tape, real_tape

Market = Mapping[str, np.ndarray]
Oracle = Callable[..., dict[str, np.ndarray]]


def of(function: Callable[..., Any], inputs: str, *outputs: str, more: Callable[..., dict[str, Any]] = dict) -> Oracle:
    """TA-Lib's function of some bar columns (h l c v) and the parameters as one with named outputs."""
    names = [{"h": "high", "l": "low", "c": "close", "v": "volume"}[letter] for letter in inputs]

    def oracle(market: Market, *parameters: float) -> dict[str, np.ndarray]:
        found = function(*(market[name] for name in names), *parameters, **more())
        return dict(zip(outputs, found if isinstance(found, tuple) else (found,), strict=True))

    return oracle


def stoch(market: Market, fast_k: int, slow_k: int, slow_d: int) -> dict[str, np.ndarray]:
    prices = (market[name] for name in ("high", "low", "close"))
    k, d = talib.STOCH(*prices, fast_k, slow_k, talib.MA_Type.SMA, slow_d, talib.MA_Type.SMA)
    return {"stoch_k": k, "stoch_d": d}


def bands(market: Market, window: int, width: float) -> dict[str, np.ndarray]:
    upper, middle, lower = talib.BBANDS(market["close"], window, width, width, talib.MA_Type.SMA)
    found = {"bb_upper": upper, "bb_middle": middle, "bb_lower": lower, "bb_width": (upper - lower) / middle}
    return {**found, "bb_percent": np.where(upper == lower, 0.5, (market["close"] - lower) / (upper - lower))}


# TA-Lib's bands are right to some 1e-15 of the price: where they lie a tick apart that is this much of their distance.
LOOSER = {"bb_percent": 1e-7}

ORACLES: dict[str, tuple[Oracle, list[Any]]] = {
    "sma": (of(talib.SMA, "c", "sma"), [2, 20, 97]),
    "ema": (of(talib.EMA, "c", "ema"), [2, 12, 200]),
    "wma": (of(talib.WMA, "c", "wma"), [2, 14, 30]),
    "dema": (of(talib.DEMA, "c", "dema"), [2, 20]),
    "tema": (of(talib.TEMA, "c", "tema"), [2, 20]),
    "kama": (of(talib.KAMA, "c", "kama"), [2, 10, 30]),
    "rsi": (of(talib.RSI, "c", "rsi"), [2, 14, 50]),
    "cmo": (of(talib.CMO, "c", "cmo"), [2, 14]),
    "mom": (of(talib.MOM, "c", "mom"), [1, 10]),
    "roc": (of(talib.ROC, "c", "roc"), [1, 10]),
    "trix": (of(talib.TRIX, "c", "trix"), [1, 15]),
    "macd": (of(talib.MACD, "c", "macd", "macd_signal", "macd_hist"), [[12, 26, 9], [10, 3, 1]]),
    "ppo": (of(talib.PPO, "c", "ppo", more=lambda: {"matype": talib.MA_Type.EMA}), [[12, 26], [10, 3]]),
    "atr": (of(talib.ATR, "hlc", "atr"), [2, 14, 60]),
    "natr": (of(talib.NATR, "hlc", "natr"), [2, 14]),
    "plus_di": (of(talib.PLUS_DI, "hlc", "plus_di"), [2, 14]),
    "minus_di": (of(talib.MINUS_DI, "hlc", "minus_di"), [2, 14]),
    "adx": (of(talib.ADX, "hlc", "adx"), [2, 14]),
    "aroon": (of(talib.AROON, "hl", "aroon_down", "aroon_up"), [2, 14, 25]),
    "aroonosc": (of(talib.AROONOSC, "hl", "aroonosc"), [2, 14]),
    "bbands": (bands, [[20, 2], [5, 1.5]]),
    "cci": (of(talib.CCI, "hlc", "cci"), [2, 14, 20]),
    "ultosc": (of(talib.ULTOSC, "hlc", "ultosc"), [[7, 14, 28], [5, 3, 4]]),
    "mfi": (of(talib.MFI, "hlcv", "mfi"), [2, 14]),
    "obv": (of(talib.OBV, "cv", "obv"), [[]]),
    "ad": (of(talib.AD, "hlcv", "ad"), [[]]),
    "adosc": (of(talib.ADOSC, "hlcv", "adosc"), [[3, 10], [10, 4]]),
    "volume_sma": (of(talib.SMA, "v", "volume_sma"), [20]),
    "typprice": (of(talib.TYPPRICE, "hlc", "typprice"), [[]]),
    "sar": (of(talib.SAR, "hl", "sar"), [[0.02, 0.2], [0.25, 1]]),
    "stoch": (stoch, [[14, 3, 3], [5, 1, 2]]),
    "stochf": (of(talib.STOCHF, "hlc", "stochf_k", "stochf_d"), [[5, 3], [14, 1]]),
    "stochrsi": (of(talib.STOCHRSI, "c", "stochrsi_k", "stochrsi_d"), [[14, 14, 3], [14, 5, 3]]),
    "willr": (of(talib.WILLR, "hlc", "willr"), [2, 14]),
}


def tail(parameters: Any) -> str:
    values = parameters if isinstance(parameters, list) else [parameters]
    return "".join(f"_{value:g}" for value in values)


def assert_parity(bars: Bars, market: Market, names: list[str] | None = None) -> None:
    chosen = {name: ORACLES[name] for name in names or ORACLES}
    features = make_features(bars, {name: {"windows": choices} for name, (_, choices) in chosen.items()})
    unchecked = set(features.names)
    for oracle, choices in chosen.values():
        for parameters in choices:
            values = parameters if isinstance(parameters, list) else [parameters]
            with np.errstate(invalid="ignore", divide="ignore"):
                wanted = oracle(market, *values)
            for output, theirs in wanted.items():
                column = output + tail(parameters)
                ours = features.values[:, features.names.index(column)].numpy()
                same(column, ours, theirs, LOOSER.get(output, 1e-9))
                unchecked.discard(column)
    assert not unchecked


def same(column: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-9) -> None:
    assert np.array_equal(np.isnan(ours), np.isnan(theirs)), f"{column}: other rows are NaN"
    largest = np.nanmax(np.abs(theirs), initial=0)
    assert np.nanmax(np.abs(ours - theirs), initial=0) <= tolerance * largest, column


def columns_of(bars: Bars) -> Market:
    return {name: getattr(bars, name).numpy() for name in edge_markets.NAMES}


@pytest.mark.parametrize("name", edge_markets.made(100))
def test_made_markets(name: str) -> None:
    market = edge_markets.made()[name]
    assert_parity(edge_markets.bars_of(market), market)


@pytest.mark.parametrize("name", ["stoch", "stochf", "stochrsi", "willr", "adosc", "ultosc", "cci", "kama"])
def test_what_is_compared_or_may_be_rounding_alone_has_the_bits_of_talib(name: str) -> None:
    oracle, choices = ORACLES[name]
    markets = [edge_markets.walk(60, seed, tick=0.25, base=2_700, widest=2, stay=0.5) for seed in range(40)]
    for market in [*markets, edge_markets.walk(20_000, 41, tick=0.25, base=200_000, widest=2, stay=0.5)]:
        made = make_features(edge_markets.bars_of(market), {name: {"windows": choices}})
        for parameters in choices:
            values = parameters if isinstance(parameters, list) else [parameters]
            for output, theirs in oracle(market, *values).items():
                ours = made.values[:, made.names.index(output + tail(parameters))].numpy()
                assert np.array_equal(ours, theirs, equal_nan=True), output


def test_where_in_the_bands_the_close_is() -> None:
    market = edge_markets.walk(3000, 21, stay=0.7, widest=1)
    window = np.lib.stride_tricks.sliding_window_view(np.round(market["close"] * 100), 20)
    spread = window.std(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = np.where(spread > 0, 0.5 + (window[:, -1] - window.mean(axis=1)) / (4 * spread), 0.5)
    made = make_features(edge_markets.bars_of(market), {"bbands": {"windows": [[20, 2]]}})
    ours = made.values[19:, made.names.index("bb_percent_20_2")].numpy()
    assert np.abs(ours - wanted).max() <= 1e-9 and (spread == 0).any()


@pytest.mark.parametrize("seed", range(2))
def test_bars_of_random_trades(seed: int) -> None:
    tape = random_tape(30_000, seed)
    bars = bars_at(tape, np.arange(10, 30_001, 10))
    assert_parity(bars, columns_of(bars))


def test_a_long_history_of_large_moves() -> None:
    rng = np.random.default_rng(5)
    close = np.exp(np.cumsum(rng.normal(0, 0.01, 100_000)))
    wide = close * rng.uniform(0, 0.01, close.size)
    bars = plain_bars(close, close + wide, close - wide)
    assert_parity(bars, columns_of(bars))


@pytest.mark.parametrize("name", ORACLES)
def test_histories_about_as_long_as_the_warmup(name: str) -> None:
    oracle, choices = ORACLES[name]
    market = edge_markets.walk(700, 12)
    parameters = choices[-1]
    values = parameters if isinstance(parameters, list) else [parameters]
    warmup = max(int(np.isnan(column).sum()) for column in oracle(market, *values).values())
    for rows in sorted({1, 2, max(warmup, 1), warmup + 1, warmup + 2}):
        short = edge_markets.cut(market, rows)
        made = make_features(edge_markets.bars_of(short), {name: {"windows": [parameters]}})
        for output, theirs in oracle(short, *values).items():
            same(output, made.values[:, made.names.index(output + tail(parameters))].numpy(), theirs)


def test_no_rows_give_no_rows() -> None:
    assert make_features(plain_bars(np.empty(0)), {"rsi": {"windows": [14]}}).values.shape == (0, 1)


def test_real_trading_day(market_data: Path) -> None:
    tape = real_tape(market_data)
    bars = bars_at(tape, dollar_ends(tape, 200_000))
    assert len(bars) > 2000
    assert_parity(bars, columns_of(bars))


@pytest.mark.parametrize("name", edge_markets.REAL)
def test_minute_bars_of_others_with_tiny_prices_and_empty_minutes(name: str, market_data: Path) -> None:
    market = edge_markets.real(market_data, name)
    assert_parity(edge_markets.bars_of(market), market)
