"""Bars that other libraries and another data vendor made of the same trades."""

from __future__ import annotations

import csv
import datetime as dt
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from gpu_pipeline.bars import volume
from gpu_pipeline.bars._aggregate import to_bars
from gpu_pipeline.bars._make import make_bars
from gpu_pipeline.core.schema import Bars, Symbol, Trades
from kernels import bar_sums
from tests.bars.market import trades_of

SECOND, DAY = 10**9, 86_400 * 10**9
# The files of fmlpy hold prices in 1e-4 USD as integers.
AMZN = Symbol("AMZN", Decimal(1), Decimal(1))
OPEN_NS = 1_340_271_000 * SECOND  # 2012-06-21 09:30


def test_mlfinpy_dollar_bars(market_data: Path):
    """Its 100 ticks with the bad prices that it planted, kept as they are."""
    with (market_data / "goldens/tick_data.csv").open() as file:
        rows = list(csv.DictReader(file))
    moments = [dt.datetime.strptime(row["Date and Time"] + " +0000", "%Y/%m/%d %H:%M:%S.%f %z") for row in rows]
    time_ns = [round(moment.timestamp() * 1000) * 1_000_000 for moment in moments]
    symbol = Symbol("TICK", Decimal("0.01"), Decimal(1))
    price = [int(Decimal(row["Price"]) * 100) for row in rows]
    bars = make_bars(
        trades_of(symbol, time_ns, price, [int(row["Volume"]) for row in rows], [False] * len(rows)), threshold=100_000
    )
    assert bars.num_ticks.tolist() == [24, 37, 37]
    assert bars.dollar_volume.tolist() == [107_178.25, 103_065.00, 100_394.25]
    closes = [str(time) for time in bars.to_pandas()["close_timestamp"].dt.strftime("%H:%M:%S.%f").str[:-3]]
    assert closes == ["22:39:28.965", "22:40:16.182", "22:40:44.921"]
    assert bars.partial.num_ticks.tolist() == [2]
    assert (bars.low[0], bars.high[0]) == (1_005.0, 1_904.75)


@pytest.fixture(scope="module")
def amzn(market_data: Path) -> Trades:
    """11,419 trades of one session."""
    rows = pd.read_csv(market_data / "goldens/bar_test_data.csv")
    time_ns = pd.to_datetime(rows["Time"]).astype("datetime64[ns]").astype(np.int64)
    assert (time_ns >= OPEN_NS).all()
    return trades_of(AMZN, time_ns, rows["Price"], rows["Volume"], [False] * len(rows))


def assert_equal(bars: Bars, theirs: pd.DataFrame) -> None:
    for column, letter in {"high": "H", "low": "L", "open": "O", "close": "C", "volume": "V"}.items():
        assert bars.columns[column].tolist() == theirs[letter].tolist(), column


def whole(bars: Bars) -> Bars:
    """The bars and the open rest, which fmlpy does not tell from a bar."""
    return Bars.concat([bars, bars.partial])


def test_fmlpy_time_bars_of_four_seconds(market_data: Path, amzn: Trades):
    """Its buckets are (t, t + 4 s]: ours, [t, t + 4 s), of trades that are all one nanosecond earlier."""
    theirs = pd.read_csv(market_data / "goldens/time_bar.csv")
    bars = whole(make_bars(replace(amzn, time_ns=amzn.time_ns - 1), "time", step="4s"))
    assert len(bars) == len(theirs) == 2_226
    assert_equal(bars, theirs)
    assert ((bars.close_timestamp - OPEN_NS) // SECOND).tolist() == theirs["sec"].tolist()


def test_fmlpy_volume_bars(market_data: Path, amzn: Trades):
    """Its bar of a trade is floor(volume up to and with it / 100): the trade that reaches a hundred begins a bar.

    Ours ends one there, by `carry`. So the rule is asked one trade ahead: trade i brings the volume of trade i + 1, and
    the volume of the first is the remainder to begin with.
    """
    theirs = pd.read_csv(market_data / "goldens/vol_bar.csv")
    lots = amzn.quantity_lots
    ahead = replace(amzn, quantity_lots=torch.cat([lots[1:], lots.new_zeros(1)]))
    config = volume.Config(threshold=100, on_close="carry")
    ends, _ = volume.step(ahead, config, {"sum": lots[:1] % 100})
    columns = (amzn.time_ns, amzn.price_ticks, lots, amzn.notional, amzn.is_buyer_maker)
    sums, rest = bar_sums.bar_sums(*columns, ends, 0, torch.zeros(bar_sums.K, dtype=torch.int64))
    bars = to_bars(torch.cat([sums, rest[:, None]], dim=1), AMZN, "volume_100", has_side=False)
    assert len(bars) == len(theirs) == 6_630
    assert_equal(bars, theirs)


def test_minute_bars_of_gold_futures_equal_another_partys(market_data: Path):
    """Three days, eleven contracts; the prices of the 459 trades of size 0 count."""
    ticks = pq.read_table(market_data / "gold_futures_20131007/gc_tick_trades.parquet").to_pandas()
    theirs = pq.read_table(market_data / "gold_futures_20131007/gc_minute_trades.parquet").to_pandas()
    theirs = theirs[theirs["date"].isin(ticks["date"])].set_index(["contract", "date", "ms"])[
        ["open", "high", "low", "close"]
    ]
    symbol, equal, compared = Symbol("GC", Decimal("0.1"), Decimal(1), Decimal(100)), 0, 0
    assert int((ticks["size"] == 0).sum()) == 459
    for contract, own in ticks.groupby("contract"):
        days = pd.to_datetime(own["date"], format="%Y%m%d").to_numpy().astype("datetime64[s]").astype(np.int64)
        price = np.rint(own["price"].to_numpy() * 10).astype(np.int64)
        trades = trades_of(symbol, days * SECOND + own["ms"].to_numpy() * 10**6, price, own["size"], [False] * len(own))
        for row in whole(make_bars(trades, "time", step="1min")).to_pandas().itertuples():
            key = (contract, f"{row.open_timestamp:%Y%m%d}", (row.open_timestamp.value % DAY) // 10**6)
            compared += 1
            equal += tuple(theirs.loc[key]) == (row.open, row.high, row.low, row.close)
    assert (equal, compared, len(theirs)) == (4_681, 4_681, 4_681)
