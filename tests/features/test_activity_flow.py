"""Sizes and persistence of trading against pandas, empty and one-sided bars included."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gpu_pipeline.core.schema import Bars
from tests.features.flow_markets import assert_near, flow_markets, frames, only

Frames = list[tuple[Bars, pd.DataFrame]]


@pytest.fixture(scope="module")
def markets() -> Frames:
    return frames(flow_markets())


def test_sizes(markets: Frames) -> None:
    for bars, frame in markets:
        lot = float(bars.symbol.quantity_lot)
        assert_near(only(bars, "log_dollar_volume"), np.log(frame.dollar_volume + lot * frame.close))
        size = (frame.volume / frame.num_ticks.where(frame.num_ticks > 0)).fillna(0.0)
        assert_near(only(bars, "trade_size"), size)
        mean = frame.volume.rolling(20).apply(np.mean, raw=True)
        assert_near(only(bars, "volume_ratio", 20), (frame.volume / mean.where(mean > 0)).where(mean != 0, 1.0))
        score = size.rolling(20).apply(zscore, raw=True)
        assert_near(only(bars, "trade_size_zscore", 20), score, share=1e-8)


def zscore(values: np.ndarray) -> float:
    return 0.0 if values.min() == values.max() else float((values[-1] - values.mean()) / values.std(ddof=1))


@pytest.mark.parametrize("window", [1, 12])
def test_persistence(window: int, markets: Frames) -> None:
    for bars, frame in markets:
        net = frame.buy_volume - frame.sell_volume
        together = net.rolling(window).apply(sum, raw=True).abs()
        apart = net.abs().rolling(window).apply(sum, raw=True)
        wanted = (together / apart.where(apart > 0)).where(apart != 0, 0.0)
        assert_near(only(bars, "flow_persistence", window), wanted, least=1e-12)
        assert np.nanmax(only(bars, "flow_persistence", window)) <= 1


def test_buyers_alone_persist_and_a_balance_does_not() -> None:
    markets = flow_markets()
    alone = only(markets["buys alone"], "flow_persistence", 12)[11:]
    assert set(alone) <= {0.0, 1.0} and (alone == 1).mean() > 0.9
    assert (only(markets["balanced"], "flow_persistence", 12)[11:] == 0).all()


def test_imbalance_of_the_day(markets: Frames) -> None:
    for bars, frame in markets:
        day = frame.close_timestamp // 86_400_000_000_000
        net = (frame.buy_volume - frame.sell_volume).groupby(day).cumsum()
        volume = frame.volume.groupby(day).cumsum()
        wanted = (net / volume.where(volume > 0)).where(volume > 0, 0.0)
        assert_near(only(bars, "day_imbalance"), wanted, least=1e-12)
