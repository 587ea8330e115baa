"""Bars with opens, highs, lows and volumes of their own, for the families that look at whole candles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from gpu_pipeline.core.schema import Bars
from tests.features.factory import SYMBOL, bars_at, dollar_ends, plain_bars, random_tape, real_tape

MINUTE_BARS = {"6EH4": "6EH4_1m_202401", "ADABTC": "adabtc_binance_1m_20211127_28"}


def candles(
    opened: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray | None = None
) -> Bars:
    """Bars of five columns; one unit of volume where none is given."""
    columns = {**plain_bars(close, high, low).columns, "open": torch.tensor(opened, dtype=torch.float64)}
    if volume is not None:
        columns["volume"] = torch.tensor(volume, dtype=torch.float64)
    return Bars(SYMBOL, "dollar_plain", columns)


def minute_bars(folder: Path, name: str) -> Bars:
    """Real minute bars of the folder `bars_1m`."""
    table = pq.read_table(folder / "bars_1m" / f"{MINUTE_BARS[name]}.parquet").to_pandas()
    columns = (table[key].to_numpy(np.float64) for key in ("open", "high", "low", "close", "volume"))
    return candles(*columns)


def real_dollar_bars(folder: Path) -> Bars:
    """Dollar bars of the real day."""
    tape = real_tape(folder)
    return bars_at(tape, dollar_ends(tape, 200_000))


def walk(rows: int, seed: int) -> Bars:
    """Bars of a random walk on the tick grid."""
    tape = random_tape(rows * 10, seed)
    return bars_at(tape, np.arange(10, rows * 10 + 1, 10))


def gapped(rows: int, seed: int, tick: float, most: int = 6) -> Bars:
    """Candles of a few ticks with gaps between them, so that equalities and rare patterns occur."""
    rng = np.random.default_rng(seed)
    opened = 10_000 + np.cumsum(rng.integers(-most, most + 1, rows))
    close = opened + np.where(rng.random(rows) < 0.3, 0, rng.integers(-most, most + 1, rows))
    upper, lower = (np.where(rng.random(rows) < 0.5, 0, rng.integers(0, most, rows)) for _ in range(2))
    high, low = np.maximum(opened, close) + upper, np.minimum(opened, close) - lower
    return candles(*(side * tick for side in (opened, high, low, close)), rng.integers(0, 4, rows) * 0.5)


def flat(rows: int = 300, price: float = 9731.07, volume: float = 0.0) -> Bars:
    """Bars at one price."""
    prices = np.full(rows, price)
    return candles(prices, prices, prices, prices, np.full(rows, volume))
