"""Distances from volume-weighted prices against pandas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gpu_pipeline.core.schema import Bars
from tests.features.flow_markets import assert_near, flow_markets, frames, only, with_flow
from tests.features.ohlc import gapped

HOUR = 3_600_000_000_000


@pytest.fixture(scope="module")
def markets() -> list[tuple[Bars, pd.DataFrame]]:
    return frames(flow_markets())


def distance(frame: pd.DataFrame, price: pd.Series, groups: list[range]) -> list[float]:
    closes, sizes, paid = (column.tolist() for column in (frame.close, frame.volume, price * frame.volume))
    out = []
    for rows in groups:
        volume, money = sum(sizes[row] for row in rows), sum(paid[row] for row in rows)
        out.append(closes[rows[-1]] / (money / volume) - 1 if volume > 0 else 0.0)
    return out


def prices(frame: pd.DataFrame) -> dict[str, pd.Series]:
    return {"vwap": frame.vwap, "typical_vwap": (frame.high + frame.low + frame.close) / 3}


@pytest.mark.parametrize("window", [1, 15])
def test_rolling(window: int, markets: list[tuple[Bars, pd.DataFrame]]) -> None:
    for bars, frame in markets:
        groups = [range(t - window + 1, t + 1) for t in range(window - 1, len(frame))]
        for kind, price in prices(frame).items():
            ours = only(bars, f"rolling_{kind}_distance", window)
            assert_near(ours[window - 1 :], distance(frame, price, groups), least=1e-12)


@pytest.mark.parametrize("feature", ["rolling_vwap_distance", "rolling_typical_vwap_distance"])
def test_nothing_traded_is_no_distance(feature: str) -> None:
    values = only(flow_markets()["long pauses"], feature, 10)
    assert (values[110:195] == 0).all() and (values[210:290] != 0).any()


@pytest.mark.parametrize("feature", ["day_vwap_distance", "day_typical_vwap_distance"])
def test_days_begin_at_midnight_utc(feature: str) -> None:
    bars = with_flow(gapped(200, 3, 0.01), np.random.default_rng(2).random(200).round(2))
    begin = 1_582_416_000_000_000_000 - 5 * HOUR
    closed = begin + (torch.arange(200) // 2) * HOUR // 2
    bars = replace(bars, columns={**bars.columns, "close_timestamp": closed})
    (frame,) = [frame for _, frame in frames({"": bars})]
    days = pd.to_datetime(closed.numpy()).floor("D")
    assert days.nunique() == 3 and (pd.to_datetime(closed.numpy()) == days).sum() == 4
    firsts = [int(np.flatnonzero(days == day)[0]) for day in days]
    groups = [range(first, t + 1) for t, first in enumerate(firsts)]
    assert_near(only(bars, feature), distance(frame, prices(frame)[feature[4:-9]], groups), least=1e-12)
