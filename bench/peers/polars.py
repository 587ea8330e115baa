"""Dollar bars as people write them with polars: the quotient of a running sum by the threshold names the bar.

Rule: bar = floor(cumulative notional / threshold), in int64 here, so exact. The trade at which the quotient grows is
the first of the new bar (it closes the old one under our carry rule), the remainder is carried, and a trade of many
thresholds skips numbers. Rows after the last growth are a bar like the others, though an open one. Two forms: prices
and volumes alone, and every column of ours, with moves found row by row before grouping, which is five times as quick
as finding them in the groups. Polars is told that bars are sorted, its quickest way to group.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from bench.peers._contract import FILE, RESIDENT, Call, FileTrades
from bench.peers._definition import columns_of

PACKAGES = ("polars",)
WHY = "it carries the remainder, gives the trade that closes a bar to the next one, and keeps the open bar"
CALLS = {
    "prices": Call(RESIDENT, "OHLCV, dollars, vwap; no sides, moments or moves", WHY, row_bytes=24),
    "all": Call(RESIDENT, "all columns", WHY, row_bytes=25),
    "file": Call(FILE, "all columns", WHY, row_bytes=25),
}


def prepare(trades: FileTrades, threshold: int) -> dict[str, Callable[[], Any]]:
    """Lazy queries of a resident frame and of the file."""
    import polars as pl

    names = ("time_ns", "price_ticks", "quantity_lots", "is_buyer_maker")
    frame = pl.DataFrame({name: getattr(trades, name) for name in names})
    steps = trades.price_step, trades.lot
    return {
        "prices": lambda: _query(frame.lazy(), threshold, steps, every=False).collect(),
        "all": lambda: _query(frame.lazy(), threshold, steps, every=True).collect(),
        "file": lambda: _query(pl.scan_parquet(trades.path), threshold, steps, every=True).collect(),
    }


def _query(trades: Any, threshold: int, steps: tuple[Fraction, Fraction], *, every: bool) -> Any:
    import polars as pl

    bar = (pl.col("notional").cum_sum() // threshold).set_sorted()
    rows = trades.with_columns(notional=pl.col("price_ticks") * pl.col("quantity_lots")).with_columns(bar=bar)
    if not every:
        return rows.group_by("bar", maintain_order=True).agg(**_prices()).select(**_scaled(*steps))
    bars = _with_moves(rows).group_by("bar", maintain_order=True).agg(**_prices(), **_others())
    return bars.select(**_scaled(*steps), **_derived(*steps))


def _with_moves(rows: Any) -> Any:
    """Sign of each price change inside its bar, and whether it turns on the last such sign of the same bar."""
    import polars as pl

    bar, move = pl.col("bar"), pl.col("move")
    inside = pl.when(bar == bar.shift()).then(pl.col("price_ticks").diff().sign()).otherwise(0)
    # Bar and sign in one number: of the last row before that moved.
    before = pl.when(move != 0).then(4 * bar + move).forward_fill().shift()
    turn = (move != 0) & (before == 4 * bar - move)
    return rows.with_columns(move=inside).with_columns(turn=turn.fill_null(value=False))


def _prices() -> dict[str, Any]:
    import polars as pl

    price = pl.col("price_ticks")
    return {
        "open_timestamp": pl.col("time_ns").first(),
        "close_timestamp": pl.col("time_ns").last(),
        "open": price.first(),
        "high": price.max(),
        "low": price.min(),
        "close": price.last(),
        "lots": pl.col("quantity_lots").sum(),
        "units": pl.col("notional").sum(),
        "num_ticks": pl.len().cast(pl.Int64),
    }


def _others() -> dict[str, Any]:
    import polars as pl

    price, move = pl.col("price_ticks"), pl.col("move")
    moved = move.filter(move != 0)
    return {
        "bought": (pl.col("quantity_lots") * ~pl.col("is_buyer_maker")).sum(),
        "mean": price.mean(),
        "deviation": price.std(ddof=0),
        "tick_price_skewness": price.skew(),
        "tick_price_kurtosis": price.kurtosis(),
        "num_price_changes": (move != 0).sum().cast(pl.Int64),
        "num_directional_changes": pl.col("turn").sum().cast(pl.Int64),
        "first_move": moved.first().fill_null(0),
        "last_move": moved.last().fill_null(0),
    }


def _scaled(price_step: Fraction, lot: Fraction) -> dict[str, Any]:
    """Columns of `_prices` in quote currency and base units, and the rows of the bars."""
    import polars as pl

    last = pl.col("num_ticks").cum_sum() - 1
    kept = ("open_timestamp", "close_timestamp", "num_ticks")
    return {
        **{name: pl.col(name) for name in kept},
        "first_trade_row": last - pl.col("num_ticks") + 1,
        "last_trade_row": last,
        **{name: pl.col(name) * float(price_step) for name in ("open", "high", "low", "close")},
        "volume": pl.col("lots") * float(lot),
        "dollar_volume": pl.col("units") * float(price_step * lot),
        "vwap": pl.when(pl.col("lots") > 0).then(pl.col("units") / pl.col("lots")).otherwise(pl.col("close"))
        * float(price_step),
    }


def _derived(price_step: Fraction, lot: Fraction) -> dict[str, Any]:
    import polars as pl

    lots, bought = pl.col("lots"), pl.col("bought")
    flat = pl.col("high") == pl.col("low")
    moments, moves = ("tick_price_skewness", "tick_price_kurtosis"), ("first_move", "last_move")
    return {
        "buy_volume": bought * float(lot),
        "sell_volume": (lots - bought) * float(lot),
        "trade_imbalance": pl.when(lots > 0).then((2 * bought - lots) / lots).otherwise(0.0),
        "taker_buy_sell_ratio": pl.when(lots > bought).then(bought / (lots - bought)).otherwise(float("nan")),
        "tick_price_mean": pl.col("mean") * float(price_step),
        "intra_bar_tick_price_volatility": pl.col("deviation") * float(price_step),
        **{name: pl.when(flat).then(0.0).otherwise(pl.col(name)) for name in moments},
        **{name: pl.col(name) for name in ("num_price_changes", "num_directional_changes", *moves)},
    }


def table(result: Any) -> dict[str, Any]:
    """All columns, named as ours."""
    return {name: result[name].to_numpy() for name in result.columns}


def definition(trades: FileTrades, threshold: int, call: str) -> dict[str, np.ndarray]:
    """Runs of trades of one quotient, in Python integers."""
    total, quotients = 0, []
    for units in trades.notional.tolist():
        total += units
        quotients.append(total // threshold)
    first = [row for row, number in enumerate(quotients) if row == 0 or number != quotients[row - 1]]
    return columns_of(trades, first, [*(row - 1 for row in first[1:]), len(trades) - 1])
