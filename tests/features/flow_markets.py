"""Bars with taker sides on which ratios go wrong: empty bars, one side alone, tiny prices, nothing that moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._make import make_features
from tests.features.ohlc import MARKETS, MINUTE_BARS, real_bars, walk


def with_flow(bars: Bars, share: np.ndarray) -> Bars:
    """The bars with taker columns (buys are that share of the volume), counts of trades and of their moves."""
    volume, close = bars.volume.numpy(), bars.close.numpy()
    vwap = np.where(volume > 0, (bars.high.numpy() + bars.low.numpy() + close) / 3, close)
    buy = np.round(volume * share, 9)
    trades = np.where(volume > 0, np.random.default_rng(1).integers(1, 40, len(bars)), 0)
    columns = {
        "buy_volume": buy,
        "sell_volume": volume - buy,
        "dollar_volume": volume * vwap,
        "vwap": vwap,
        "trade_imbalance": np.where(volume > 0, (2 * buy - volume) / np.where(volume > 0, volume, 1), 0.0),
        "num_ticks": trades,
        "num_price_changes": trades // 2,
        "num_directional_changes": np.maximum(trades // 2 - 1, 0) // 3,
    }
    return replace(bars, columns={**bars.columns, **{name: torch.tensor(value) for name, value in columns.items()}})


def flow_markets() -> dict[str, Bars]:
    """The markets of the candle tests with random sides, and one-sided, balanced and empty ones."""
    rng = np.random.default_rng(4)
    made = {name: make() for name, make in MARKETS.items()}
    mixed = {name: with_flow(bars, rng.random(len(bars)).round(2)) for name, bars in made.items()}
    base = made["ticks with gaps"]
    one, half = np.ones(len(base)), np.full(len(base), 0.5)
    pauses = np.where(np.arange(len(base)) // 100 % 2 == 1, 0.0, base.volume.numpy())
    empty = replace(base, columns={**base.columns, "volume": torch.tensor(pauses)})
    return {
        **mixed,
        "dollar bars": walk(500, 9),
        "buys alone": with_flow(base, one),
        "balanced": with_flow(base, half),
        "long pauses": with_flow(empty, rng.random(len(base)).round(2)),
    }


def real_markets(folder: Path) -> dict[str, Bars]:
    """The real day, and real minutes with made-up sides."""
    rng = np.random.default_rng(6)
    minutes = {name: real_bars(folder, name).select(slice(0, 6000)) for name in MINUTE_BARS}
    flows = {name: with_flow(bars, rng.random(len(bars)).round(2)) for name, bars in minutes.items()}
    return {"real day": real_bars(folder, "day"), **flows}


def frames(markets: dict[str, Bars]) -> list[tuple[Bars, pd.DataFrame]]:
    """Each market with its columns as a frame."""
    return [
        (bars, pd.DataFrame({name: column.numpy().astype(float) for name, column in bars.columns.items()}))
        for bars in markets.values()
    ]


def values_of(bars: Bars, feature: str, *parameters: int) -> dict[str, np.ndarray]:
    """The columns of a feature; NaN in the declared warm-up and finite from then on."""
    made = make_features(bars, {feature: {"windows": [list(parameters)]} if parameters else {}})
    for index, name in enumerate(made.names):
        column = made.values[:, index].numpy()
        assert np.isnan(column[: made.warmup[name]]).all(), name
        assert np.isfinite(column[made.warmup[name] :]).all(), f"{name} of {bars.name}"
    return {name: made.values[:, index].numpy() for index, name in enumerate(made.names)}


def only(bars: Bars, feature: str, *parameters: int) -> np.ndarray:
    """The one column of a feature."""
    (column,) = values_of(bars, feature, *parameters).values()
    return column


def assert_near(ours: np.ndarray, wanted: object, share: float = 1e-9, least: float = 1e-300) -> None:
    """Equal to `share` of the largest value of the column, and NaN in the same rows."""
    expected = np.asarray(wanted, dtype=np.float64)
    size = np.nanmax(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=max(share * size, least), equal_nan=True)
