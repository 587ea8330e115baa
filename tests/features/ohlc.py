"""Bars with opens, highs, lows and volumes of their own, for the families that look at whole candles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._make import make_features
from tests.features.factory import SYMBOL, bars_at, dollar_ends, plain_bars, random_tape, real_tape

MINUTE_BARS = {"6EH4": "6EH4_1m_202401", "ADABTC": "adabtc_binance_1m_20211127_28"}
REAL = (*MINUTE_BARS, "day")


def candles(
    opened: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray | None = None
) -> Bars:
    """Bars of five columns; one unit of volume where none is given."""
    columns = {**plain_bars(close, high, low).columns, "open": torch.tensor(opened, dtype=torch.float64)}
    if volume is not None:
        columns["volume"] = torch.tensor(volume, dtype=torch.float64)
    return Bars(SYMBOL, "dollar_plain", columns)


def real_bars(folder: Path, name: str) -> Bars:
    """One of REAL: minute bars of the folder `bars_1m`, or dollar bars of the real day."""
    if name == "day":
        tape = real_tape(folder)
        return bars_at(tape, dollar_ends(tape, 200_000))
    table = pq.read_table(folder / "bars_1m" / f"{MINUTE_BARS[name]}.parquet").to_pandas()
    columns = (table[key].to_numpy(np.float64) for key in ("open", "high", "low", "close", "volume"))
    return candles(*columns)


def walk(rows: int, seed: int) -> Bars:
    """Bars of a random walk on the tick grid."""
    tape = random_tape(rows * 10, seed)
    return bars_at(tape, np.arange(10, rows * 10 + 1, 10))


def gapped(rows: int, seed: int, tick: float, most: int = 6, around: int | None = None) -> Bars:
    """Candles of a few ticks with gaps between them, so that equalities and rare patterns occur.

    A walk, or prices `around` so few ticks that the rounding of a sum of candles is as large as that of a candle.
    """
    rng = np.random.default_rng(seed)
    moves = rng.integers(-most, most + 1, rows)
    opened = 10_000 + np.cumsum(moves) if around is None else around + moves
    close = opened + np.where(rng.random(rows) < 0.3, 0, rng.integers(-most, most + 1, rows))
    upper, lower = (np.where(rng.random(rows) < 0.5, 0, rng.integers(0, most, rows)) for _ in range(2))
    high, low = np.maximum(opened, close) + upper, np.minimum(opened, close) - lower
    return candles(*(side * tick for side in (opened, high, low, close)), rng.integers(0, 4, rows) * 0.5)


def flat(rows: int = 300, price: float = 9731.07, volume: float = 0.0) -> Bars:
    """Bars at one price."""
    prices = np.full(rows, price)
    return candles(prices, prices, prices, prices, np.full(rows, volume))


def column(bars: Bars, feature: str, *parameters: object, output: int = 0) -> np.ndarray:
    """One output of a feature with one set of parameters; finite after its warm-up, NaN before."""
    made = make_features(bars, {feature: {"windows": [list(parameters)]} if parameters else {}})
    values, warmup = made.values[:, output].numpy(), made.warmup[made.names[output]]
    assert np.isnan(values[:warmup]).all() and np.isfinite(values[warmup:]).all(), made.names[output]
    return values


def close_to(ours: np.ndarray, wanted: object, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    """Equal within rounding, and NaN in the same rows."""
    np.testing.assert_allclose(ours, np.asarray(wanted, dtype=np.float64), rtol=rtol, atol=atol, equal_nan=True)


def frame_of(bars: Bars) -> pd.DataFrame:
    """The bars as pandas columns."""
    return pd.DataFrame({name: values.numpy() for name, values in bars.columns.items()})


def stops_and_starts() -> Bars:
    """Prices that stand still for 150 bars in the middle."""
    bars = gapped(450, 8, 0.5)
    sides = [bars.columns[name].numpy().copy() for name in ("open", "high", "low", "close")]
    for side in sides:
        side[150:300] = sides[-1][149]
    return candles(*sides, bars.volume.numpy())


MARKETS = {
    "walk": lambda: walk(600, 3),
    "ticks with gaps": lambda: gapped(600, 5, 0.01),
    "tiny ticks": lambda: gapped(600, 6, 1e-9),
    "constant": lambda: flat(200),
    "constant, then moving": stops_and_starts,
}
