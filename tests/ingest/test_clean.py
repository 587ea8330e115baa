from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Symbol, Trades
from gpu_pipeline.ingest._clean import Rules, State, clean
from gpu_pipeline.ingest._raw import RawTrades, Units, joined

SYMBOL = Symbol("TEST", Decimal("0.01"), Decimal("0.001"))
DEFAULT = Rules()
T0 = 1_700_000_000_000_000_000
Row = tuple[int, int, str, str, bool]  # id, time, price, quantity, maker


def raw(rows: list[Row], file: str = "a.csv", first: int = 0, ids: bool = True, side: bool = True) -> RawTrades:
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 5
    floats = [torch.tensor([float(text) for text in columns[at]], dtype=torch.float64) for at in (2, 3)]
    return RawTrades(
        Path(file),
        first,
        torch.tensor(columns[1], dtype=torch.int64),
        floats[0],
        floats[1],
        trade_id=torch.tensor(columns[0], dtype=torch.int64) if ids else None,
        is_buyer_maker=torch.tensor(columns[4], dtype=torch.bool) if side else None,
    )


def folded(pieces: list[RawTrades], rules: Rules = DEFAULT, symbol: Symbol = SYMBOL) -> tuple[Trades, dict[str, Any]]:
    state, found = State(rules), []
    for piece in pieces:
        trades, state = clean(piece, symbol, state)
        found.append(trades)
        if state.done:
            break
    return Trades.concat(found), state.counts.to_json()


def cut(rows: list[Row], at: list[int], **kinds: Any) -> list[RawTrades]:
    edges = [0, *sorted({point for point in at if 0 < point < len(rows)}), len(rows)]
    return [raw(rows[a:b], first=a, **kinds) for a, b in pairwise(edges)]


def same(a: Trades, b: Trades) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in Trades.COLUMNS)


def plain_loop(rows: list[Row], rules: Rules) -> tuple[list[tuple[int, ...]], dict[str, int]]:
    """DESIGN 4.2 read aloud: rows of one file in order of ids, one at a time."""
    out: list[tuple[int, ...]] = []
    counts = dict.fromkeys(("rows_in", "duplicates", "before_start", "times_set_back", "dropped", "gaps", "missing"), 0)
    latest, last, kept = None, None, None
    for trade_id, time, price, quantity, maker in rows:
        if len(out) == rules.limit:
            break
        bad = Decimal(price) <= 0 or Decimal(quantity) < 0
        if not bad and last != trade_id and rules.end_ns is not None and max(time, latest or time) >= rules.end_ns:
            break
        counts["rows_in"] += 1
        if bad:
            counts["dropped"] += 1
            continue
        if last == trade_id:
            counts["duplicates"] += 1
            continue
        last = trade_id
        if latest is not None and time < latest:
            counts["times_set_back"] += 1
        latest = time if latest is None else max(time, latest)
        if rules.start_ns is not None and latest < rules.start_ns:
            counts["before_start"] += 1
            continue
        if kept is not None and trade_id > kept + 1:
            counts["gaps"] += 1
            counts["missing"] += trade_id - kept - 1
        kept = trade_id
        ticks, lots = int(Decimal(price) * 100), int(Decimal(quantity) * 1000)
        out.append((latest, ticks, lots, ticks * lots, trade_id, maker))
    return out, counts


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    """Rows of one file in order of ids, with gaps, repeats, steps back in time and impossible values."""
    rows: list[Row] = []
    trade_id, time = draw(st.integers(0, 100)), T0
    for _ in range(draw(st.integers(1, 40))):
        trade_id += draw(st.sampled_from([1, 1, 1, 2, 50]))
        time += draw(st.sampled_from([0, 0, 1, 5, 1_000, -3]))
        price = draw(st.sampled_from(["100", "100.01", "99.5", "7.25", "0", "-1"]))
        quantity = draw(st.sampled_from(["1", "0.001", "0", "12.345", "-2"]))
        rows += [(trade_id, time, price, quantity, draw(st.booleans()))] * draw(st.sampled_from([1, 1, 1, 1, 3]))
    return rows


@st.composite
def bounds(draw: st.DrawFn) -> Rules:
    optional = st.none() | st.integers(T0 - 5, T0 + 8_000)
    return Rules("drop", draw(optional), draw(optional), draw(st.none() | st.integers(1, 50)))


