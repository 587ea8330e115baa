"""Pooled bars against bars made from the trades, bit for bit; and bars of others against pandas."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gpu_pipeline as gp
from gpu_pipeline.bars._aggregate import to_bars
from gpu_pipeline.bars._make import make_bars, make_resolutions
from gpu_pipeline.bars._pool import pool_bars
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BAR_COLUMNS, BAR_FLOATS, Bars, Symbol
from kernels import bar_sums
from tests.bars.market import BTC, random_trades, real_day, trades_of

MOMENTS = (
    "tick_price_mean",
    "intra_bar_tick_price_volatility",
    "tick_price_skewness",
    "tick_price_kurtosis",
)
# Random walks, rare outliers, uniform draws, heavy tails: how far prices of a bar lie from its lowest, times a span.
SHAPES = {
    "walk": lambda draw, count: np.abs(np.cumsum(draw.integers(-3, 4, count))) / 1000,
    "outlier": lambda draw, count: (draw.random(count) < 0.01) * 1.0,
    "uniform": lambda draw, count: draw.random(count),
    "tail": lambda draw, count: np.minimum(draw.pareto(1.5, count), 100) / 10,
}


def unequal(left: Bars, right: Bars) -> set[str]:
    assert len(left) == len(right)
    return {
        name for name in BAR_COLUMNS if left.columns[name].numpy().tobytes() != right.columns[name].numpy().tobytes()
    }


def same(left: Bars, right: Bars) -> None:
    assert not unequal(left, right)
    assert (left.partial is None) == (right.partial is None)
    if left.partial is not None and right.partial is not None:
        assert not unequal(left.partial, right.partial)


@pytest.mark.parametrize("threshold", [50_000, 2_000_000])
def test_the_real_day_is_exact_to_the_bit(market_data: Path, threshold):
    """At 50k: 923 medium bars of 10 short, 57 long ones of 16 medium, 25 columns each: no bit differs."""
    bars = make_resolutions(real_day(market_data), threshold=threshold)
    assert len(bars["medium"]) == {50_000: 923, 2_000_000: 28}[threshold]
    same(pool_bars(bars["short"], 10), bars["medium"])
    same(pool_bars(bars["medium"], 16), bars["long"])
    same(pool_bars(bars["short"], 160), bars["long"])


def test_minutes_of_the_real_day_pool_to_days(market_data: Path):
    bars = make_resolutions(real_day(market_data), threshold=50_000, resolutions={}, time=["1min", "1day"])
    minutes = pool_bars(bars["1min"], len(bars["1min"]) + 1).partial
    assert not unequal(minutes, bars["1day"].partial)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 9), by=st.integers(1, 9), rows=st.integers(1, 900), side=st.booleans(), inverse=st.booleans()
)
def test_any_number_of_bars_pools_to_what_the_trades_give(seed, by, rows, side, inverse):
    part = random_trades(seed, rows)
    symbol = Symbol("X", Decimal("0.25"), Decimal("0.1"), Decimal(5), inverse)
    columns = [getattr(part, name).numpy() for name in ("time_ns", "price_ticks", "quantity_lots")]
    trades = trades_of(symbol, *columns, part.is_buyer_maker.numpy() & side, has_side=side)
    options = {"threshold": 700 if inverse else 10**8, "resolutions": {"medium": by} if by > 1 else {}}
    bars = make_resolutions(trades, **options)
    pooled = pool_bars(replace(bars["short"], source=None), by)
    same(pooled, bars["medium" if by > 1 else "short"])
    assert pooled.has_side is side


def drawn(seed: int, log_span: float, count: int, bars: int = 40) -> tuple[torch.Tensor, torch.Tensor, Symbol]:
    """Sums of bars of `count` trades, of all of them as one, and a symbol; prices span about 2^log_span ticks."""
    draw = np.random.default_rng(seed)
    symbol = Symbol("X", Decimal(str(draw.choice(["0.01", "0.25", "0.0000001", "0.003"]))), Decimal("0.001"))
    shape = list(SHAPES.values())[seed % len(SHAPES)]
    prices = int(2 ** draw.uniform(10, 30)) + (2**log_span * shape(draw, count * bars)).astype(np.int64)
    price, lots = torch.from_numpy(prices), torch.from_numpy(draw.integers(0, 9, count * bars))
    columns = (torch.arange(count * bars), price, lots, price * lots, lots > 4)
    nothing = torch.zeros(bar_sums.K, dtype=torch.int64)
    parts, _ = bar_sums.bar_sums(*columns, torch.arange(count, count * bars + 1, count), 0, nothing)
    whole, _ = bar_sums.bar_sums(*columns, torch.tensor([count * bars]), 0, nothing)
    return parts, whole, symbol


def fourth_powers(sums: torch.Tensor) -> float:
    """The largest sum of (price - mean)^4, in ticks, to a few parts in a thousand: d about the open, then about it."""
    words = {
        k: sums[row].double() * 2.0**64 + sums[row + 1].double() % 2.0**64 for k, row in ((2, 13), (3, 15), (4, 17))
    }
    n, mean = sums[bar_sums.COUNT].double(), sums[bar_sums.S1].double() / sums[bar_sums.COUNT].double()
    return float((words[4] - 4 * mean * words[3] + 6 * mean**2 * words[2] - 3 * mean**4 * n).max())


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32), log_span=st.floats(0, 13), count=st.sampled_from([2, 3, 5, 17, 500]))
def test_columns_are_exact_below_the_documented_bound(seed, log_span, count):
    parts, whole, symbol = drawn(seed, log_span, count)
    if fourth_powers(parts) >= 2**52:
        return
    pooled = pool_bars(to_bars(parts, symbol, "x"), 40)
    assert not unequal(pooled, to_bars(whole, symbol, "x"))


@pytest.mark.parametrize("log_span", [16, 20, 24])
@pytest.mark.parametrize("count", [2, 17, 500])
def test_beyond_the_bound_three_moments_agree_to_their_last_digits(log_span, count):
    for seed in range(8):
        parts, whole, symbol = drawn(seed, log_span, count)
        pooled, expected = pool_bars(to_bars(parts, symbol, "x"), 40), to_bars(whole, symbol, "x")
        assert unequal(pooled, expected) <= set(MOMENTS[1:])
        for name in MOMENTS[1:]:
            np.testing.assert_allclose(pooled.columns[name], expected.columns[name], rtol=1e-12, atol=1e-12)


def test_some_moments_are_beyond_what_floats_hold():
    """The bound is not idle: past it bits do differ."""
    parts, whole, symbol = drawn(2, 24, 500)
    assert unequal(pool_bars(to_bars(parts, symbol, "x"), 40), to_bars(whole, symbol, "x"))


def test_notional_beyond_the_bound_agrees_to_a_few_last_digits():
    """2 M USD in units of 1e-10, as spot markets have them: 2e16, where float64 has no odd integers."""
    spot = Symbol("X", Decimal("0.01"), Decimal("0.00000001"))
    draw = np.random.default_rng(1)
    price = 9_700_000 + np.cumsum(draw.integers(-3, 4, 4_000))
    trades = trades_of(spot, np.arange(4_000), price, draw.integers(1, 10**9, 4_000), draw.random(4_000) < 0.5)
    bars = make_resolutions(trades, threshold=2_000_000, resolutions={"medium": 10})
    pooled = pool_bars(bars["short"], 10)
    assert unequal(pooled, bars["medium"]) <= {"dollar_volume", "vwap"}
    for name in ("dollar_volume", "vwap"):
        np.testing.assert_allclose(pooled.columns[name], bars["medium"].columns[name], rtol=1e-13)


def test_ends_may_be_given_and_the_rest_is_partial():
    trades = random_trades(6, 4_000)
    bars = make_resolutions(trades, threshold=9_000, resolutions={"two": 2, "six": {"of": "two", "bars": 3}})
    ends = torch.arange(6, len(bars["short"]) + 1, 6)
    pooled = gp.pool_bars(bars["short"], ends, name="mine")
    same(pooled, bars["six"])
    assert (pooled.name, pooled.partial.name, pool_bars(bars["short"], 6).name) == ("mine", "mine", "dollar_9k_pooled")
    assert pooled.trades(1).time_ns.equal(bars["six"].trades(1).time_ns)
    nothing = pool_bars(bars["short"], torch.tensor([], dtype=torch.int64))
    assert len(nothing) == 0
    assert int(nothing.partial.num_ticks[0]) == 4_000
    complete = replace(bars["short"], partial=None)
    assert pool_bars(complete, 1).partial is None


def test_no_bars_pool_to_no_bars():
    bars = make_bars(random_trades(1, 50), threshold=10**9)
    pooled = pool_bars(bars, 10)
    assert len(pooled) == 0
    assert not unequal(pooled.partial, bars.partial)
    assert pool_bars(replace(bars, partial=None), 10).partial is None


def test_empty_time_bars_add_their_time_alone():
    """Trades in minutes 1, 2 and 7 of the first eight: two bars of four minutes, then one without a trade."""
    minute, day = 60 * 10**9, 1_582_329_600 * 10**9
    times = [day + at * minute for at in (1, 2, 2, 7, 30)]
    trades = trades_of(BTC, times, [100, 110, 90, 95, 99], [1, 2, 3, 4, 5], [True] * 5)
    minutes = make_bars([trades], "time", step="1min", empty=True)
    assert minutes.num_ticks.tolist()[:7] == [1, 2, 0, 0, 0, 0, 1]
    pooled = pool_bars(minutes, 4)
    assert pooled.num_ticks.tolist()[:3] == [3, 1, 0]
    assert pooled.open_timestamp.tolist()[:3] == [day + at * minute for at in (1, 5, 9)]
    assert pooled.close_timestamp.tolist()[:3] == [day + at * minute for at in (5, 9, 13)]
    assert pooled.first_trade_row.tolist()[:3] == [0, 3, 4]
    assert pooled.last_trade_row.tolist()[:3] == [2, 3, 3]
    assert [pooled.columns[name][1].item() for name in ("open", "high", "low", "close")] == [0.95] * 4
    blank = pooled.select(slice(2, 3))
    assert {blank.columns[name].item() for name in ("open", "high", "low", "close", "vwap", "tick_price_mean")} == {
        0.95
    }
    assert blank.volume.item() == blank.tick_price_kurtosis.item() == 0.0


def test_what_cannot_be_pooled_is_refused():
    bars = make_bars(random_trades(1, 900), threshold=100_000)
    flushed = Bars.concat([bars, bars.partial])
    with pytest.raises(InputError, match=rf"row {len(bars)} of dollar_100k is a partial bar; give complete bars"):
        pool_bars(flushed, 2)
    assert not unequal(pool_bars(flushed.complete(), 2), pool_bars(bars, 2))
    with pytest.raises(InputError, match=r"by must be at least 1 \(value 0\)"):
        pool_bars(bars, 0)
    for ends, wrong in (([2, 2], "ends[1] is 2"), ([0, 1], "ends[0] is 0"), ([1, 99_999], "ends[1] is 99999")):
        with pytest.raises(InputError, match=r"pool_bars: ends must increase and lie in \[1, ") as error:
            pool_bars(bars, torch.tensor(ends))
        assert wrong in str(error.value)


THEIRS = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}


def test_bars_of_others_pool_what_they_have(market_data: Path):
    path = market_data / "bars_1m/btc_perp_ftx_1m_202112_202202.parquet"
    bars = gp.read_bars(path, symbol="BTC-PERP", step="1min", columns={"timestamp": "ts"}, device="cpu")
    pooled = pool_bars(bars, 60)
    frame = pd.read_parquet(path).set_index("ts")
    hours = frame.resample("1h", origin="start").agg(THEIRS).iloc[: len(pooled)]
    assert len(pooled) == len(frame) // 60 > 700
    for name in ("open", "high", "low", "close"):
        assert pooled.columns[name].tolist() == hours[name].tolist()
    np.testing.assert_allclose(pooled.volume, hours["volume"], rtol=1e-12)
    assert pooled.open_timestamp.tolist() == hours.index.as_unit("ns").astype("int64").tolist()
    assert pooled.close_timestamp.equal(pooled.open_timestamp + 3600 * 10**9)
    lacking = set(BAR_FLOATS) - {*THEIRS}
    assert all(bool(pooled.columns[name].isnan().all()) for name in lacking)
    for name in ("num_ticks", "num_price_changes", "num_directional_changes"):
        assert set(pooled.columns[name].tolist()) == {-1}
    assert pooled.last_trade_row.tolist() == list(range(59, 60 * len(pooled), 60))
    assert int(pooled.partial.first_trade_row[0]) == 60 * len(pooled)


def others(volume: list[float], quote: list[float], symbol: Symbol = BTC) -> Bars:
    """Three minutes that another party made."""
    rows = torch.arange(3)
    columns = {name: torch.full((3,), torch.nan, dtype=torch.float64) for name in BAR_FLOATS}
    columns |= {name: torch.full((3,), -1) for name in ("num_ticks", "num_price_changes", "num_directional_changes")}
    columns |= {name: torch.zeros(3, dtype=torch.int64) for name in ("first_move", "last_move")}
    columns |= {"open_timestamp": rows, "close_timestamp": rows + 1, "first_trade_row": rows, "last_trade_row": rows}
    for name, values in {"open": [3, 5, 4], "high": [6, 9, 4], "low": [2, 4, 1], "close": [5, 4, 2]}.items():
        columns[name] = torch.tensor(values, dtype=torch.float64)
    columns["volume"] = torch.tensor(volume, dtype=torch.float64)
    columns["dollar_volume"] = torch.tensor(quote, dtype=torch.float64)
    columns["is_partial"] = torch.zeros(3, dtype=torch.bool)
    return Bars(symbol, "time_1min", {name: columns[name] for name in BAR_COLUMNS}, has_side=False)


def test_volumes_of_others_are_whole_lots_or_floats_in_row_order():
    pooled = pool_bars(others([0.1, 0.2, 0.3], [1.0, 2.0, 4.0]), 3)
    assert pooled.volume.tolist() == [0.6] != [0.1 + 0.2 + 0.3]
    assert (pooled.dollar_volume.tolist(), pooled.vwap.tolist()) == ([7.0], [7.0 / 0.6])
    assert [pooled.columns[name].item() for name in ("open", "high", "low", "close")] == [3, 9, 1, 2]
    assert pool_bars(others([0.1, 0.2, 0.3001], [1.0] * 3), 3).volume.tolist() == [0.1 + 0.2 + 0.3001]
    assert pool_bars(others([0.0] * 3, [0.0] * 3), 3).vwap.tolist() == [2.0]
    unknown = pool_bars(others([1.0] * 3, [np.nan] * 3), 2)
    assert bool(unknown.vwap.isnan().all())
    assert (len(unknown), len(unknown.partial), bool(unknown.partial.is_partial[0])) == (1, 1, True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("log_span", [6, 24])
def test_cuda_is_the_cpu(log_span):
    parts, _, symbol = drawn(1, log_span, 500)
    bars = to_bars(parts, symbol, "x")
    there = replace(bars, columns={name: column.cuda() for name, column in bars.columns.items()})
    pooled = pool_bars(there, 7)
    assert pooled.device.type == "cuda"
    back = replace(pooled, columns={name: column.cpu() for name, column in pooled.columns.items()})
    assert not unequal(back, pool_bars(bars, 7))
