"""Small markets for feature tests, aggregated by plain numpy loops written for these tests alone."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from gpu_pipeline.core.schema import BAR_INTEGERS, Bars, Depth, Symbol

SYMBOL = Symbol("TESTUSDT", Decimal("0.01"), Decimal("0.001"))
MINUTE = 60_000_000_000
START = 1_582_329_600_000_000_000  # 2020-02-22 00:00 UTC


@dataclass
class Tape:
    """Trades as numpy columns: times in ns, prices and quantities as floats, +1 where the taker bought."""

    time: np.ndarray
    price: np.ndarray
    quantity: np.ndarray
    side: np.ndarray


def random_tape(trades: int, seed: int, minutes: float = 60.0) -> Tape:
    """A random walk on the tick grid; times in whole milliseconds, many of them equal."""
    rng = np.random.default_rng(seed)
    gaps = np.where(rng.random(trades) < 0.9, 0.0, rng.exponential(minutes * 60e3 / trades / 0.1, trades))
    time = START + np.cumsum(gaps).astype(np.int64) * 1_000_000
    price = (1_000_000 + np.cumsum(rng.integers(-30, 31, trades))) / 100
    quantity = np.ceil(rng.lognormal(0, 1.5, trades) * 100) / 1000
    return Tape(time, price, quantity, rng.choice([-1, 1], trades))


def real_tape(folder: Path) -> Tape:
    """The real BTCUSDT day."""
    table = pq.read_table(folder / "btcusdt_perp_trades_20200222" / "trades.parquet").to_pandas().sort_values("id")
    time = table["timestamp"].to_numpy().astype(np.int64) * 1000
    side = np.where(table["side"].to_numpy() == "buy", 1, -1)
    return Tape(np.maximum.accumulate(time), table["price"].to_numpy(), table["amount"].to_numpy(), side)


def bars_at(tape: Tape, ends: np.ndarray, name: str = "dollar_test") -> Bars:
    """Bars of the trades between successive (exclusive) ends."""
    starts = np.concatenate([[0], ends[:-1]])
    rows = [_bar(tape, start, end) for start, end in zip(starts, ends, strict=True) if end > start]
    columns = {
        key: torch.tensor([row[key] for row in rows], dtype=torch.int64 if key in BAR_INTEGERS else torch.float64)
        for key in (rows[0] if rows else ())
    }
    columns["is_partial"] = torch.zeros(len(rows), dtype=torch.bool)
    return Bars(SYMBOL, name, columns)


def _bar(tape: Tape, start: int, end: int) -> dict[str, float | int]:
    price, quantity, side = tape.price[start:end], tape.quantity[start:end], tape.side[start:end]
    volume, dollars = quantity.sum(), (price * quantity).sum()
    buy = quantity[side > 0].sum()
    moves = np.sign(np.diff(price))
    moves = moves[moves != 0]
    spread = price.std()
    unit = (price - price.mean()) / spread if spread > 1e-9 else np.zeros_like(price)
    return {
        "open_timestamp": int(tape.time[start]),
        "close_timestamp": int(tape.time[end - 1]),
        "first_trade_row": int(start),
        "last_trade_row": int(end - 1),
        "open": price[0],
        "high": price.max(),
        "low": price.min(),
        "close": price[-1],
        "volume": volume,
        "dollar_volume": dollars,
        "buy_volume": buy,
        "sell_volume": volume - buy,
        "vwap": dollars / volume,
        "num_ticks": int(end - start),
        "trade_imbalance": (2 * buy - volume) / volume,
        "taker_buy_sell_ratio": buy / (volume - buy) if buy < volume else np.nan,
        "intra_bar_tick_price_volatility": spread,
        "tick_price_mean": price.mean(),
        "tick_price_skewness": (unit**3).mean(),
        "tick_price_kurtosis": (unit**4).mean() - 3 if spread > 1e-9 else 0.0,
        "num_price_changes": len(moves),
        "num_directional_changes": int((np.diff(moves) != 0).sum()),
        "first_move": int(moves[0]) if len(moves) else 0,
        "last_move": int(moves[-1]) if len(moves) else 0,
    }


def dollar_ends(tape: Tape, threshold: float) -> np.ndarray:
    """Exclusive ends where the dollars since the last end reach the threshold."""
    ends, total = [], 0.0
    for row, dollars in enumerate(tape.price * tape.quantity):
        total += dollars
        if total >= threshold:
            ends.append(row + 1)
            total = 0.0
    return np.array(ends, dtype=np.int64)


def time_bars(tape: Tape, step_ns: int, name: str) -> Bars:
    """Left-closed time bars without the last, which is open; their timestamps are t and t + step."""
    bucket = tape.time // step_ns
    ends = np.flatnonzero(np.diff(bucket)) + 1
    bars = bars_at(tape, ends, name)
    opened = torch.tensor(bucket[bars.first_trade_row.numpy()] * step_ns)
    return Bars(SYMBOL, name, {**bars.columns, "open_timestamp": opened, "close_timestamp": opened + step_ns})


def market(tape: Tape, threshold: float, medium: int = 5, long: int = 4, step_ns: int = MINUTE) -> dict[str, Bars]:
    """Short, medium and long bars and one time bar of the same trades."""
    short = dollar_ends(tape, threshold)
    ends = {"short": short, "medium": short[medium - 1 :: medium], "long": short[medium * long - 1 :: medium * long]}
    tables = {name: bars_at(tape, rows, f"dollar_{name}") for name, rows in ends.items()}
    return {**tables, "1min": time_bars(tape, step_ns, "time_1min")}


def plain_bars(close: np.ndarray, high: np.ndarray | None = None, low: np.ndarray | None = None) -> Bars:
    """Bars that have prices and nothing else of interest."""
    close = np.asarray(close, dtype=np.float64)
    number = torch.arange(len(close))
    columns = {
        "open_timestamp": START + number * MINUTE,
        "close_timestamp": START + (number + 1) * MINUTE,
        "first_trade_row": number,
        "last_trade_row": number,
        "open": torch.tensor(close),
        "high": torch.tensor(close if high is None else high),
        "low": torch.tensor(close if low is None else low),
        "close": torch.tensor(close),
        "volume": torch.ones(len(close), dtype=torch.float64),
        "is_partial": torch.zeros(len(close), dtype=torch.bool),
    }
    return Bars(SYMBOL, "dollar_plain", columns)


def depth_of(tape: Tape, step_ns: int = 5_000_000_000, levels: int = 12, seed: int = 0) -> Depth:
    """A random book around the last trade of each grid time; every fortieth cell is missing, some levels are empty."""
    rng = np.random.default_rng(seed)
    grid = np.arange(tape.time[0] // step_ns + 1, tape.time[-1] // step_ns + 1) * step_ns
    last = np.round(tape.price[np.searchsorted(tape.time, grid, side="right") - 1] * 100)
    away = rng.integers(1, 4, (len(grid), levels, 2)).cumsum(axis=1)
    lots = rng.integers(0, 5_000, (len(grid), levels, 2)) * (rng.random((len(grid), levels, 2)) < 0.9)
    valid = np.arange(len(grid)) % 40 != 39
    depth = np.stack([last[:, None] - away[..., 0], lots[..., 0], last[:, None] + away[..., 1], lots[..., 1]], axis=2)
    depth = torch.tensor(np.where(valid[:, None, None], depth, 0.0))
    known, found = torch.tensor(grid), torch.tensor(valid)
    zeros = torch.zeros(len(grid), dtype=torch.int64)
    return Depth(SYMBOL, depth, torch.stack((zeros, zeros), 1), known, known, zeros, found, torch.zeros_like(found))
