"""Volume bars against plain loops in Python's integers."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.bars import volume
from gpu_pipeline.bars._fold import state_from_json, state_to_json
from gpu_pipeline.bars._make import make_bars, make_resolutions
from gpu_pipeline.core.errors import ConfigError, InputError
from gpu_pipeline.core.schema import Symbol
from tests.bars.market import BTC, random_trades, real_day, trades_of


def by_hand(lots: list[int], threshold: int, on_close: str) -> list[int]:
    """Last rows of bars: sums that restart (reset), or floors that grow (carry)."""
    last_rows, total, before = [], 0, 0
    for row, amount in enumerate(lots):
        total += amount
        if on_close == "reset" and total - before >= threshold:
            last_rows.append(row)
            before = total
        elif on_close == "carry" and total // threshold > (total - amount) // threshold:
            last_rows.append(row)
    return last_rows


def of_lots(lots: list[int]):
    return trades_of(BTC, range(len(lots)), [100] * len(lots), lots, [True] * len(lots))


@pytest.mark.parametrize("on_close", ["reset", "carry"])
@pytest.mark.parametrize(("threshold", "lots"), [("0.001", 1), ("3", 3_000), ("7.7777", 7_778), ("1e4", 10_000_000)])
def test_bars_end_where_the_plain_loop_ends_them(on_close, threshold, lots):
    trades = random_trades(4, 5_000)
    bars = make_bars(trades, "volume", threshold=Decimal(threshold), on_close=on_close)
    expected = by_hand(trades.quantity_lots.tolist(), lots, on_close)
    assert bars.last_trade_row.tolist() == expected
    assert bars.first_trade_row.tolist() == [0, *(row + 1 for row in expected)][: len(expected)]


def test_carry_takes_the_overshoot_along_and_reset_drops_it():
    trades = of_lots([6, 6, 6, 6, 6, 350, 0, 9])
    ends = {rule: make_bars(trades, "volume", threshold="0.01", on_close=rule) for rule in ("reset", "carry")}
    assert ends["reset"].last_trade_row.tolist() == [1, 3, 5]
    assert ends["carry"].last_trade_row.tolist() == [1, 3, 4, 5]
    assert ends["reset"].volume.tolist() == [0.012, 0.012, 0.356]
    assert ends["reset"].partial.num_ticks.tolist() == [2]


@settings(max_examples=100, deadline=None)
@given(
    lots=st.lists(st.sampled_from([0, 1, 5, 9, 10, 11, 350, 2**40]), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    on_close=st.sampled_from(["reset", "carry"]),
)
def test_any_chunking_with_the_state_kept_as_text_gives_the_same_bars(lots, cuts, on_close):
    trades, config = of_lots(lots), volume.Config(threshold="0.01", on_close=on_close)
    ends, state = [], None
    for begin, stop in pairwise([0, *sorted(min(cut, len(lots)) for cut in cuts), len(lots)]):
        found, state = volume.step(trades[begin:stop], config, state)
        ends += [begin + end - 1 for end in found.tolist()]
        state = state_from_json(state_to_json(state))
    assert ends == by_hand(lots, 10, on_close)


@pytest.mark.parametrize(("threshold", "lot", "lots"), [("10", "0.001", 10_000), ("10", "0.3", 34), ("1e-9", "1", 1)])
def test_the_threshold_in_lots_is_the_exact_ceiling(threshold, lot, lots):
    symbol = Symbol("X", Decimal("0.01"), Decimal(lot), multiplier=Decimal(100))
    assert volume.threshold_lots(volume.Config(threshold=threshold), symbol) == lots


def test_a_threshold_beyond_the_integers_is_one_line():
    trades = trades_of(Symbol("X", Decimal(1), Decimal("1e-18")), [1], [1], [1], [True])
    with pytest.raises(
        InputError, match=r"bars.threshold: 5 of X are 5,000,.* steps of 1E-18; .* coarser quantity_lot"
    ):
        make_bars(trades, "volume", threshold=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "make_bars: threshold: Field required"),
        ({"threshold": -1}, "make_bars: threshold: Input should be greater than 0"),
        ({"threshold": 5, "on_close": "carri"}, "did you mean 'carry'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make_bars(random_trades(0, 10), "volume", **options)


def test_a_resolution_may_have_a_threshold_of_its_own():
    trades = random_trades(6, 3_000)
    bars = make_resolutions(trades, "volume", threshold=2, resolutions={"long": {"threshold": 40}})
    assert [table.name for table in bars.values()] == ["volume_2", "volume_40_long"]
    assert bars["long"].last_trade_row.tolist() == by_hand(trades.quantity_lots.tolist(), 40_000, "reset")


@pytest.mark.parametrize("on_close", ["reset", "carry"])
def test_the_real_day(market_data: Path, on_close):
    trades = real_day(market_data)
    bars = make_bars(trades, "volume", threshold=100, on_close=on_close)
    assert bars.last_trade_row.tolist() == by_hand(trades.quantity_lots.tolist(), 100_000, on_close)
    assert float(bars.volume.sum() + bars.partial.volume.sum()) == pytest.approx(58_419.475, rel=1e-12)
    assert int(bars.num_ticks.sum() + bars.partial.num_ticks.sum()) == 137_988
