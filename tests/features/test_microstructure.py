"""Spreads and price impact against their papers' formulas in pandas and numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gpu_pipeline.core.schema import Bars
from tests.features.flow_markets import assert_near, flow_markets, frames, only, real_markets

Frames = list[tuple[Bars, pd.DataFrame]]
WINDOWS = (2, 20)


@pytest.fixture(scope="module")
def markets() -> Frames:
    return frames(flow_markets())


def returns(frame: pd.DataFrame) -> pd.Series:
    return np.log(frame.close / frame.close.shift())


def roll(frame: pd.DataFrame, window: int) -> np.ndarray:
    r = returns(frame)
    out = np.full(len(r), np.nan)
    for t in range(window + 1, len(r)):
        pairs = np.array([[r[s], r[s - 1]] for s in range(t - window + 1, t + 1)])
        out[t] = 2 * np.sqrt(max(0.0, -np.cov(pairs.T, ddof=1)[0, 1]))
    return out


def corwin_schultz(frame: pd.DataFrame, window: int) -> pd.Series:
    k = 3 - 2 * np.sqrt(2)
    spreads = [np.nan]
    for t in range(1, len(frame)):
        now, last = frame.iloc[t], frame.iloc[t - 1]
        high, low = now.high, now.low
        if low > last.close:
            high, low = high - (low - last.close), last.close
        elif high < last.close:
            high, low = last.close, low + (last.close - high)
        beta = np.log(high / low) ** 2 + np.log(last.high / last.low) ** 2
        gamma = np.log(max(high, last.high) / min(low, last.low)) ** 2
        alpha = (np.sqrt(2 * beta) - np.sqrt(beta)) / k - np.sqrt(gamma / k)
        spreads.append(max(0.0, 2 * (np.exp(alpha) - 1) / (1 + np.exp(alpha))))
    return pd.Series(spreads).rolling(window).mean()


def abdi_ranaldo(frame: pd.DataFrame, window: int) -> pd.Series:
    eta, c = (np.log(frame.high) + np.log(frame.low)) / 2, np.log(frame.close)
    product = 4 * (c.shift() - eta.shift()) * (c.shift() - eta)
    return np.sqrt(product.clip(lower=0)).rolling(window).mean()


def through_zero(y: pd.Series, x: pd.Series, window: int) -> np.ndarray:
    out = np.full(len(x), np.nan)
    for t in range(window, len(x)):
        part = slice(t - window + 1, t + 1)
        out[t] = np.linalg.lstsq(x.to_numpy()[part, None], y.to_numpy()[part], rcond=None)[0][0]
    return out


def kyle(frame: pd.DataFrame, window: int) -> np.ndarray:
    return through_zero(returns(frame), frame.buy_volume - frame.sell_volume, window)


def hasbrouck(frame: pd.DataFrame, window: int) -> np.ndarray:
    flow = frame.trade_imbalance * frame.dollar_volume
    return through_zero(returns(frame), np.sign(flow) * np.sqrt(flow.abs()), window)


def amihud(frame: pd.DataFrame, window: int) -> list[float]:
    each = [
        abs(r) / dollars if dollars > 0 else None
        for r, dollars in zip(returns(frame), frame.dollar_volume, strict=True)
    ]
    out = [np.nan] * window
    for t in range(window, len(each)):
        traded = [value for value in each[t - window + 1 : t + 1] if value is not None]
        out.append(1e6 * float(np.mean(traded)) if traded else 0.0)
    return out


ORACLES = {
    "roll_spread": roll,
    "corwin_schultz": corwin_schultz,
    "abdi_ranaldo": abdi_ranaldo,
    "kyle_lambda": kyle,
    "hasbrouck_lambda": hasbrouck,
    "amihud": amihud,
}
# Roots of differences that nearly cancel keep half of the digits.
ROOTS = {"roll_spread": 1e-6, "abdi_ranaldo": 1e-6, "corwin_schultz": 1e-6}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", ORACLES)
def test_every_measure_is_its_formula_on_every_market(name: str, window: int, markets: Frames) -> None:
    for bars, frame in markets:
        assert_near(only(bars, name, window), ORACLES[name](frame, window), ROOTS.get(name, 1e-9), least=1e-8)


@pytest.mark.parametrize("name", ORACLES)
def test_real_bars(name: str, market_data: Path) -> None:
    for bars, frame in frames(real_markets(market_data)):
        ours = only(bars, name, 30)
        assert_near(ours[:1000], ORACLES[name](frame[:1000], 30), ROOTS.get(name, 1e-9), least=1e-8)
        assert np.unique(ours[30:]).size > 10, f"{name} of {bars.name}"


def test_roll_finds_the_spread_of_a_bounce() -> None:
    """Trades at mid +- half the spread with fair sides: the covariance of changes is -(s / 2)^2."""
    from tests.features.factory import plain_bars

    close = 100 + 0.05 * np.random.default_rng(1).choice([-1.0, 1.0], 8_000)
    assert only(plain_bars(close), "roll_spread", 7_990)[-1] == pytest.approx(0.1 / 100, rel=0.03)


def test_corwin_schultz_is_positive_where_highs_are_asks_and_lows_are_bids() -> None:
    """Two bars with the same range: gamma = beta / 2, so that alpha = ln(high / low) and the spread is all of it."""
    from tests.features.factory import plain_bars

    bars = plain_bars(np.full(5, 100.0), np.full(5, 100.5), np.full(5, 99.5))
    ratio = 100.5 / 99.5
    assert only(bars, "corwin_schultz", 1)[-1] == pytest.approx(2 * (ratio - 1) / (ratio + 1), rel=1e-12)


@pytest.mark.parametrize("name", ["kyle_lambda", "hasbrouck_lambda", "amihud"])
def test_nothing_traded_means_no_impact(name: str) -> None:
    bars = flow_markets()["long pauses"]
    values, traded = only(bars, name, 20), bars.volume.numpy() > 0
    rows = [t for t in range(20, len(values)) if not traded[t - 19 : t + 1].any()]
    assert len(rows) > 50 and (values[rows] == 0).all()
