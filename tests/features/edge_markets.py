"""Markets on which indicators go wrong: tick grids, tiny prices, nothing that moves, nothing traded, real minutes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from gpu_pipeline.core.schema import Bars
from tests.features.factory import MINUTE, START, SYMBOL

Columns = dict[str, np.ndarray]
NAMES = ("open", "high", "low", "close", "volume")
REAL = ("adabtc_binance_1m_20211127_28", "6EH4_1m_202401")


def walk(
    rows: int, seed: int, tick: float = 0.01, base: int = 1_000_000, widest: int = 30, stay: float = 0.0
) -> Columns:
    """A random walk on a tick grid: a price is the nearest float64 of its decimal; `stay`: share of bars that stand."""
    rng = np.random.default_rng(seed)
    step = np.where(rng.random(rows) < stay, 0, rng.integers(-widest, widest + 1, rows))
    close = base + np.cumsum(step)
    opened = np.concatenate([[base], close[:-1]])
    room = np.where(rng.random((2, rows)) < stay, 0, rng.integers(0, widest + 1, (2, rows)))
    per_unit = round(1 / tick)
    prices = opened, np.maximum(opened, close) + room[0], np.minimum(opened, close) - room[1], close
    volume = np.ceil(rng.lognormal(0, 1.5, rows) * 1000) / 1000
    return dict(zip(NAMES, (*(np.asarray(price) / per_unit for price in prices), volume), strict=True))


def made(rows: int = 1500) -> Mapping[str, Columns]:
    """The markets that are made, by name."""
    calm = walk(rows, 3, stay=0.7, widest=2)
    stopped = {name: np.where(np.arange(rows) < 60, column, column[60]) for name, column in walk(rows, 4).items()}
    line = {**{name: np.full(rows, 9731.07) for name in NAMES}, "volume": walk(rows, 5)["volume"]}
    first = np.arange(rows) == 0
    once = {**line, "high": np.where(first, 9732.0, 9731.07), "low": np.where(first, 9728.01, 9731.07)}
    idle = walk(rows, 6)
    quiet = np.random.default_rng(6).random(rows) < 0.4
    quiet[100:160] = True
    gapped = walk(rows, 7, widest=300)
    flat = {**gapped, "high": gapped["close"], "low": gapped["close"], "open": gapped["close"]}
    return {
        "tick grid": walk(rows, 1),
        "coarse grid": walk(rows, 2, tick=0.25, base=20_000, widest=2, stay=0.3),
        "tiny prices": walk(rows, 8, tick=1e-8, base=2_700, widest=3, stay=0.4),
        "calm": calm,
        "stopped": stopped,
        "constant": line,
        "constant after one bar": once,
        "no volume": {**idle, "volume": np.where(quiet, 0.0, idle["volume"])},
        "never any volume": {**idle, "volume": np.zeros(rows)},
        "bars of one price": flat,
        "stopped at one price": {
            name: np.where(np.arange(rows) < 60, x, flat["close"][60]) for name, x in flat.items()
        },
        "rising": {**walk(rows, 9), **{name: 100 + np.arange(rows) * 0.5 for name in NAMES[:4]}},
    }


def real(folder: Path, name: str) -> Columns:
    """Minute bars of others."""
    table = pq.read_table(folder / "bars_1m" / f"{name}.parquet").to_pandas()
    return {key: table[key].to_numpy(np.float64) for key in NAMES}


def cut(columns: Columns, rows: int) -> Columns:
    """The first rows."""
    return {name: column[:rows] for name, column in columns.items()}


def bars_of(columns: Columns) -> Bars:
    """Bars with these prices and volumes, one a minute."""
    number = torch.arange(len(columns["close"]))
    values = {name: torch.tensor(columns[name]) for name in NAMES}
    times = {"open_timestamp": START + number * MINUTE, "close_timestamp": START + (number + 1) * MINUTE}
    rows = {"first_trade_row": number, "last_trade_row": number}
    partial = torch.zeros(len(number), dtype=torch.bool)
    return Bars(SYMBOL, "dollar_edge", {**times, **rows, **values, "is_partial": partial})
