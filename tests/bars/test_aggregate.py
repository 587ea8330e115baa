"""Float columns of bars against numpy, scipy and exact fractions on the trades inside each bar."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from gpu_pipeline.bars._make import make_bars
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BAR_COLUMNS, Symbol
from tests.bars.exact import check
from tests.bars.market import BTC, random_trades, real_day, trades_of
from tests.bars.streams import SYMBOLS, decimal, plain, stream


def inside(trades, bars):
    """(price ticks, lots, taker sold) of every bar, as numpy slices."""
    columns = [getattr(trades, name).numpy() for name in ("price_ticks", "quantity_lots", "is_buyer_maker")]
    rows = zip(bars.first_trade_row.tolist(), bars.last_trade_row.tolist(), strict=True)
    return [[column[first : last + 1] for column in columns] for first, last in rows]


def close_to(found, expected, rtol=1e-9, atol=0.0):
    np.testing.assert_allclose(found.numpy(), np.array(expected, np.float64), rtol=rtol, atol=atol)


@pytest.fixture(scope="module")
def day(market_data: Path):
    trades = real_day(market_data)
    bars = make_bars(trades, threshold=50_000)
    return trades, bars, inside(trades, bars)


def test_columns_are_the_documented_ones_in_order(day):
    assert tuple(day[1].columns) == BAR_COLUMNS
    assert tuple(day[1].to_pandas().columns) == BAR_COLUMNS


def test_prices_and_amounts_are_single_correctly_rounded_divisions(day):
    _, bars, rows = day
    assert bars.open.tolist() == [int(price[0]) / 100 for price, _, _ in rows]
    assert bars.high.tolist() == [int(price.max()) / 100 for price, _, _ in rows]
    assert bars.low.tolist() == [int(price.min()) / 100 for price, _, _ in rows]
    assert bars.close.tolist() == [int(price[-1]) / 100 for price, _, _ in rows]
    assert bars.volume.tolist() == [int(lots.sum()) / 1000 for _, lots, _ in rows]
    assert bars.dollar_volume.tolist() == [int((price * lots).sum()) / 100_000 for price, lots, _ in rows]
    assert bars.sell_volume.tolist() == [int(lots[sold].sum()) / 1000 for _, lots, sold in rows]
    assert bars.num_ticks.tolist() == [len(price) for price, _, _ in rows]


def test_taker_columns_follow_their_formulas(day):
    _, bars, rows = day
    sold = np.array([lots[side].sum() for _, lots, side in rows])
    bought = np.array([lots[~side].sum() for _, lots, side in rows])
    assert bars.trade_imbalance.tolist() == ((bought - sold) / (bought + sold)).tolist()
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(sold > 0, bought / sold, np.nan)
    assert np.isnan(ratio).sum() > 1_000
    np.testing.assert_array_equal(bars.taker_buy_sell_ratio.numpy(), ratio)


def test_vwap_is_notional_over_volume_and_never_outside_the_bar(day):
    _, bars, rows = day
    exact = [float(Fraction(int((price * lots).sum()), int(lots.sum()) * 100)) for price, lots, _ in rows]
    close_to(bars.vwap, exact, rtol=1e-15)
    close_to(bars.vwap, (bars.dollar_volume / bars.volume).tolist(), rtol=1e-15)
    assert bool(((bars.low <= bars.vwap) & (bars.vwap <= bars.high)).all())


def test_moments_equal_numpy_and_scipy(day):
    bars, rows = day[1].select(slice(None, None, 4)), day[2][::4]
    prices = [price / 100 for price, _, _ in rows]
    flat = np.array([price.min() == price.max() for price in prices])
    assert flat.sum() > 30
    # scipy's own error grows with price / spread: it centres floats, where the bars centre exact integers.
    close_to(bars.tick_price_mean, [price.mean() for price in prices], rtol=1e-14)
    close_to(
        bars.intra_bar_tick_price_volatility, np.where(flat, 0, [np.std(p) for p in prices]), rtol=1e-9, atol=1e-12
    )
    ticks = [price - price[0] for price, _, _ in rows]
    skewness = [0.0 if same else stats.skew(d) for d, same in zip(ticks, flat, strict=True)]
    kurtosis = [0.0 if same else stats.kurtosis(d) for d, same in zip(ticks, flat, strict=True)]
    close_to(bars.tick_price_skewness, skewness, rtol=1e-9, atol=1e-9)
    close_to(bars.tick_price_kurtosis, kurtosis, rtol=1e-9, atol=1e-9)


def test_moves_are_counted_as_a_plain_loop_counts_them(day):
    _, bars, rows = day
    for index in range(0, len(rows), 7):
        steps = [s for s in np.sign(np.diff(rows[index][0])).tolist() if s]
        turns = sum(a != b for a, b in pairwise(steps))
        found = [int(bars.columns[name][index]) for name in BAR_COLUMNS[-5:-1]]
        assert found == [len(steps), turns, steps[0] if steps else 0, steps[-1] if steps else 0]


def columns_of_stream(seed: int) -> int:
    """Bars of a 1st, a 3rd, a 10th or a 40th of the stream's notional."""
    trades = stream(seed, huge=False)
    if not len(trades):
        return 0
    market = plain(trades)
    units = sum(market.notional) // int(np.random.default_rng(seed).choice([1, 3, 10, 40]))
    threshold = decimal(min(max(units, 1), 2**62 - 1) * market.unit)
    return check(trades, make_bars(trades, threshold=threshold))


