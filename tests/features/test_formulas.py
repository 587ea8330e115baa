"""Every feature against its formula, computed by pandas, numpy or the calendar."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._make import make_features
from gpu_pipeline.features._set import read_set
from tests.features.factory import bars_at, dollar_ends, plain_bars, random_tape

LOT = 0.001


@pytest.fixture(scope="module")
def bars() -> Bars:
    tape = random_tape(20_000, seed=2, minutes=4000)
    return bars_at(tape, dollar_ends(tape, 30_000))


@pytest.fixture(scope="module")
def frame(bars: Bars) -> pd.DataFrame:
    return bars.to_pandas()


def column(bars: Bars, feature: str, *windows: int) -> np.ndarray:
    made = make_features(bars, {feature: {"windows": list(windows)} if windows else {}})
    assert made.values.shape == (len(bars), 1)
    return made.values[:, 0].numpy()


def close_to(ours: np.ndarray, wanted: pd.Series | np.ndarray, rtol: float = 1e-11, atol: float = 1e-12) -> None:
    np.testing.assert_allclose(ours, np.asarray(wanted, dtype=np.float64), rtol=rtol, atol=atol, equal_nan=True)


@pytest.mark.parametrize("window", [1, 7])
def test_returns(bars: Bars, frame: pd.DataFrame, window: int) -> None:
    close_to(column(bars, "return", window), frame.close.pct_change(window))
    close_to(column(bars, "log_return", window), np.log(frame.close).diff(window), atol=1e-11)


def test_candle_ratios(bars: Bars, frame: pd.DataFrame) -> None:
    span = (frame.high - frame.low).replace(0, np.nan)
    body = frame[["open", "close"]]
    close_to(column(bars, "body_ratio"), ((frame.close - frame.open) / span).fillna(0))
    close_to(column(bars, "upper_wick"), ((frame.high - body.max(axis=1)) / span).fillna(0))
    close_to(column(bars, "lower_wick"), ((body.min(axis=1) - frame.low) / span).fillna(0))
    close_to(column(bars, "close_location"), ((frame.close - frame.low) / span).fillna(0.5))
    close_to(column(bars, "range_ratio"), (frame.high - frame.low) / frame.close)


def test_candles_without_range_have_their_stated_values() -> None:
    flat = plain_bars(np.full(3, 5.0))
    values = {
        name: column(flat, name).tolist() for name in ("body_ratio", "upper_wick", "lower_wick", "close_location")
    }
    assert values == {"body_ratio": [0] * 3, "upper_wick": [0] * 3, "lower_wick": [0] * 3, "close_location": [0.5] * 3}


def test_averages(bars: Bars, frame: pd.DataFrame) -> None:
    close_to(column(bars, "sma", 20), frame.close.rolling(20).mean())
    close_to(column(bars, "sma_ratio", 20), frame.close / frame.close.rolling(20).mean() - 1, atol=1e-11)
    seeded = pd.concat([pd.Series([frame.close[:12].mean()]), frame.close[12:]])
    ema = seeded.ewm(span=12, adjust=False).mean().to_numpy()
    close_to(column(bars, "ema", 12), np.concatenate([np.full(11, np.nan), ema]))
    close_to(column(bars, "ema_ratio", 12)[11:], frame.close[11:] / ema - 1, atol=1e-11)


def test_volatility(bars: Bars, frame: pd.DataFrame) -> None:
    change = np.log(frame.close / frame.close.shift())
    close_to(column(bars, "volatility", 20), change.rolling(20).std(), rtol=1e-8)
    close_to(column(bars, "realised_volatility", 20), np.sqrt((change**2).rolling(20).sum()), rtol=1e-8)
    close_to(column(bars, "intra_bar_volatility"), frame.intra_bar_tick_price_volatility / frame.close)


def test_true_range_sees_the_gap_to_the_close_before() -> None:
    bars = plain_bars(np.array([10.0, 20.0, 20.0]), high=np.array([11.0, 21.0, 20.0]), low=np.array([9.0, 19.0, 12.0]))
    assert column(bars, "atr", 1)[1:].tolist() == [11.0, 8.0]
    assert column(bars, "atr_ratio", 1)[1:].tolist() == [11.0 / 20.0, 8.0 / 20.0]


def test_activity(bars: Bars, frame: pd.DataFrame) -> None:
    for name, series in (("volume_zscore", frame.volume), ("num_ticks_zscore", frame.num_ticks.astype(float))):
        window = series.rolling(20)
        close_to(column(bars, name, 20), (series - window.mean()) / window.std(), rtol=1e-7, atol=1e-9)
    close_to(column(bars, "log_num_ticks"), np.log(frame.num_ticks))
    close_to(column(bars, "log_volume"), np.log(frame.volume + LOT))
    close_to(column(bars, "vwap_distance"), frame.close / frame.vwap - 1)
    close_to(column(bars, "tick_skewness"), frame.tick_price_skewness)
    close_to(column(bars, "tick_kurtosis"), frame.tick_price_kurtosis)
    close_to(column(bars, "price_change_share"), frame.num_price_changes / frame.num_ticks)
    close_to(column(bars, "directional_change_share"), frame.num_directional_changes / frame.num_ticks)


def test_zscore_of_equal_volumes_is_zero() -> None:
    values = column(plain_bars(np.arange(1.0, 9.0)), "volume_zscore", 5)
    assert np.isnan(values[:4]).all() and (values[4:] == 0).all()


def test_flow(bars: Bars, frame: pd.DataFrame) -> None:
    close_to(column(bars, "trade_imbalance"), (frame.buy_volume - frame.sell_volume) / frame.volume, atol=1e-11)
    close_to(column(bars, "trade_imbalance_mean", 10), frame.trade_imbalance.rolling(10).mean(), rtol=1e-9)
    close_to(column(bars, "log_taker_ratio"), np.log((frame.buy_volume + LOT) / (frame.sell_volume + LOT)), atol=1e-11)


def test_clock(bars: Bars, frame: pd.DataFrame) -> None:
    closed = frame.close_timestamp
    midnight = closed.dt.floor("D")
    assert closed.dt.weekday.nunique() > 2
    angle = 2 * np.pi * ((closed - midnight).dt.total_seconds() / 86_400)
    day = 2 * np.pi * closed.dt.weekday / 7
    made = make_features(bars, {"hour": {}, "weekday": None})
    assert made.names == ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")
    for index, wanted in enumerate((np.sin(angle), np.cos(angle), np.sin(day), np.cos(day))):
        close_to(made.values[:, index].numpy(), wanted, atol=1e-9)
    seconds = (closed - frame.open_timestamp).dt.total_seconds()
    assert (seconds == 0).any()
    close_to(column(bars, "log_duration"), np.log(seconds + 0.001), atol=1e-11)


def test_every_feature_of_the_folder_is_named_by_a_test_of_formulas() -> None:
    from pathlib import Path

    from gpu_pipeline.features._feature import catalogue

    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in catalogue() if f'"{name}"' not in tests] == []


def test_levels_are_marked_and_ratios_are_not(bars: Bars) -> None:
    made = make_features(bars, {"sma": {"windows": [5]}, "ema_ratio": {"windows": [5]}, "atr": {"windows": [3]}})
    assert made.levels == ("sma_5", "atr_3")
    assert dict(made.warmup) == {"sma_5": 4, "ema_ratio_5": 4, "atr_3": 3}
    assert len(read_set({"sma": {"windows": [5, 6]}})) == 2
