"""Messages: what is read from them, and what is refused with the line and the field."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookSnapshots, Symbol, Trades
from gpu_pipeline.live.feed import cut, interleave, merge, read_lines

BTC = Symbol("BTCUSDT", Decimal("0.01"), Decimal("0.001"))
TRADE = {"type": "trade", "symbol": "BTCUSDT", "time": 5, "price": "97000.01", "quantity": 0.002}
BOOK = {"type": "book", "symbol": "BTCUSDT", "time": 7, "bids": [["97000", "1"], ["96999.5", 2]], "asks": [[97001, 1]]}


def read(*messages: Any, rows: int = 0) -> list[Any]:
    lines = [message if isinstance(message, str) else json.dumps(message) for message in messages]
    return list(read_lines(lines, {"BTCUSDT": BTC}, {"BTCUSDT": rows}))


def test_trades_are_exact_and_numbered() -> None:
    first, second = read(TRADE, "", TRADE | {"time": "2024-01-01T00:00:00Z", "is_buyer_maker": True, "id": 9}, rows=3)
    assert (int(first.price_ticks), int(first.quantity_lots), int(first.notional)) == (9_700_001, 2, 19_400_002)
    assert (first.first_row, second.first_row, int(first.trade_id), int(second.trade_id)) == (3, 4, 3, 9)
    assert (first.has_side, second.has_side, bool(second.is_buyer_maker)) == (False, True, True)
    assert int(second.time_ns) == 1_704_067_200_000_000_000


def test_a_book_is_bids_then_asks_known_at_its_time_or_later() -> None:
    early, late = read(BOOK, BOOK | {"known": 9})
    assert isinstance(early, BookSnapshots)
    assert early.price_ticks.tolist() == [9_700_000, 9_699_950, 9_700_100] and early.bid_count.tolist() == [2]
    assert early.quantity_lots.tolist() == [1000, 2000, 1000]
    assert (early.known_ns.tolist(), late.known_ns.tolist()) == ([7], [9])


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("{nonsense", r"line 1: is not JSON"),
        ({"type": "quote"}, r"line 1: 'type' must be trade, book or bar \(value 'quote'\)"),
        ([1], r"line 1: 'type' must be trade, book or bar"),
        ({"type": "trade", "symbol": "BTCUSDT"}, r"line 1: a trade needs the field 'time'"),
        (TRADE | {"symbol": "ETHUSDT"}, r"line 1: no symbol 'ETHUSDT' in this run; there are BTCUSDT"),
        (
            TRADE | {"price": "97000.001"},
            r"'price' is finer than the step 0\.01 of the training run \(value 97000\.001\)",
        ),
        (TRADE | {"price": 0}, r"'price' must be at least 0\.01"),
        (TRADE | {"price": "NaN"}, r"'price' is finer than the step"),
        (TRADE | {"quantity": -1}, r"'quantity' must be at least 0\.000"),
        (TRADE | {"time": "soon"}, r"'time' "),
        (BOOK | {"bids": [[1, 2, 3]]}, r"'bids' holds pairs of price and quantity"),
        (BOOK | {"asks": [["x", 1]]}, r"'asks price' is not a number \(value 'x'\)"),
    ],
)
def test_a_bad_message_is_told_with_its_line(message: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(message)


def trades(*times: int) -> Trades:
    made = read(*(TRADE | {"time": time} for time in times))
    return Trades.concat(made)


def test_books_come_before_the_trades_that_may_see_them() -> None:
    books = read(*(BOOK | {"time": time, "known": time} for time in (2, 5, 6, 30)))
    pieces = list(cut(trades(1, 3, 5, 8, 9), 2))
    order = [(type(piece).__name__, int(piece.time_ns[-1])) for piece in interleave(pieces, books)]
    names = {"t": "Trades", "b": "BookSnapshots"}
    wanted = [("b", 2), ("t", 3), ("b", 5), ("b", 6), ("t", 8), ("t", 9), ("b", 30)]
    assert order == [(names[kind], time) for kind, time in wanted]


def test_symbols_are_merged_by_time() -> None:
    merged = merge([cut(trades(1, 4, 9), 1), cut(trades(2, 3, 10), 1)])
    assert [int(piece.time_ns[-1]) for piece in merged] == [1, 2, 3, 4, 9, 10]
    assert torch.equal(torch.cat([piece.time_ns for piece in cut(trades(1, 4, 9), 2)]), torch.tensor([1, 4, 9]))