@settings(max_examples=200, deadline=None)
@given(histories(), bounds(), st.lists(st.integers(0, 100), max_size=10))
def test_any_cut_is_the_plain_loop(rows: list[Row], rules: Rules, at: list[int]) -> None:
    expected, counts = plain_loop(rows, rules)
    trades, report = folded(cut(rows, at), rules)
    columns = [getattr(trades, name).tolist() for name in Trades.COLUMNS]
    assert [tuple(row) for row in zip(*columns, strict=True)] == expected
    assert report["rows_out"] == len(expected) and report["rows_sorted"] == 0
    assert {name: report[name] for name in ("rows_in", "duplicates", "before_start", "times_set_back")} == {
        name: counts[name] for name in ("rows_in", "duplicates", "before_start", "times_set_back")
    }
    assert sum(report["dropped"].values()) == counts["dropped"]
    assert (report["id_gaps"]["count"], report["id_gaps"]["missing"]) == (counts["gaps"], counts["missing"])


@settings(max_examples=100, deadline=None)
@given(histories(), st.integers(0, 10**6))
def test_order_within_a_file_does_not_matter(rows: list[Row], seed: int) -> None:
    rows = [(row[0], T0 + row[0], *row[2:]) for row in rows]
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    rules = Rules("drop")
    trades, report = folded([raw(rows)], rules)
    again, other = folded([raw(shuffled)], rules)
    assert same(trades, again)
    good = [row[0] for row in shuffled if Decimal(row[2]) > 0 and Decimal(row[3]) >= 0]
    behind = sum(number < max(good[:at], default=-1) for at, number in enumerate(good))
    assert other["rows_sorted"] == behind
    assert {**other, "rows_sorted": 0} == report


@settings(max_examples=50, deadline=None)
@given(histories(), st.lists(st.integers(0, 100), max_size=5), st.integers(0, 10**6))
def test_without_ids_order_is_time_then_file(rows: list[Row], at: list[int], seed: int) -> None:
    rows = [row for row in rows if Decimal(row[2]) > 0 and Decimal(row[3]) >= 0]
    if not rows:
        return
    random.Random(seed).shuffle(rows)
    ordered = sorted(rows, key=lambda row: row[1])
    whole, report = folded([raw(rows, ids=False)])
    pieces, _ = folded(cut(ordered, at, ids=False))
    assert same(whole, pieces)
    assert whole.time_ns.tolist() == [row[1] for row in ordered]
    assert whole.trade_id.tolist() == list(range(len(rows)))
    assert report["duplicates"] == report["times_set_back"] == 0


def test_pieces_of_a_file_join_to_the_whole() -> None:
    rows: list[Row] = [(at, T0 + at, "1.5", "2", True) for at in range(10)]
    whole, parts = raw(rows), joined(cut(rows, [3, 7]))
    assert torch.equal(whole.price, parts.price) and torch.equal(whole.trade_id, parts.trade_id)
    units = [Units(torch.tensor([5]), Decimal("0.1")), Units(torch.tensor([25]), Decimal("0.01"))]
    mixed = joined([replace(raw(rows[:1]), price=price) for price in units]).price
    assert (mixed.units.tolist(), mixed.step) == ([50, 25], Decimal("0.01"))


def test_without_side() -> None:
    trades, _ = folded([raw([(1, T0, "1", "1", True)], side=False)])
    assert not trades.has_side and trades.is_buyer_maker.tolist() == [False]


def test_exact_notional_and_the_inverse_contract() -> None:
    rows: list[Row] = [(1, T0, "97000.12", "3", True), (2, T0, "0.01", "0", False)]
    trades, _ = folded([raw(rows)])
    assert trades.notional.tolist() == [9_700_012 * 3_000, 0]
    inverse = Symbol("BTCUSD_PERP", Decimal("0.01"), Decimal(1), multiplier=Decimal(100), inverse=True, quote="USD")
    coin, _ = folded([raw(rows)], symbol=inverse)
    assert coin.notional.tolist() == [3, 0]
    assert inverse.notional.exact(3) == 300


