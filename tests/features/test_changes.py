"""Changes of prices and volumes against pandas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpu_pipeline.core.schema import Bars
from tests.features.ohlc import MARKETS, REAL, candles, close_to, column, flat, frame_of, real_bars

LOT = 0.001


def check(bars: Bars) -> None:
    frame = frame_of(bars)
    before = frame.close.shift()
    close_to(column(bars, "gap"), frame.open / before - 1)
    close_to(column(bars, "log_gap"), np.log(frame.open) - np.log(before), atol=1e-11)
    close_to(column(bars, "high_to_close"), frame.high / before - 1)
    close_to(column(bars, "low_to_close"), frame.low / before - 1)
    close_to(column(bars, "close_to_open"), frame.close / frame.open - 1)
    close_to(column(bars, "log_body"), np.log(frame.close) - np.log(frame.open), atol=1e-11)
    span = frame.high.combine(before, max) - frame.low.combine(before, min)
    close_to(column(bars, "true_range_ratio")[1:], (span / frame.low.combine(before, min))[1:])
    for name in ("open", "high", "low"):
        for rows in (1, 5):
            close_to(column(bars, f"{name}_change", rows), frame[name].pct_change(rows))
            close_to(column(bars, f"{name}_log_return", rows), np.log(frame[name]).diff(rows), atol=1e-11)


@pytest.mark.parametrize("market", MARKETS)
def test_prices(market: str) -> None:
    check(MARKETS[market]())


@pytest.mark.parametrize("market", MARKETS)
def test_volumes(market: str) -> None:
    bars = MARKETS[market]()
    volume = frame_of(bars).volume
    for rows in (1, 5):
        earlier = volume.shift(rows)
        wanted = ((volume - earlier) / (volume + earlier)).where(volume + earlier != 0, 0.0).where(earlier.notna())
        close_to(column(bars, "volume_change", rows), wanted)
        close_to(column(bars, "log_volume_change", rows), np.log(volume + LOT).diff(rows), atol=1e-11)


def test_lags() -> None:
    bars = MARKETS["ticks with gaps"]()
    frame = frame_of(bars)
    for rows in (1, 4):
        close_to(column(bars, "return_lag", rows), np.log(frame.close).diff().shift(rows), atol=1e-11)
        wanted = np.log(frame.volume + LOT).diff().shift(rows)
        close_to(column(bars, "volume_change_lag", rows), wanted, atol=1e-11)


def test_a_hand_written_bar() -> None:
    bars = candles(*(np.array(side, float) for side in ([100, 104], [101, 106], [99, 103], [100, 105], [2, 6])))
    names = ("gap", "high_to_close", "low_to_close", "true_range_ratio")
    assert [round(float(column(bars, name)[1]), 12) for name in names] == [0.04, 0.06, 0.03, 0.06]
    assert column(bars, "volume_change", 1)[1] == 0.5


def test_nothing_traded_and_nothing_moved() -> None:
    prices = ("open_change", "high_change", "low_change", "open_log_return", "high_log_return", "low_log_return")
    for name in (*prices, "volume_change", "log_volume_change", "return_lag", "volume_change_lag"):
        assert (column(flat(), name, 3)[5:] == 0).all()


@pytest.mark.parametrize("name", REAL)
def test_real_bars(name: str, market_data: Path) -> None:
    check(real_bars(market_data, name))
