"""The simulated book agrees with the simulated trades, found by plain loops over both."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
import torch

from gpu_pipeline.core.schema import BookSnapshots
from gpu_pipeline.ingest import _market_book, simulated
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest.simulated import Config, read, simulate

STEP = 10_000_000_000


def sides(book: BookSnapshots, place: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Bids and asks of one snapshot as (price, quantity), best first."""
    start, end = int(book.offsets[place]), int(book.offsets[place + 1])
    rows = list(zip(book.price_ticks[start:end].tolist(), book.quantity_lots[start:end].tolist(), strict=True))
    cut = int(book.bid_count[place])
    return rows[:cut], rows[cut:]


@pytest.mark.parametrize(
    "options",
    [
        {"trades": 20_000},
        {"trades": 3000, "trades_per_day": 2000, "common": Decimal("0.4"), "edge": Decimal("0.5")},
        {"trades": 5000, "clock": "1s", "same_time": Decimal("0.8"), "book_step": "1s"},
        {"trades": 20_000, "spread_ticks": 9, "seed": 3},
    ],
)
def test_touch_is_that_of_the_last_trade(options):
    market = simulate(Config(**options))
    trades, book = market.trades, market.snapshots
    times, prices, sells = trades.time_ns.tolist(), trades.price_ticks.tolist(), trades.is_buyer_maker.tolist()
    step = 1_000_000_000 if "book_step" in options else STEP
    opens = 1_704_067_200_000_000_000
    assert book.time_ns.tolist() == [time for time in range(opens, times[-1] + 1, step) if time >= times[0]]
    last = 0
    for place, time in enumerate(book.time_ns.tolist()):
        while last + 1 < len(times) and times[last + 1] <= time:
            last += 1
        bids, asks = sides(book, place)
        assert prices[last] == (bids[0][0] if sells[last] else asks[0][0])
        assert bids[0][0] < asks[0][0]


def test_touch_is_the_one_in_force_on_both_sides():
    config = Config(trades=50_000, trades_per_day=100_000, spread_ticks=3)
    market = simulated._Market(config, ReadRequest("trades", "BTCUSDT"))
    columns = np.concatenate([piece.columns for piece in market.pieces()], axis=1)
    book = simulate(config).snapshots
    for place, time in enumerate(book.time_ns.tolist()):
        last = np.flatnonzero(columns[0] <= time)[-1]
        bids, asks = sides(book, place)
        assert (bids[0][0], asks[0][0]) == (columns[4, last], columns[5, last])


def test_levels_are_ordered_positive_and_some_are_missing():
    book = simulate(Config(trades=20_000, book_levels=30)).snapshots
    steps = []
    for place in range(len(book)):
        bids, asks = sides(book, place)
        assert len(bids) == len(asks) == 30
        assert all(quantity > 0 for _, quantity in bids + asks)
        falls, rises = np.diff([price for price, _ in bids]), np.diff([price for price, _ in asks])
        assert (falls < 0).all() and (rises > 0).all()
        steps += [*-falls, *rises]
    assert 0.05 < np.mean(np.array(steps) > 1) < 0.2
    assert torch.equal(book.known_ns, book.time_ns)
    assert book.quantity_lots.double().mean() == pytest.approx(500, rel=0.03)


def test_prices_of_levels_stay_above_zero():
    book = simulate(Config(trades=500, price=20, price_tick=1, book_levels=100)).snapshots
    assert int(book.price_ticks.min()) >= 1
    assert bool((book.bid_count <= 25).all()) and len(book) > 2


@pytest.mark.parametrize("rows", [1, 13, 1000])
def test_pieces_of_any_size_give_the_same_book(rows, monkeypatch):
    monkeypatch.setattr(_market_book, "SNAPSHOTS_AT_ONCE", 5)
    config = Config(trades=2000, trades_per_day=20_000, clock="1s", book_levels=5)
    whole = simulate(config).snapshots
    market = simulated._Market(config, ReadRequest("book", "BTCUSDT"))
    pieces = simulated._market.pieces(market.rules, 2000, 2**62, rows)
    parts = list(market.snapshots(pieces))
    assert all(len(part) <= 5 for part in parts)
    joined = simulated._joined(parts, market)
    for name in ("time_ns", "known_ns", "offsets", "bid_count", "price_ticks", "quantity_lots"):
        assert torch.equal(getattr(joined, name), getattr(whole, name)), name


def test_a_stream_of_another_name_is_the_book_of_the_same_market():
    config = Config(trades=3000, book_levels=4)
    (book,) = read(config, ReadRequest("book", "BTCUSDT", seed=9))
    whole = simulate(config, "BTCUSDT", 9).snapshots
    assert torch.equal(book.price_ticks, whole.price_ticks) and torch.equal(book.time_ns, whole.time_ns)


def test_a_market_shorter_than_a_step_has_an_empty_book():
    market = simulate(Config(trades=2, book_step="1hour"))
    assert len(market.snapshots) == 0 and market.snapshots.offsets.tolist() == [0]
    assert simulate(Config(trades=2), book=False).snapshots is None
