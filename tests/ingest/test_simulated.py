"""The simulated market: the same everywhere, what it promises of its statistics, and clear refusals."""

from __future__ import annotations

import hashlib
import time
from decimal import Decimal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage, stats

from gpu_pipeline.core.config import SymbolOptions
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Trades
from gpu_pipeline.ingest import _market, simulated
from gpu_pipeline.ingest._market_rules import ACTIVITY
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest.simulated import Config, read, simulate

NS = 1_000_000_000
GOLDEN = "5e7b67a6b427c787d6b723ba2b2de0c136d4b061d402d3cc62fada6aa44e4df6"


def columns(config: Config, seed: int = 7, symbol: str = "BTCUSDT") -> dict[str, np.ndarray]:
    """The market's own account: what it traded and the touch that each trade met."""
    market = simulated._Market(config, ReadRequest("trades", symbol, seed=seed))
    made = np.concatenate([piece.columns for piece in market.pieces()], axis=1)
    return dict(zip(("time", "price", "lots", "sells", "bid", "ask", "flow"), made, strict=True))


def moves(market: dict[str, np.ndarray]) -> np.ndarray:
    """[N-1] change of twice the mid before each trade but the first."""
    return np.diff(market["bid"] + market["ask"])


def within(observed: float, expected: float, error: float, times: float = 4.5) -> bool:
    return abs(observed - expected) <= times * error


def test_words_are_splitmix64():
    # First outputs for the seed 1234567, as published with the reference C code's ports.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [int(_market.word(np.uint64(1234567), counter)) for counter in range(1, 5)] == published


def test_a_seed_gives_the_same_market_on_every_machine():
    market = simulate(Config(trades=5000, edge=Decimal("0.3"), common=Decimal("0.2")), "BTCUSDT", 7)
    book = market.snapshots
    tables = [getattr(market.trades, name) for name in Trades.COLUMNS]
    tables += [market.oracle_score, book.time_ns, book.offsets, book.bid_count, book.price_ticks, book.quantity_lots]
    digest = hashlib.sha256(b"".join(table.numpy().tobytes() for table in tables)).hexdigest()
    assert digest == GOLDEN


@pytest.mark.parametrize("rows", [1, 7, 997, 3000])
def test_pieces_of_any_size_are_the_same_market(rows):
    config = Config(trades=3000, edge=Decimal("0.5"), common=Decimal("0.3"), trades_per_day=1000)
    market = simulated._Market(config, ReadRequest("trades", "BTCUSDT"))
    whole = np.concatenate([piece.columns for piece in market.pieces()], axis=1)
    cut = list(_market.pieces(market.rules, 3000, 2**62, rows))
    assert [piece.first_row for piece in cut] == list(range(0, 3000, rows))
    np.testing.assert_array_equal(np.concatenate([piece.columns for piece in cut], axis=1), whole)


def test_read_gives_what_simulate_gives_and_can_be_read_again():
    config = Config(trades=2000)
    whole = simulate(config, "ETHUSDT", 3).trades
    for _ in range(2):
        (part,) = read(config, ReadRequest("trades", "ETHUSDT", seed=3))
        assert part.symbol == whole.symbol
        assert all(torch.equal(getattr(part, name), getattr(whole, name)) for name in Trades.COLUMNS)