def test_every_column_is_exact_arithmetic_rounded_a_few_times():
    assert sum(columns_of_stream(seed) for seed in range(250)) > 700


@pytest.mark.slow
def test_every_column_is_exact_arithmetic_on_many_streams(many_parts):
    assert sum(columns_of_stream(seed) for seed in range(250, 10_250)) > 28_000


@pytest.mark.parametrize("usual", [9_700_000, 2_700, 10**10])
@pytest.mark.parametrize("spread", [0, 1, 3, 50, 10_000, 40_000_000])
@pytest.mark.parametrize("count", [1, 2, 3, 1_000])
def test_columns_stay_exact_for_any_spread(usual, spread, count):
    draw = np.random.default_rng(spread + count)
    price = usual + draw.integers(0, spread + 1, count)
    price[-1], price[0] = usual, usual + spread
    trades = trades_of(BTC, range(count), price, draw.integers(0, 9, count), draw.random(count) < 0.5)
    assert check(trades, make_bars(trades, threshold=10**12)) == 1


@pytest.mark.parametrize("symbol", ["fine", "tinier"])
def test_a_bar_of_100_000_trades_over_a_wide_range_stays_exact(symbol, many_parts):
    draw = np.random.default_rng(5)
    own, usual = SYMBOLS[symbol]
    price = usual + draw.integers(0, 99_000_000, 100_000)
    trades = trades_of(own, range(100_000), price, draw.integers(0, 9, 100_000), draw.random(100_000) < 0.5)
    assert check(trades, make_bars([trades[:31], trades[31:]], "tick", threshold=10**6)) == 1


def test_amounts_that_times_the_steps_numerator_pass_64_bits_do_not_wrap():
    future = Symbol("MES", Decimal("0.25"), Decimal(1), multiplier=Decimal(5))
    trades = trades_of(future, [1, 2], [80_000, 80_001], [2**45, 2**44], [False, True])
    assert check(trades, make_bars(trades, threshold=10**12)) == 2


def test_a_rare_outlier_does_not_cancel():
    price = [10**7] * 99_999 + [10**7 + 1]
    bars = make_bars(trades_of(BTC, range(100_000), price, [1] * 100_000, [False] * 100_000), threshold=10**12)
    _, deviation, skewness, kurtosis = exact_moments_of_one_outlier(100_000)
    close_to(bars.partial.intra_bar_tick_price_volatility, [deviation / 100], rtol=1e-12)
    close_to(bars.partial.tick_price_skewness, [skewness], rtol=1e-10)
    close_to(bars.partial.tick_price_kurtosis, [kurtosis], rtol=1e-10)


