"""The volume profile against exact fractions of ticks and lots, and hand-made profiles."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gpu_pipeline.core.errors import ConfigError
from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._make import make_features
from tests.features.flow_markets import assert_near, only, values_of
from tests.features.ohlc import MARKETS, REAL, candles, real_bars

TICKS = {
    "walk": 0.01,
    "ticks with gaps": 0.01,
    "tiny ticks": 1e-9,
    "constant": 0.01,
    "constant, then moving": 0.5,
    "6EH4": 0.00005,
    "ADABTC": 1e-8,
    "day": 0.01,
}
Triple = tuple[Fraction, Fraction, Fraction]


def covered(start: Fraction, stop: Fraction, number: int, bins: int) -> Fraction:
    """The share of a bar from start to stop (in bins) that lies in one bin."""
    if start == stop:
        return Fraction(min(int(start), bins - 1) == number)
    return max(Fraction(0), min(stop, Fraction(number + 1)) - max(start, Fraction(number))) / (stop - start)


def profile(rows: list[tuple[int, int, int]], close: int, bins: int) -> Triple:
    """Point of control, value area high and low in ticks, from (high, low, lots) of the bars of a window."""
    top, bottom = max(high for high, _, _ in rows), min(low for _, low, _ in rows)
    if top == bottom:
        return Fraction(top), Fraction(top), Fraction(top)
    width = Fraction(top - bottom, bins)
    volume = [
        sum(
            (lots * covered((low - bottom) / width, (high - bottom) / width, number, bins) for high, low, lots in rows),
            Fraction(0),
        )
        for number in range(bins)
    ]
    middle = [bottom + width * (number + Fraction(1, 2)) for number in range(bins)]
    best = [number for number in range(bins) if volume[number] == max(volume)]
    poc = min(best, key=lambda number: (abs(middle[number] - close), number))
    area = {poc}
    while sum(volume[number] for number in area) < sum(volume) * Fraction(7, 10):
        around = [number for number in (max(area) + 1, min(area) - 1) if 0 <= number < bins]
        area.add(max(around, key=lambda number: volume[number]))
    return middle[poc], bottom + width * (max(area) + 1), bottom + width * min(area)


def wanted(bars: Bars, tick: float, window: int, bins: int, rows: list[int]) -> np.ndarray:
    """[len(rows), 3] the three prices by exact arithmetic."""
    high, low, close = (np.rint(bars.columns[name].numpy() / tick).astype(int) for name in ("high", "low", "close"))
    lots = np.rint(bars.volume.numpy() * 10_000).astype(int)
    found = []
    for t in rows:
        part = [(int(high[s]), int(low[s]), int(lots[s])) for s in range(t - window + 1, t + 1)]
        found.append([float(price) * tick for price in profile(part, int(close[t]), bins)])
    return np.array(found)


def check(bars: Bars, tick: float, window: int, bins: int, step: int) -> None:
    prices = np.stack(list(values_of(bars, "volume_profile", window, bins).values()), axis=1)
    rows = list(range(window - 1, len(bars), step))
    expected = wanted(bars, tick, window, bins, rows)
    assert_near(prices[rows], expected, share=1e-12)
    close = bars.close.numpy()[rows]
    distances = np.stack(list(values_of(bars, "vp_distance", window, bins).values()), axis=1)[rows]
    np.testing.assert_allclose(distances, 1 - expected / close[:, None], atol=1e-11)
    _, vah, val = expected.T
    wide = vah - val
    place = np.where(wide > 0, (close - val) / np.where(wide > 0, wide, 1), 0.5)
    np.testing.assert_allclose(only(bars, "vp_position", window, bins)[rows], place, atol=1e-7)
    np.testing.assert_allclose(only(bars, "vp_width", window, bins)[rows], wide / close, atol=1e-11)


@pytest.mark.parametrize(("window", "bins"), [(1, 2), (12, 8), (5, 20), (30, 3)])
@pytest.mark.parametrize("name", MARKETS)
def test_every_market_by_exact_fractions(name: str, window: int, bins: int) -> None:
    check(MARKETS[name](), TICKS[name], window, bins, step=7)


@pytest.mark.parametrize("name", REAL)
def test_real_bars(name: str, market_data: Path) -> None:
    check(real_bars(market_data, name).select(slice(0, 4000)), TICKS[name], 50, 20, step=101)


def hand_made(spans: list[tuple[float, float]], volume: list[float], close: float) -> list[float]:
    low, high = (np.array(side, dtype=float) for side in zip(*spans, strict=True))
    closes = np.full(len(spans), close)
    bars = candles(closes, high, low, closes, np.array(volume, dtype=float))
    return [float(column[-1]) for column in values_of(bars, "volume_profile", len(spans), 10).values()]


def test_profiles_by_hand() -> None:
    """Ten bins of one unit from 0 to 10, as (low, high) spans."""
    frame = [(0.0, 10.0)]
    assert hand_made([*frame, (4, 5)], [10, 30], 7) == [4.5, 5, 4], "4/5 of 40 lies in one bin"
    assert hand_made([*frame, (4, 5), (7, 8)], [0, 5, 5], 7) == [7.5, 10, 4], "equal bins: the one at the close"
    assert hand_made([*frame, (4, 5), (7, 8)], [0, 5, 5], 6) == [4.5, 8, 4], "equally near: the lower"
    assert hand_made([*frame, (4, 5), (3, 4), (5, 6)], [0, 6, 3, 3], 4) == [4.5, 6, 4], "equal neighbours: the upper"
    assert hand_made([*frame, (4, 5), (3, 4), (5, 6)], [0, 6, 4, 3], 4) == [4.5, 5, 3], "the larger neighbour"
    assert hand_made([*frame, (5, 5)], [0, 6], 1) == [5.5, 6, 5], "one price on an edge lies above it"
    assert hand_made([*frame, (10, 10)], [0, 6], 1) == [9.5, 10, 9], "the highest price lies in the last bin"
    assert hand_made([*frame, (1, 3)], [0, 0], 6.2) == [6.5, 7, 6], "no volume: all bins are equal"


def test_columns_are_named_by_bars_and_bins() -> None:
    made = make_features(
        MARKETS["walk"](), {"volume_profile": {"windows": [[50, 20]]}, "vp_distance": {"windows": [30]}}
    )
    distances = tuple(f"vp_{name}_distance_30w_20b" for name in ("poc", "vah", "val"))
    assert made.names == ("vp_poc_50w_20b", "vp_vah_50w_20b", "vp_val_50w_20b", *distances)
    assert made.levels == made.names[:3] and made.warmup["vp_poc_50w_20b"] == 49


def test_one_bin_is_refused() -> None:
    with pytest.raises(ConfigError, match="bins"):
        make_features(MARKETS["walk"](), {"vp_width": {"windows": [[50, 1]]}})
