"""finmlkit's dollar bars: numba loops, bars in parallel.

Rule: float64 price x amount is summed in row order from the first trade on; at a later trade at which the sum reaches
the threshold a bar closes with that trade, and the threshold is taken off the sum once, so that the excess is carried
(all of it: after a trade of many thresholds a bar closes at every trade until it is used up). The first trade is in no
bar (it stands for the close of a bar before the first), nor are trades after the last close. Volumes leave as float32.
`preprocessed` is what its documentation does with raw trades: successive trades of one time, price and side are merged
into one beforehand and amounts are float32. The other calls skip that, as they are quicker, and hand over the index of
times that it otherwise takes seconds to make. Running extremes of flow and spreads come out besides; we have no such
columns, and they are not checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from bench.peers._contract import FILE, RESIDENT, Call, FileTrades, read
from bench.peers._definition import columns_of

PACKAGES = ("finmlkit", "pandas")
GIVES = "OHLCV, vwap, median size, sides; no moments or moves"
CARRIED = "it carries the whole excess, and leaves out the first trade"
MERGED = f"{CARRIED}; amounts are float32"
CALLS = {
    "bars": Call(RESIDENT, GIVES, CARRIED, row_bytes=25),
    "file": Call(FILE, GIVES, CARRIED, row_bytes=25),
    "preprocessed": Call(FILE, f"preprocessed; {GIVES}", MERGED, row_bytes=25),
}


def prepare(trades: FileTrades, threshold: int) -> dict[str, Callable[[], Any]]:
    """Prices and directions of bars, of resident trades and from the file."""
    os.environ["FMK_CONSOLE_LOGGER_LEVEL"] = "ERROR"
    resident, dollars = _as_given(trades), trades.quote(threshold)
    return {
        "bars": lambda: _bars(resident, dollars),
        "file": lambda: _bars(_as_given(read(trades.path)), dollars),
        "preprocessed": lambda: _bars(_preprocessed(read(trades.path)), dollars),
    }


def _as_given(trades: FileTrades) -> Any:
    import pandas as pd
    from finmlkit.bar.data_model import TradesData

    columns = trades.time_ns, trades.price, trades.quantity, trades.trade_id
    index = pd.DatetimeIndex(trades.time_ns.view("datetime64[ns]"))
    return TradesData(*columns, side=trades.side, timestamp_unit="ns", dt_index=index)


def _preprocessed(trades: FileTrades) -> Any:
    from finmlkit.bar.data_model import TradesData

    columns = trades.time_ns, trades.price, trades.quantity, trades.trade_id
    return TradesData(*columns, is_buyer_maker=trades.is_buyer_maker, timestamp_unit="ns", preprocess=True)


def _bars(trades: Any, dollars: float) -> tuple[Any, Any, Any]:
    from finmlkit.bar.kit import DollarBarKit

    kit = DollarBarKit(trades, dollars)
    return kit.build_ohlcv(), kit.build_directional_features(), kit.bar_close_indices


def table(result: tuple[Any, Any, Any]) -> dict[str, Any]:
    """Close indices (after merging, where it merges) and the columns that are checked."""
    prices, directions, closes = result
    names = ("open", "high", "low", "close", "volume", "trades", "median_trade_size", "vwap")
    sides = ("ticks_buy", "ticks_sell", "volume_buy", "volume_sell", "dollars_buy", "dollars_sell")
    columns = {name: prices[name] for name in names} | {name: directions[name] for name in sides}
    return {"close_index": closes, "close_timestamp": prices.index.astype("int64"), **columns}


def definition(trades: FileTrades, threshold: int, call: str) -> dict[str, np.ndarray]:
    """The rule on the trades as given, or on merged ones."""
    starts = _merged_starts(trades) if call == "preprocessed" else np.arange(len(trades))
    amount = _merged_amounts(trades.quantity, starts) if call == "preprocessed" else trades.quantity
    price, side = trades.price[starts], trades.side[starts]
    closes = _closes(price * amount, trades.quote(threshold))
    ends = np.append(starts[1:], len(trades)) - 1
    ours = columns_of(trades, starts[closes[:-1] + 1], ends[closes[1:]])
    bars = [slice(first + 1, last + 1) for first, last in pairwise(closes)]
    names = ("first_trade_row", "last_trade_row", "close_timestamp", "open", "high", "low", "close", "vwap")
    columns = {"trades": np.diff(closes), "median_trade_size": [np.median(amount[bar]) for bar in bars]}
    for name, sign in (("buy", 1), ("sell", -1)):
        mine = side == sign
        columns[f"ticks_{name}"] = [mine[bar].sum() for bar in bars]
        columns[f"volume_{name}"] = ours[f"{name}_volume"]
        columns[f"dollars_{name}"] = [(price * amount)[bar][mine[bar]].sum() for bar in bars]
    return {name: ours[name] for name in (*names, "volume")} | {"close_index": closes[1:], **columns}


def _closes(dollars: np.ndarray, wanted: float) -> np.ndarray:
    """Trade 0, then every trade that closes a bar."""
    total, closes = float(dollars[0]), [0]
    for row in range(1, len(dollars)):
        total += dollars[row]
        if total >= wanted:
            closes.append(row)
            total -= wanted
    return np.array(closes)


def _merged_starts(trades: FileTrades) -> np.ndarray:
    """First rows of runs of one time, price and side."""
    columns = trades.time_ns, trades.price_ticks, trades.is_buyer_maker
    return np.flatnonzero(np.any([np.diff(column, prepend=~column[:1]) != 0 for column in columns], axis=0))


def _merged_amounts(quantity: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """float32 sums of the runs, in row order."""
    runs = np.split(quantity.astype(np.float32), starts[1:])
    return np.array([np.cumsum(run, dtype=np.float32)[-1] for run in runs])
