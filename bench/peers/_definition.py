"""The columns of bars whose rows are known, bar by bar in numpy: what rules of peers and our plain loop are held to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.peers._contract import FileTrades


def columns_of(trades: FileTrades, first_row: Sequence[int], last_row: Sequence[int]) -> dict[str, np.ndarray]:
    """All columns of DESIGN 4.3 but `is_partial`, of bars [first_row, last_row] (inclusive)."""
    pairs = zip(first_row, last_row, strict=True)
    bars = [_bar(trades, slice(first, last + 1)) for first, last in pairs]
    rows = {"first_trade_row": np.asarray(first_row, np.int64), "last_trade_row": np.asarray(last_row, np.int64)}
    return rows | {name: np.array([bar[name] for bar in bars]) for name in (bars[0] if bars else ())}


def _bar(trades: FileTrades, rows: slice) -> dict[str, float]:
    price, lots, time = trades.price[rows], trades.quantity_lots[rows], trades.time_ns[rows]
    step, volume, buys = float(trades.lot), int(lots.sum()), int(lots[~trades.is_buyer_maker[rows]].sum())
    sells, dollars = volume - buys, (price * trades.quantity[rows]).sum()
    return {
        "open_timestamp": time[0],
        "close_timestamp": time[-1],
        "open": price[0],
        "high": price.max(),
        "low": price.min(),
        "close": price[-1],
        "volume": volume * step,
        "dollar_volume": dollars,
        "buy_volume": buys * step,
        "sell_volume": sells * step,
        "vwap": dollars / (volume * step) if volume else price[-1],
        "num_ticks": len(price),
        "trade_imbalance": (buys - sells) / volume if volume else 0.0,
        "taker_buy_sell_ratio": buys / sells if sells else np.nan,
        **_moments(trades.price_ticks[rows], float(trades.price_step)),
        **_moves(trades.price_ticks[rows]),
    }


def _moments(ticks: np.ndarray, step: float) -> dict[str, float]:
    mean = ticks[0] + (ticks - ticks[0]).mean()
    m2, m3, m4 = (((ticks - mean) ** power).mean() for power in (2, 3, 4))
    flat = ticks.min() == ticks.max()
    return {
        "tick_price_mean": mean * step,
        "intra_bar_tick_price_volatility": np.sqrt(m2) * step,
        "tick_price_skewness": 0.0 if flat else m3 / m2**1.5,
        "tick_price_kurtosis": 0.0 if flat else m4 / m2**2 - 3,
    }


def _moves(ticks: np.ndarray) -> dict[str, int]:
    moves = np.sign(np.diff(ticks))
    moves = moves[moves != 0]
    return {
        "num_price_changes": len(moves),
        "num_directional_changes": int((moves[1:] != moves[:-1]).sum()),
        "first_move": int(moves[0]) if len(moves) else 0,
        "last_move": int(moves[-1]) if len(moves) else 0,
    }
