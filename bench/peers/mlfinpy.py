"""mlfinpy's dollar bars: a loop over rows in Python.

Rule: float64 price x volume is summed from zero in row order; a bar closes at the trade at which the sum reaches the
threshold, that trade belongs to it, and all sums restart at zero. Trades after the last close are in no bar. Taker buys
are guessed by the tick rule (a trade has the sign of the last price change, none before the first), although files know
the side. The frame that is quickest for it is given: times as integers, which it keeps as floats of 128 ns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.peers._contract import RESIDENT, Call, FileTrades
from bench.peers._definition import columns_of

PACKAGES = ("mlfinpy", "pandas")
CALLS = {
    "bars": Call(
        RESIDENT,
        "OHLCV, dollars, buys by tick rule; no vwap, moments or moves",
        "under reset, only where rounding of a float sum meets the threshold",
        row_bytes=24,
        rows=200_000,
    )
}


def prepare(trades: FileTrades, threshold: int) -> dict[str, Callable[[], Any]]:
    """Its documented function on a resident frame."""
    import pandas as pd
    from mlfinpy.data_structure import get_dollar_bars

    trades = trades.head(CALLS["bars"].rows)
    frame = pd.DataFrame({"date_time": trades.time_ns, "price": trades.price, "volume": trades.quantity})
    dollars = trades.quote(threshold)
    return {"bars": lambda: get_dollar_bars(frame, threshold=dollars, verbose=False)}


def table(result: Any) -> dict[str, Any]:
    """All its columns but the time; the number of a bar's last trade counts from 1."""
    names = ("tick_num", "open", "high", "low", "close", "volume", "cum_buy_volume", "cum_ticks", "cum_dollar_value")
    return {name: [] if result is None else result[name] for name in names}


def definition(trades: FileTrades, threshold: int, call: str) -> dict[str, np.ndarray]:
    """The reset rule in floats, and buys by the tick rule."""
    wanted, total, last = trades.quote(threshold), 0.0, []
    for row, dollars in enumerate(trades.price * trades.quantity):
        total += dollars
        if total >= wanted:
            last.append(row)
            total = 0.0
    first = [0, *(row + 1 for row in last)][: len(last)]
    ours = columns_of(trades, first, last)
    bought = np.concatenate(([0.0], np.cumsum(np.where(_signs(trades.price) > 0, trades.quantity, 0.0))))
    renamed = {"volume": "volume", "cum_ticks": "num_ticks", "cum_dollar_value": "dollar_volume"}
    return {
        **{name: ours[name] for name in ("first_trade_row", "last_trade_row", "open", "high", "low", "close")},
        **{theirs: ours[name] for theirs, name in renamed.items()},
        "tick_num": np.array(last) + 1,
        "cum_buy_volume": bought[np.array(last) + 1] - bought[first],
    }


def _signs(price: np.ndarray) -> np.ndarray:
    """Sign of the last price change at each trade, over the borders of bars; 0 before the first."""
    moves = np.sign(np.diff(price, prepend=price[:1]))
    latest = np.maximum.accumulate(np.where(moves != 0, np.arange(len(moves)), 0))
    return moves[latest]
