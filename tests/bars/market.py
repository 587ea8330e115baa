"""Trades for tests: the real trading day read with pyarrow alone, and small random markets."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from gpu_pipeline.core.schema import Symbol, Trades

BTC = Symbol("BTCUSDT", Decimal("0.01"), Decimal("0.001"))
DAY_FILE = "btcusdt_perp_trades_20200222/trades.parquet"


def trades_of(
    symbol: Symbol, time_ns, price_ticks, quantity_lots, is_buyer_maker, first_row: int = 0, has_side: bool = True
) -> Trades:
    columns = [torch.from_numpy(np.array(column, np.int64)) for column in (time_ns, price_ticks, quantity_lots)]
    notional = columns[2].clone() if symbol.inverse else columns[1] * columns[2]
    ids = torch.arange(len(notional)) + first_row
    side = torch.from_numpy(np.array(is_buyer_maker, np.bool_))
    return Trades(symbol, *columns, notional, ids, side, first_row, has_side)


def real_day(market_data: Path) -> Trades:
    table = pq.read_table(market_data / DAY_FILE)
    price = np.rint(table["price"].to_numpy() * 100).astype(np.int64)
    lots = np.rint(table["amount"].to_numpy() * 1000).astype(np.int64)
    side = table["side"].to_numpy(zero_copy_only=False) == "sell"
    return trades_of(BTC, table["timestamp"].to_numpy() * 1000, price, lots, side)


def random_trades(seed: int, count: int, *, symbol: Symbol = BTC, start_ns: int = 1_582_329_600_000_000_000) -> Trades:
    draw = np.random.default_rng(seed)
    price = 1_000_000 + np.cumsum(draw.integers(-3, 4, count) * (draw.random(count) < 0.6))
    lots = np.where(draw.random(count) < 0.02, 0, 1 + (draw.pareto(1.5, count) * 50).astype(np.int64))
    gap = np.where(draw.random(count) < 0.4, 0, draw.integers(1, 40_000, count) * 1_000_000)
    return trades_of(symbol, start_ns + np.cumsum(gap), price, lots, draw.random(count) < 0.5)