def test_quote_quantities_are_only_compared() -> None:
    rows: list[Row] = [(at, T0, "46222.60", "0.005", True) for at in range(4)]
    shown = torch.tensor([231.11, 231.113, 231.2, float("nan")], dtype=torch.float64)
    piece = replace(raw(rows), quote_quantity=shown)
    trades, report = folded([piece], Rules(quote_step=Decimal("0.01")))
    assert report["quote_mismatches"] == 1
    assert trades.notional.tolist() == [4622260 * 5] * 4
    assert folded([piece], Rules(quote_step=Decimal("0.001")))[1]["quote_mismatches"] == 2
    narrow = replace(piece, quote_quantity=torch.tensor([231.113] * 4, dtype=torch.float32))
    assert folded([narrow])[1]["quote_mismatches"] == 0


def test_coins_of_an_inverse_contract_are_compared() -> None:
    inverse = Symbol("BTCUSD_PERP", Decimal("0.1"), Decimal(1), multiplier=Decimal(100), inverse=True, quote="USD")
    rows: list[Row] = [(1, T0, "50000", "7", True), (2, T0, "50000", "7", True)]
    piece = replace(raw(rows), base_quantity=torch.tensor([0.014, 0.015], dtype=torch.float64))
    assert folded([piece], Rules(quote_step=Decimal("0.0001")), inverse)[1]["quote_mismatches"] == 1


GOOD: Row = (10, T0, "100", "1", True)


@pytest.mark.parametrize(
    ("change", "column", "message"),
    [
        (
            {"price": torch.tensor([1.0, float("nan")], dtype=torch.float64)},
            "price_missing",
            "a price must be a number (value nan)",
        ),
        (
            {"price": torch.tensor([1.0, float("inf")], dtype=torch.float64)},
            "price_infinite",
            "a price must be finite (value inf)",
        ),
        (
            {"price": torch.tensor([1.0, 0.0], dtype=torch.float64)},
            "price_not_positive",
            "a price must be above 0 (value 0.0)",
        ),
        (
            {"price": Units(torch.tensor([3, -5]), Decimal("0.01"))},
            "price_not_positive",
            "a price must be above 0 (value '-0.05')",
        ),
        (
            {"quantity": torch.tensor([1.0, float("nan")], dtype=torch.float64)},
            "quantity_missing",
            "a quantity must be a number (value nan)",
        ),
        (
            {"quantity": torch.tensor([1.0, -float("inf")], dtype=torch.float64)},
            "quantity_infinite",
            "a quantity must be finite (value -inf)",
        ),
        (
            {"quantity": torch.tensor([1.0, -0.5], dtype=torch.float64)},
            "quantity_negative",
            "a quantity must not be negative (value -0.5)",
        ),
        ({"trade_id": torch.tensor([10, -1])}, "trade_id_negative", "an id must not be negative (value -1)"),
        (
            {"nulls": {"trade_id": torch.tensor([False, True])}},
            "trade_id_missing",
            "a trade needs its id (value 'empty')",
        ),
        (
            {"nulls": {"price": torch.tensor([False, True])}},
            "price_missing",
            "a price must be a number (value 'empty')",
        ),
        (
            {"nulls": {"time_ns": torch.tensor([False, True])}, "shown": {"time_ns": "7 in a file of ms"}},
            "time_missing",
            "a trade needs a time in the file's unit (value '7 in a file of ms')",
        ),
        (
            {"nulls": {"is_buyer_maker": torch.tensor([False, True])}, "shown": {"is_buyer_maker": "hold"}},
            "side_missing",
            "a trade needs its side (buy or sell, true or false) (value 'hold')",
        ),
    ],
)
def test_bad_rows_are_named_or_dropped(change: dict[str, Any], column: str, message: str) -> None:
    piece = replace(raw([GOOD, (11, *GOOD[1:])], first=4), **change)
    with pytest.raises(InputError) as caught:
        folded([piece])
    assert str(caught.value) == f"a.csv, row 6: {message}; mend the file, or set on_bad_row: drop"
    trades, report = folded([piece], Rules("drop"))
    assert len(trades) == 1 and report["dropped"] == {column: 1} and report["rows_in"] == 2


