"""What the rules of peers say, by hand and by values of others; and all columns of bars, computed three times over."""

from __future__ import annotations

import csv
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import _plain, bars
from bench._inputs import TradeColumns
from bench._tables import SYMBOL
from bench.peers import finmlkit, mlfinpy, polars
from bench.peers._check import compare
from bench.peers._contract import FileTrades
from bench.peers._definition import columns_of
from tests.fake_peer import closed


def made(price, lots, time_ns=None, sold=None, tick="1", lot="1") -> FileTrades:
    """Trades by hand."""
    rows = len(price)
    return FileTrades(
        path=Path("none"),
        time_ns=np.arange(rows) if time_ns is None else np.array(time_ns),
        price_ticks=np.array(price),
        quantity_lots=np.array(lots),
        trade_id=np.arange(1, rows + 1),
        is_buyer_maker=np.zeros(rows, bool) if sold is None else np.array(sold, bool),
        price_step=Fraction(tick),
        lot=Fraction(lot),
    )


def random_trades(rows: int, seed: int, tick="0.01", lot="0.001") -> FileTrades:
    """Small sizes, some zero; a third of the prices repeat; equal times."""
    random = np.random.default_rng(seed)
    price = 50_000 + np.cumsum(random.integers(-1, 2, rows))
    times = np.cumsum(random.integers(0, 3, rows))
    return made(price, random.integers(0, 9, rows), times, random.integers(0, 2, rows), tick, lot)


def rows_of(columns) -> list[tuple[int, int]]:
    return list(zip(columns["first_trade_row"].tolist(), columns["last_trade_row"].tolist(), strict=True))


def test_finmlkit_carries_the_excess_and_leaves_the_first_trade_out():
    trades = made([1] * 8, [5, 5, 30, 1, 1, 1, 8, 1], sold=[0, 0, 1, 0, 1, 0, 0, 0])
    bars = finmlkit.definition(trades, 10, "bars")
    assert rows_of(bars) == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6)]
    assert bars["close_index"].tolist() == [1, 2, 3, 4, 6] and bars["volume"].tolist() == [5, 30, 1, 1, 9]
    assert list(bars["ticks_sell"]) == [0, 1, 0, 1, 0] and list(bars["dollars_buy"]) == [5, 0, 1, 0, 9]
    assert list(bars["median_trade_size"]) == [5, 30, 1, 1, 4.5]


def test_finmlkit_merges_trades_when_it_preprocesses():
    trades = made([7, 7, 7, 7, 8], [1, 2, 3, 4, 1 << 24 | 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1])
    starts = finmlkit._merged_starts(trades)
    assert starts.tolist() == [0, 2, 3, 4]
    amounts = finmlkit._merged_amounts(trades.quantity, starts)
    assert amounts.dtype == np.float32 and amounts.tolist() == [3, 3, 4, 1 << 24]
    bars = finmlkit.definition(trades, 42, "preprocessed")
    assert rows_of(bars) == [(2, 2), (3, 4)] and bars["close_index"].tolist() == [1, 3]


def test_mlfinpy_resets_and_guesses_sides():
    trades = made([10, 11, 11, 10, 10, 12], [1, 2, 3, 4, 5, 6])
    bars = mlfinpy.definition(trades, 50, "bars")
    assert rows_of(bars) == [(0, 2), (3, 4), (5, 5)] and bars["tick_num"].tolist() == [3, 5, 6]
    assert bars["cum_buy_volume"].tolist() == [5, 0, 6] and bars["cum_dollar_value"].tolist() == [65, 90, 72]


def test_mlfinpy_as_its_own_tests_have_it(market_data):
    with (market_data / "goldens" / "tick_data.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    price, lots = ([int(Decimal(row[name]) * 100) for row in found] for name in ("Price", "Volume"))
    trades = made(price, lots, tick="0.01", lot="0.01")
    bars = mlfinpy.definition(trades, 100_000 * 100 * 100, "bars")
    assert bars["cum_ticks"].tolist() == [24, 37, 37]
    assert bars["cum_dollar_value"].tolist() == pytest.approx([107178.25, 103065.00, 100394.25])


def test_polars_names_a_bar_by_the_quotient():
    bars = polars.definition(made([1] * 6, [4, 6, 3, 30, 2, 1]), 10, "all")
    assert rows_of(bars) == [(0, 0), (1, 2), (3, 5)] and bars["volume"].tolist() == [4, 9, 33]


def test_polars_as_fmlpy_has_volume_bars(market_data):
    with (market_data / "goldens" / "bar_test_data.csv").open(newline="") as file:
        ticks = list(csv.DictReader(file))
    with (market_data / "goldens" / "vol_bar.csv").open(newline="") as file:
        expected = [int(row["V"]) for row in csv.DictReader(file)]
    bars = polars.definition(made([1] * len(ticks), [int(row["Volume"]) for row in ticks]), 100, "all")
    assert bars["volume"].tolist() == expected


@pytest.mark.parametrize("peer", [finmlkit, mlfinpy, polars])
def test_columns_of_every_call_have_one_length(peer):
    for call in peer.CALLS:
        bars = peer.definition(random_trades(400, 1), 250_000, call)
        assert len({len(column) for column in bars.values()}) == 1 and len(rows_of(bars)) > 10


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [1, 60_000, 250_000, 9_000_000])
def test_the_plain_loop_is_the_definition(seed, threshold):
    trades = random_trades(700, seed)
    columns = trades.time_ns, trades.price_ticks, trades.quantity_lots, trades.notional, trades.is_buyer_maker
    out = _plain.room(trades.notional, threshold)
    found = _plain.named(*out, _plain.dollar_bars(*columns, threshold, 0.01, 0.001, *out))
    reset = closed(trades, threshold)
    expected = columns_of(trades, reset["first_trade_row"], reset["last_trade_row"])
    assert set(found) == set(expected) and len(found["open"]) > 0
    compare("plain", found, expected)


def test_ours_is_the_definition_too():
    trades = random_trades(3000, 3, str(SYMBOL.price_tick), str(SYMBOL.quantity_lot))
    arrays = trades.time_ns, trades.price_ticks, trades.quantity_lots, trades.notional, trades.is_buyer_maker
    ours = bars.dollar_bars(TradeColumns(*(torch.from_numpy(array) for array in arrays)), 3_000_000).columns
    reset = closed(trades, 3_000_000)
    expected = columns_of(trades, reset["first_trade_row"], reset["last_trade_row"])
    found = {name: column.numpy() for name, column in ours.items() if name != "is_partial"}
    assert set(found) == set(expected)
    compare("ours", found, expected)