def exact_moments_of_one_outlier(n: int) -> tuple[float, float, float, float]:
    p = 1 / n
    variance = p * (1 - p)
    return p, variance**0.5, (1 - 2 * p) / variance**0.5, (1 - 6 * variance) / variance


def test_a_flat_bar_has_zero_moments_and_its_price_as_mean():
    bars = make_bars(trades_of(BTC, [1, 2, 3], [968_203] * 3, [3, 5, 7], [True] * 3), threshold="145")
    assert len(bars) == 1
    for name in ("intra_bar_tick_price_volatility", "tick_price_skewness", "tick_price_kurtosis"):
        assert bars.columns[name].tolist() == [0.0]
    assert bars.tick_price_mean.tolist() == bars.vwap.tolist() == [9682.03]


def test_no_volume_means_close_as_vwap_and_no_imbalance():
    bars = make_bars(trades_of(BTC, [1, 2], [100, 200], [0, 0], [True, False]), threshold=1)
    part = bars.partial
    assert (part.vwap.tolist(), part.trade_imbalance.tolist()) == ([2.0], [0.0])
    assert torch.isnan(part.taker_buy_sell_ratio).all()


def test_no_side_means_no_taker_columns():
    trades = trades_of(BTC, [1, 2], [100, 200], [5, 5], [False, False], has_side=False)
    part = make_bars(trades, threshold=10).partial
    assert part.has_side is False
    for name in ("buy_volume", "sell_volume", "trade_imbalance", "taker_buy_sell_ratio"):
        assert torch.isnan(part.columns[name]).all()
    assert part.volume.tolist() == [0.01]


def test_contracts_scale_notional_and_not_vwap():
    future = Symbol("MES", Decimal("0.25"), Decimal(1), multiplier=Decimal(5))
    bars = make_bars(trades_of(future, [1, 2], [20_000, 20_001], [3, 1], [False] * 2), threshold=100_000)
    assert bars.dollar_volume.tolist() == [(20_000 * 3 + 20_001) * 0.25 * 5]
    assert bars.vwap.tolist() == [(20_000 * 3 + 20_001) / 4 / 4]
    inverse = Symbol("BTCUSD", Decimal("0.1"), Decimal(1), multiplier=Decimal(100), inverse=True)
    bars = make_bars(trades_of(inverse, [1, 2], [90_000, 90_001], [3, 1], [False] * 2), threshold=400)
    assert bars.dollar_volume.tolist() == [400.0]
    assert torch.isnan(bars.vwap).all()


def test_rows_of_a_frame_do_not_depend_on_how_many_are_made_together():
    trades = random_trades(11, 3_000)
    together = make_bars(trades, threshold=20_000)
    alone = [make_bars(together.trades(bar), threshold=20_000) for bar in range(0, len(together), 9)]
    for bar, one in zip(range(0, len(together), 9), alone, strict=True):
        assert len(one) == 1
        for name in BAR_COLUMNS:
            assert one.columns[name].numpy().tobytes() == together.columns[name][bar : bar + 1].numpy().tobytes(), name


def test_a_bar_beyond_63_bits_is_refused_and_not_wrapped():
    symbol = Symbol("BTC-USD", Decimal("0.01"), Decimal("1e-8"))
    trades = trades_of(symbol, range(4), [97_000 * 100] * 4, [3_000 * 10**8] * 4, [False] * 4)
    with pytest.raises(InputError, match=r"BTC-USD, short: volume and notional of a bar must .* or shorter bars"):
        make_bars(trades, "tick", threshold=4)
    assert make_bars(trades, "tick", threshold=3).dollar_volume.tolist() == [97_000 * 9_000.0]
