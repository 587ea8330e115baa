"""Dollar bars against plain loops and the real day."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_pipeline.bars import dollar
from gpu_pipeline.bars._make import make_bars
from gpu_pipeline.core.errors import ConfigError, InputError
from gpu_pipeline.core.schema import Symbol
from tests.bars.market import BTC, random_trades, real_day, trades_of


def reset_by_hand(notional: list[int], threshold: int) -> list[int]:
    ends, total = [], 0
    for row, amount in enumerate(notional):
        total += amount
        if total >= threshold:
            ends.append(row)
            total = 0
    return ends


def carry_by_hand(notional: list[int], threshold: int) -> list[int]:
    ends, total = [], 0
    for row, amount in enumerate(notional):
        if (total + amount) // threshold > total // threshold:
            ends.append(row)
        total += amount
    return ends


@pytest.mark.parametrize(("on_close", "by_hand"), [("reset", reset_by_hand), ("carry", carry_by_hand)])
@pytest.mark.parametrize("threshold", ["1000", "50000", "33333.333333", "1e7"])
def test_bars_end_where_the_plain_loop_ends_them(on_close, by_hand, threshold):
    trades = random_trades(3, 5_000)
    units = Decimal(threshold) / Decimal("0.00001")
    expected = by_hand(trades.notional.tolist(), int(units.to_integral_value(rounding="ROUND_CEILING")))
    bars = make_bars(trades, "dollar", threshold=Decimal(threshold), on_close=on_close)
    assert bars.last_trade_row.tolist() == expected
    assert bars.first_trade_row.tolist() == [0, *(row + 1 for row in expected)][: len(expected)]


def test_one_trade_of_many_thresholds_closes_one_bar():
    trades = trades_of(BTC, [1, 2, 3, 4], [100] * 4, [10, 95, 1, 5], [True] * 4)
    for on_close, last_rows in (("reset", [1]), ("carry", [1])):
        bars = make_bars(trades, threshold="0.02", on_close=on_close)
        assert bars.last_trade_row.tolist() == last_rows
        assert bars.partial.num_ticks.tolist() == [2]


def test_carry_takes_the_overshoot_along_and_reset_drops_it():
    trades = trades_of(BTC, range(5), [1] * 5, [6, 6, 6, 6, 6], [True] * 5)
    ends = {rule: make_bars(trades, threshold="1e-4", on_close=rule).last_trade_row for rule in ("reset", "carry")}
    assert ends["reset"].tolist() == [1, 3]
    assert ends["carry"].tolist() == [1, 3, 4]


@pytest.mark.parametrize(
    ("threshold", "tick", "lot", "multiplier", "units"),
    [
        ("50000", "0.01", "0.001", "1", 5_000_000_000),
        ("0.00001", "0.01", "0.001", "1", 1),
        ("0.000010000001", "0.01", "0.001", "1", 2),
        ("100", "0.3", "0.7", "1", 477),
        ("1000000", "0.25", "1", "5", 800_000),
    ],
)
def test_the_threshold_in_units_is_the_exact_ceiling(threshold, tick, lot, multiplier, units):
    symbol = Symbol("X", Decimal(tick), Decimal(lot), Decimal(multiplier))
    assert dollar.threshold_units(dollar.Config(threshold=threshold), symbol) == units


def test_a_threshold_beyond_the_integers_is_one_line():
    symbol = Symbol("X", Decimal("1e-12"), Decimal("1e-8"))
    with pytest.raises(InputError, match=r"bars.threshold: 2000000 USDT .* coarser price_tick or quantity_lot"):
        make_bars(trades_of(symbol, [1], [1], [1], [True]), threshold=2_000_000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "make_bars: threshold: Field required"),
        ({"threshold": 0}, "make_bars: threshold: Input should be greater than 0"),
        ({"threshold": 5, "on_close": "rest"}, "did you mean 'reset'"),
        ({"treshold": 5, "threshold": 5}, "make_bars: treshold: unknown key .*did you mean 'threshold'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make_bars(random_trades(0, 10), "dollar", **options)


@pytest.mark.parametrize(("threshold", "on_close"), [(50_000, "reset"), (200_000, "carry"), (2_000_000, "reset")])
def test_the_real_day_is_accounted_for_to_the_last_digit(market_data: Path, threshold, on_close):
    trades = real_day(market_data)
    bars = make_bars(trades, threshold=threshold, on_close=on_close)
    rows = bars.num_ticks.sum() + bars.partial.num_ticks.sum()
    assert int(rows) == len(trades) == 137_988
    lots = torch.round(torch.cat([bars.volume, bars.partial.volume]) * 1000).long().sum()
    units = torch.round(torch.cat([bars.dollar_volume, bars.partial.dollar_volume]) * 1e5).long().sum()
    assert int(lots) == 58_419_475
    assert int(units) == int(trades.notional.sum())
    by_hand = reset_by_hand if on_close == "reset" else carry_by_hand
    assert bars.last_trade_row.tolist() == by_hand(trades.notional.tolist(), threshold * 100_000)


def test_one_can_look_inside_a_bar(market_data: Path):
    trades = real_day(market_data)
    bars = make_bars(trades, threshold=50_000)
    inside = bars.trades(17)
    assert inside.first_row == int(bars.first_trade_row[17])
    assert len(inside) == int(bars.num_ticks[17])
    assert float(bars.close[17]) == int(inside.price_ticks[-1]) / 100
    assert np.isclose(float(bars.volume[17]), int(inside.quantity_lots.sum()) / 1000, rtol=0, atol=0)


def test_pieces_must_follow_each_other():
    trades = random_trades(1, 30)
    with pytest.raises(InputError, match="ends before row 10, the next is BTCUSDT from row 20"):
        make_bars([trades[:10], trades[20:]], threshold=5)
    with pytest.raises(InputError, match="no trades; give a table"):
        make_bars([], threshold=5)
