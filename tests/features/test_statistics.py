"""Rolling statistics against scipy, pandas and numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gpu_pipeline.core.errors import ConfigError
from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._set import read_set
from tests.features.ohlc import MARKETS, REAL, candles, close_to, column, flat, frame_of, real_bars

RANKS = ("close_rank", "return_rank", "volume_rank")


def deepest(close: np.ndarray) -> float:
    return min(later / earlier - 1 for i, earlier in enumerate(close) for later in close[i:])


def correlation(change: np.ndarray, rows: int) -> float:
    d = change - change.mean()
    return float((d[rows:] * d[:-rows]).sum() / (d**2).sum()) if np.ptp(change) > 0 else 0.0


def check(bars: Bars, window: int, rows: range) -> None:
    frame = frame_of(bars)
    close, volume = frame.close.to_numpy(), frame.volume.to_numpy()
    change = np.concatenate([[np.nan], np.log(close[1:] / close[:-1])])
    lag = max(1, window // 5)
    for row in rows:
        c, r, v = (x[row - window + 1 : row + 1] for x in (close, change, volume))
        still = np.ptp(r) == 0
        fit = stats.linregress(np.arange(window), np.log(c / c[0]))
        wanted = {
            ("close_zscore",): (c[-1] - c.mean()) / c.std(ddof=1) if np.ptp(c) else 0.0,
            ("close_std_ratio",): c.std(ddof=1) / c.mean(),
            ("drawdown",): c[-1] / c.max() - 1,
            ("runup",): c[-1] / c.min() - 1,
            ("max_drawdown",): deepest(c),
            ("return_mean",): r.mean(),
            ("return_min",): r.min(),
            ("return_max",): r.max(),
            ("return_zscore",): 0.0 if still else (r[-1] - r.mean()) / r.std(ddof=1),
            ("return_skewness",): 0.0 if still else stats.skew(r),
            ("return_kurtosis",): 0.0 if still else stats.kurtosis(r),
            ("close_rank",): stats.percentileofscore(c, c[-1], "mean") / 100,
            ("return_rank",): stats.percentileofscore(r, r[-1], "mean") / 100,
            ("volume_rank",): stats.percentileofscore(v, v[-1], "mean") / 100,
            ("return_quantile", 0.05): np.quantile(r, 0.05),
            ("return_quantile", 0.75): np.quantile(r, 0.75),
            ("return_autocorrelation", lag): correlation(r, lag),
            ("absolute_return_autocorrelation", lag): correlation(np.abs(r), lag),
            ("close_slope",): fit.slope,
            ("close_r2",): fit.rvalue**2 if np.ptp(c) else 0.0,
        }
        for (name, *more), value in wanted.items():
            close_to(made(bars, name, window, *more)[row], value, rtol=1e-7, atol=1e-9)


_MADE: dict[tuple[int, str, object], tuple[Bars, np.ndarray]] = {}


def made(bars: Bars, name: str, *parameters: object) -> np.ndarray:
    key = (id(bars), name, parameters)
    if key not in _MADE:
        _MADE[key] = bars, column(bars, name, *parameters)
    return _MADE[key][1]


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("window", [2, 21])
def test_against_scipy(market: str, window: int) -> None:
    bars = MARKETS[market]()
    check(bars, window, range(window, len(bars), 17))


@pytest.mark.parametrize("name", REAL)
def test_real_bars(name: str, market_data: Path) -> None:
    bars = real_bars(market_data, name)
    check(bars, 60, range(100, len(bars), len(bars) // 30))


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("window", [1, 2, 5, 48])
def test_quantiles_with_many_equal_values(window: int, probability: float) -> None:
    close = pd.Series(100 * np.exp(np.cumsum(np.random.default_rng(window).integers(-2, 3, 500) * 0.01)))
    change = np.log(close / close.shift())
    bars = candles(*(close.to_numpy() for _ in range(4)))
    wanted = change.rolling(window).quantile(probability)
    close_to(column(bars, "return_quantile", window, probability), wanted)


def test_ranks_are_those_of_pandas_less_half_a_place() -> None:
    bars = MARKETS["ticks with gaps"]()
    for name, series in (("close_rank", frame_of(bars).close), ("volume_rank", frame_of(bars).volume)):
        close_to(column(bars, name, 13), series.rolling(13).rank(pct=True) - 0.5 / 13)


def test_constant_windows_have_their_stated_values() -> None:
    for name in ("close_zscore", "drawdown", "runup", "max_drawdown", "return_mean", "return_zscore", "close_slope"):
        assert not np.nan_to_num(column(flat(), name, 9)).any(), name
    for name in ("return_skewness", "return_kurtosis", "return_autocorrelation", "close_r2", "close_std_ratio"):
        assert not np.nan_to_num(column(flat(), name, 9)).any(), name
    assert all((column(flat(), name, 9)[9:] == 0.5).all() for name in RANKS)


def test_a_jump_leaves_nothing_behind_in_later_windows() -> None:
    still = np.full(400, 27.31)
    jumped = still.copy()
    jumped[100:120] *= 1e6
    for name in ("return_skewness", "close_slope", "return_autocorrelation", "close_zscore", "return_quantile"):
        clean, shaken = (column(candles(*[close] * 4), name, 20) for close in (still, jumped))
        assert (clean[150:] == shaken[150:]).all() and (clean[100:139] != shaken[100:139]).any(), name


def test_a_lag_as_long_as_the_window_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rows must be below window \(5\), got 5"):
        read_set({"return_autocorrelation": {"windows": [[5, 5]]}})