def test_symbols_and_seeds_give_different_markets():
    config = Config(trades=500)
    made = [simulate(config, symbol, seed).trades.time_ns for symbol, seed in (("A", 1), ("B", 1), ("A", 2))]
    assert not any(torch.equal(made[a], made[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    own = simulate(Config(trades=500, seed=2), "A", 1).trades.time_ns
    assert torch.equal(own, made[2])


def test_trades_are_well_formed():
    trades = simulate(Config(trades=20_000), "BTCUSDT", 1).trades
    assert bool((trades.time_ns.diff() >= 0).all()) and bool((trades.time_ns % 1_000_000 == 0).all())
    assert trades.trade_id.tolist() == list(range(1, 20_001))
    assert bool((trades.price_ticks > 0).all()) and bool((trades.quantity_lots > 0).all())
    assert torch.equal(trades.notional, trades.price_ticks * trades.quantity_lots)
    assert trades.is_buyer_maker.dtype == torch.bool and trades.has_side
    assert int(trades.time_ns[0]) >= 1_704_067_200 * NS


def test_scales_of_the_symbol_come_before_the_sources_own():
    options = SymbolOptions(price_tick=Decimal("0.01"), inverse=True, fee_bps=4)
    (trades,) = read(Config(trades=100), ReadRequest("trades", "X", options))
    assert (trades.symbol.price_tick, trades.symbol.quantity_lot) == (Decimal("0.01"), Decimal("0.001"))
    assert trades.symbol.fee_bps == 4
    assert torch.equal(trades.notional, trades.quantity_lots)
    assert 4_190_000 < int(trades.price_ticks[0]) < 4_210_000


def test_each_symbol_may_have_its_own_price():
    config = Config(trades=10, price={"A": 100, "B": 2000})
    assert float(simulate(config, "B", 1).trades.to_pandas().price.iloc[0]) == pytest.approx(2000, rel=0.01)
    with pytest.raises(InputError, match=r"ingest.trades.price: no start price for C; there are A, B"):
        simulate(config, "C", 1)


def test_days_bounds_and_limit():
    config = Config(days=Decimal("0.5"), trades_per_day=20_000)
    (half,) = read(config, ReadRequest("trades", "A"))
    opens, day = 1_704_067_200 * NS, 86_400 * NS
    assert opens <= int(half.time_ns[0]) and opens + day // 2 - 60 * NS < int(half.time_ns[-1]) < opens + day // 2
    (limited,) = read(config, ReadRequest("trades", "A", limit=77))
    assert torch.equal(limited.time_ns, half.time_ns[:77])
    end = int(half.time_ns[100])
    (ended,) = read(config, ReadRequest("trades", "A", end_ns=end))
    assert torch.equal(ended.time_ns, half.time_ns[half.time_ns < end])
    (later,) = read(config, ReadRequest("trades", "A", start_ns=opens + 10 * day))
    assert opens + 10 * day <= int(later.time_ns[0]) < opens + 10 * day + 3600 * NS


def test_buys_print_at_the_ask_and_sells_at_the_bid():
    market = columns(Config(trades=50_000))
    np.testing.assert_array_equal(market["price"], np.where(market["sells"] == 1, market["bid"], market["ask"]))
    spread = market["ask"] - market["bid"]
    assert set(np.unique(spread % 2)) == {1} and spread.min() == 1
    assert spread.max() > 1


def test_spread_opens_around_the_mid():
    market = columns(Config(trades=200_000, move_probability=1, regimes=0))
    wider = np.diff(market["ask"] - market["bid"])
    assert abs(stats.pearsonr(moves(market), wider).statistic) < 4.5 / np.sqrt(len(wider))


def test_quantities_have_the_documented_pareto_tail():
    lots = columns(Config(trades=1_000_000, regimes=0, median_quantity=1, tail_exponent=Decimal("1.5")))["lots"]
    assert np.median(lots) == pytest.approx(1000, rel=0.01)
    largest = np.sort(lots)[-20_001:]
    hill = 1 / np.mean(np.log(largest[1:] / largest[0]))
    assert hill == pytest.approx(1.5, abs=0.05)


def test_exponential_draws():
    table = simulated._Market(Config(), ReadRequest("trades", "A")).rules.exponential
    words = [np.uint64(_market.word(np.uint64(5), counter)) for counter in range(20_000)]
    drawn = [_market.exponential(table, word) / _market.ONE for word in words]
    assert stats.kstest(drawn, "expon").pvalue > 1e-4


def test_arrivals_are_clustered():
    plain = {"regimes": 0, "same_time": 0, "clock": "1us", "days": 2, "trades_per_day": 400_000}
    waits = np.diff(columns(Config(**plain))["time"]).astype(float)
    fresh = waits / ndimage.uniform_filter1d(waits, 20_001)

    def correlation(lag):
        return np.corrcoef(fresh[:-lag], fresh[lag:])[0, 1]

    assert correlation(1) > 0.2 and correlation(20) > 0.1
    assert correlation(5000) < 0.05
    assert waits.std() > 1.2 * waits.mean()


def test_days_have_their_hours():
    times = columns(Config(days=8, trades_per_day=60_000, regimes=0))["time"]
    counted = np.bincount(times // (3600 * NS) % 24, minlength=24)
    # Activity is interpolated between the full hours.
    expected = (np.array(ACTIVITY) + np.roll(ACTIVITY, -1)) / 2
    assert stats.pearsonr(counted, expected).statistic > 0.95
    assert len(times) / 8 == pytest.approx(60_000, rel=0.03)


def test_same_time_share():
    waits = np.diff(columns(Config(trades=100_000, clock="1ns", same_time=Decimal("0.3")))["time"])
    assert within((waits == 0).mean(), 0.3, np.sqrt(0.3 * 0.7 / len(waits)))


@pytest.mark.parametrize("tick", ["0.1", "1", "5"])
def test_volatility_is_what_was_asked_for_fine_and_coarse_ticks(tick):
    config = Config(trades=1_000_000, regimes=0, volatility=Decimal("0.5"), price_tick=Decimal(tick))
    change = moves(columns(config)) / 2 * float(tick)
    annual = np.sqrt((change.astype(float) ** 2).mean() * 1_000_000 * 365) / 42_000
    assert annual == pytest.approx(0.5, rel=0.06)


def test_volatility_turns_and_persists():
    def persistence(regimes):
        change = moves(columns(Config(trades=1_000_000, regimes=regimes, trades_per_day=300_000))).astype(float)
        calm = (change[: len(change) // 500 * 500] ** 2).reshape(-1, 500).mean(1)
        return np.corrcoef(np.log(calm[:-1]), np.log(calm[1:]))[0, 1], np.log(calm).std()

    still, turning = persistence(Decimal(0)), persistence(Decimal("0.5"))
    assert abs(still[0]) < 0.1
    assert turning[0] > 0.6 and turning[1] > 2 * still[1]


def fair(coins: np.ndarray) -> bool:
    return within(coins.mean(), 0.5, 0.5 / np.sqrt(len(coins)))


@pytest.mark.parametrize("seed", range(2))
def test_null_market_tosses_fair_and_independent_coins(seed):
    market = columns(Config(trades=1_000_000, common=Decimal("0.3") if seed % 2 else 0), seed)
    change = moves(market)
    moved = np.flatnonzero(change)
    up, buys = change[moved] > 0, market["sells"] == 0
    flow = market["flow"]
    assert fair(up) and fair(buys)
    for lag in (1, 2, 3, 10, 100):
        assert fair(up[lag:] == up[:-lag]), f"moves repeat after {lag}"
        assert fair(buys[lag:] == buys[:-lag]), f"sides repeat after {lag}"
        assert fair(up[lag:] == buys[moved[lag:] + 1 - lag]), f"sides tell moves after {lag}"
        assert fair(buys[moved[:-lag] + lag] == up[:-lag]), f"moves tell sides after {lag}"
    assert fair(up[flow[moved] > 0]) and fair(buys[1:][flow[:-1] > 0])
    sizes = abs(change[moved])
    waits = np.diff(market["time"])[moved]
    for known in (
        sizes > np.median(sizes),
        waits > 0,
        market["lots"][moved] > 100,
        (market["ask"] - market["bid"])[moved] > 1,
    ):
        assert fair(up[known])
    assert within(change.mean(), 0, change.std() / np.sqrt(len(change)))


def test_edge_leans_moves_exactly_with_past_flow():
    market = columns(Config(trades=2_000_000, edge=Decimal("0.6"), flow_memory=50))
    change = moves(market)
    moved = np.flatnonzero(change)
    flow = market["flow"][moved] / _market.FLOW_ONE
    up = change[moved] > 0
    for low in np.linspace(-0.8, 0.6, 8):
        bucket = (flow >= low) & (flow < low + 0.2)
        expected = (1 + 0.6 * flow[bucket].mean()) / 2
        assert within(up[bucket].mean(), expected, 0.5 / np.sqrt(bucket.sum()))
    assert fair(market["sells"] == 0)


def test_oracle_score_is_the_stated_flow():
    config = Config(trades=3000, edge=Decimal("0.2"), flow_memory=40)
    market = simulate(config, "BTCUSDT", 5)
    mean_lots = float(config.median_quantity / config.quantity_lot) * 2 ** (-1 / 1.5) * 1.5 / 0.5
    flow, expected = 0.0, []
    for lots, sells in zip(market.trades.quantity_lots.tolist(), market.trades.is_buyer_maker.tolist(), strict=True):
        weight = min(1.0, lots / (40 * mean_lots))
        flow += weight * ((-1 if sells else 1) - flow)
        expected.append(flow)
    np.testing.assert_allclose(market.oracle_score.numpy(), expected, atol=2e-3)


def minute_changes(config: Config, symbol: str) -> np.ndarray:
    market = columns(config, 7, symbol)
    grid = np.arange(1_704_067_200 * NS, int(market["time"][-1]), 60 * NS)[10:]
    last = np.searchsorted(market["time"], grid, side="right") - 1
    return np.diff((market["bid"] + market["ask"])[last])


@pytest.mark.parametrize("common", [0.0, 0.6])
def test_symbols_share_the_common_part_of_their_variance(common):
    config = Config(days=3, trades_per_day=200_000, regimes=0, common=Decimal(str(common)))
    one, other = (minute_changes(config, symbol) for symbol in ("A", "B"))
    rows = min(len(one), len(other))
    assert np.corrcoef(one[:rows], other[:rows])[0, 1] == pytest.approx(common, abs=0.1)


def test_a_million_trades_a_second():
    config = Config(trades=2_000_000)
    sum(len(part) for part in read(Config(trades=1000), ReadRequest("trades", "A")))
    started = time.process_time()
    made = sum(len(part) for part in read(config, ReadRequest("trades", "A")))
    assert made / (time.process_time() - started) > 1_000_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"days": 1, "trades": 5}, "give 'days' or 'trades', not both"),
        ({"spread_ticks": 2}, r"spread_ticks must be odd, so that the mid keeps its grid \(value 2\)"),
        ({"edge": 1.5}, "less than or equal to 1"),
        ({"tail_exponent": 1}, "greater than 1"),
        ({"trades_per_day": 10}, "greater than or equal to 1000"),
        ({"levels": 3}, "Extra inputs are not permitted"),
    ],
)
def test_options_that_make_no_market(options, message):
    with pytest.raises(ValidationError, match=message):
        Config(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"price": 0.05}, r"ingest.trades.price: BTCUSDT must open at one tick or more \(value 0.5 ticks\)"),
        (
            {"price_tick": 1e-6},
            r"simulated market of BTCUSDT: moves of \d+ ticks exceed 20000; use a coarser price_tick",
        ),
        ({"quantity_lot": 1e-12}, r"too many for 64 bits; use a coarser quantity_lot"),
        (
            {"price": 20, "price_tick": 1, "volatility": 300},
            r"the price fell to zero at trade [\d,]+; lower the volatility",
        ),
    ],
)
def test_scales_that_make_no_market(options, message):
    with pytest.raises(InputError, match=message):
        simulate(Config(trades=2_000_000, **options), book=False)
