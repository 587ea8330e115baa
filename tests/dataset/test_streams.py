"""Streams before scaling: book columns by hand, levels, warm-up, latency, errors."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gpu_pipeline.core.config import StreamSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.dataset.streams import book_rows, book_values, feature_rows
from tests.dataset.market import S, depth, features

BARS = StreamSection.model_validate({"from": "features", "window": 4})
BOOK = StreamSection.model_validate({"from": "book", "window": 4})


def test_book_columns_by_hand():
    # Bid 99 x 7 lots and 97 x 0, ask 101 x 1 and 105 x 20: mid 100.
    row = torch.tensor([[[99, 7, 101, 1], [97, 0, 105, 20]]], dtype=torch.float64)
    here = torch.tensor([True])
    wanted = [-1, math.log(8), 1, math.log(2), -3, 0, 5, math.log(21)]
    np.testing.assert_allclose(book_values(row, here, "ticks")[0], wanted, rtol=1e-15)
    bps = book_values(row, here, "bps")[0]
    np.testing.assert_allclose(bps[[0, 2, 4, 6]], [-100, 100, -300, 500], rtol=1e-15)
    np.testing.assert_array_equal(bps[[1, 3, 5, 7]], book_values(row, here, "ticks")[0][[1, 3, 5, 7]])


def test_quantities_stay_lots_where_that_is_asked_for():
    row = torch.tensor([[[99, 7, 101, 1], [97, 0, 105, 20]]], dtype=torch.float64).repeat(2, 1, 1)
    plain = book_values(row, torch.tensor([True, False]), "ticks", "lots")
    assert plain[0].tolist() == [-1, 7, 1, 1, -3, 0, 5, 20]
    assert plain[1, [1, 3, 5, 7]].tolist() == [0, 0, 0, 0]


def test_a_missing_book_row_has_no_prices_and_no_quantity():
    gone = book_values(torch.full((1, 2, 4), 5.0, dtype=torch.float64), torch.tensor([False]), "ticks")
    assert gone[0, [0, 2, 4, 6]].isnan().all() and (gone[0, [1, 3, 5, 7]] == 0).all()


def test_book_row_is_missing_without_a_touch_on_both_sides_or_where_not_valid():
    made = depth("AAA", 70 * S)
    values, valid = made.depth.clone(), made.valid.clone()
    values[2, 0, 3] = 0
    valid[5] = False
    rows = book_rows("book", BOOK, [replace(made, depth=values, valid=valid)])
    assert rows.missing.nonzero().squeeze(1).tolist() == [2, 5]
    assert rows.columns[:5] == ("bid_price_0", "bid_quantity_0", "ask_price_0", "ask_quantity_0", "bid_price_1")


def test_levels_are_left_out_unless_listed():
    made = features("AAA", 50)
    assert "sma_db_s" not in feature_rows("bars", BARS, [made]).columns
    assert feature_rows("bars", BARS, [made]).dropped_levels == ("sma_db_s",)
    assert feature_rows("bars", BARS, [made], listed=True).columns == made.names


def test_first_row_of_windows_is_the_end_of_the_short_warm_up_of_each_symbol():
    made = [features("AAA", 30, warmup=3), features("BBB", 40, warmup=7)]
    rows = feature_rows("bars", BARS, made)
    assert rows.offsets == (0, 30, 70) and rows.first == (3, 37)
    assert rows.symbol_id.tolist() == [0] * 30 + [1] * 40
    assert rows.ready.tolist() == [False] * 3 + [True] * 27 + [False] * 7 + [True] * 33


def test_without_short_columns_all_must_be_finite():
    made = features("AAA", 30, warmup=2)
    other = replace(made, names=("a_tb_1min", "b_tb_1min"), values=made.values[:, [1, 2]], levels=())
    assert feature_rows("bars", BARS, [other]).first == (8,)


def test_latency_delays_what_is_known_and_nothing_else():
    made = features("AAA", 30)
    late = feature_rows(
        "bars", StreamSection.model_validate({"from": "features", "window": 4, "latency": "2s"}), [made]
    )
    assert torch.equal(late.known_ns, made.known_ns + 2 * S) and torch.equal(late.time_ns, made.time_ns)


def test_errors():
    one, other = features("AAA", 30), features("BBB", 30)
    with pytest.raises(InputError, match=r"BBB and AAA differ in their columns \(value \['flat_db_l', 'x'\]\)"):
        feature_rows("bars", BARS, [one, replace(other, names=(*one.names[:4], "x", one.names[5]))])
    with pytest.raises(InputError, match=r"streams.bars: every feature is a level; add returns or ratios"):
        feature_rows("bars", BARS, [replace(one, levels=one.names)])
    back = one.known_ns.clone()
    back[9] = back[8] - 1
    with pytest.raises(InputError, match=r"streams.bars, row 9: known_ns steps back"):
        feature_rows("bars", BARS, [replace(one, known_ns=back)])
    with pytest.raises(InputError, match=r"differ in book levels \(value \[3, 4\]\)"):
        book_rows("book", BOOK, [depth("AAA", 9 * S), depth("BBB", 9 * S, levels=4)])


def test_a_symbol_may_start_before_the_one_before_it_ends():
    rows = feature_rows("bars", BARS, [features("AAA", 30), features("BBB", 30)])
    assert rows.known_ns[29] > rows.known_ns[30]