def test_bad_rows_after_the_limit_do_not_count() -> None:
    rows = [GOOD, (11, T0, "-1", "1", True)]
    assert folded([raw(rows)], Rules(limit=1))[1]["rows_in"] == 1
    with pytest.raises(InputError, match=r"a\.csv, row 2: a price must be above 0"):
        folded([raw(rows)], Rules(limit=2))


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (
            [raw([GOOD, (9, T0 + 1, "1", "1", True)])],
            "a.csv, row 2: the trade id falls from 10 to 9 while time rises; "
            "the ids are no order: map trade_id to another column, or to null to order by time",
        ),
        (
            [raw([GOOD]), raw([(9, T0, "1", "1", True)], "b.csv")],
            "b.csv, row 1: begins at trade id 9, before a.csv ended at 10; give the files in order and without overlap",
        ),
        (
            [raw([GOOD], ids=False), raw([(9, T0 - 1, "1", "1", True)], "b.csv", ids=False)],
            f"b.csv, row 1: begins at time {T0 - 1}, before a.csv ended at {T0}; "
            "give the files in order and without overlap",
        ),
        (
            [raw([GOOD, (10, T0, "100", "2", True)])],
            "a.csv, row 2: trade id 10 is there twice with different quantity_lots (value '2000 after 1000'); "
            "remove the wrong one",
        ),
        (
            [raw([GOOD]), raw([(10, T0, "101", "1", True)], "b.csv")],
            "b.csv, row 1: trade id 10 is there twice with different price_ticks (value '10100 after 10000'); "
            "remove the wrong one",
        ),
        (
            [raw([GOOD]), raw([(10, T0 + 1, "100", "1", True)], "b.csv")],
            f"b.csv, row 1: trade id 10 is there twice with different time_ns (value '{T0 + 1} after {T0}'); "
            "remove the wrong one",
        ),
        (
            [raw([GOOD, (10, T0, "100", "1", False)])],
            "a.csv, row 2: trade id 10 is there twice with different is_buyer_maker (value 'False after True'); "
            "remove the wrong one",
        ),
        (
            [raw([GOOD]), raw([GOOD], "b.csv", ids=False)],
            "b.csv: lacks the column trade_id, unlike the files before it; "
            "read such files apart, or map the column to null",
        ),
        (
            [raw([GOOD], side=False), raw([GOOD], "b.csv")],
            "b.csv: has the column is_buyer_maker, unlike the files before it; "
            "read such files apart, or map the column to null",
        ),
        (
            [raw([GOOD, (11, T0, "1.005", "1", True)])],
            "a.csv, row 2: price is no multiple of the step 0.01 (value 1.005); "
            "mend the file, or set a finer price_tick under symbols",
        ),
        (
            [raw([GOOD, (11, T0, "1", "0.0005", True)])],
            "a.csv, row 2: quantity is no multiple of the step 0.001 (value 0.0005); "
            "mend the file, or set a finer quantity_lot under symbols",
        ),
        (
            [raw([GOOD, (11, T0, "10000000000", "10000000000", True)])],
            "a.csv, row 2: notional does not fit 64 bits (value '1000000000000 ticks x 10000000000000 lots'); "
            "set a coarser price_tick or quantity_lot under symbols, if the data allow it",
        ),
    ],
)
def test_each_rule_has_its_message(pieces: list[RawTrades], message: str) -> None:
    with pytest.raises(InputError) as caught:
        folded(pieces)
    assert str(caught.value) == message


def test_largest_notional_that_fits() -> None:
    symbol = Symbol("TEST", Decimal(1), Decimal(1))
    ticks, lots = 3_037_000_499, 3_037_000_500
    rows: list[Row] = [
        (1, T0, str(ticks), str(lots), True),
        (2, T0, "1", str(2**50), True),
        (3, T0, str(2**50), "1", True),
    ]
    trades, _ = folded([raw(rows)], symbol=symbol)
    assert trades.notional.tolist() == [ticks * lots, 2**50, 2**50]


def test_gaps_name_the_first_few() -> None:
    numbers = [1, 2, 5, 6, 10, 20, 30, 40, 50, 51]
    rows: list[Row] = [(number, T0, "1", "1", True) for number in numbers]
    for pieces in ([raw(rows)], cut(rows, [2, 4, 8])):
        gaps = folded(pieces)[1]["id_gaps"]
        assert gaps == {"count": 6, "missing": 41, "first": [[2, 5], [6, 10], [10, 20], [20, 30], [30, 40]]}


def test_equal_file_borders_are_repeats() -> None:
    trades, report = folded([raw([GOOD]), raw([GOOD, (11, T0, "1", "1", True)], "b.csv")])
    assert trades.trade_id.tolist() == [10, 11] and report["duplicates"] == 1
