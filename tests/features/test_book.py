"""Features of the book against numpy loops written from their definitions, and what a bar may see of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Depth
from gpu_pipeline.features._book import BookRows
from gpu_pipeline.features._make import make_features
from gpu_pipeline.features._set import read_set
from gpu_pipeline.features.engine import Engine
from tests.features.factory import START, depth_of, market, plain_bars, random_tape

SET = {
    "spread_bps": {},
    "microprice": {},
    "microprice_distance": {},
    "queue_imbalance": {"windows": [1, 5]},
    "book_order_flow": {"windows": [1, 6]},
    "book_level_flow": {"windows": [[3, 4]]},
    "mid_return": {"windows": [2]},
    "depth_within": {"windows": [[5, 10]]},
    "depth_imbalance": {"windows": [[5, 10]]},
    "book_slope": {"windows": [8]},
    "sweep_cost": {"windows": [[2, 6]]},
}


def own_rows(depth: Depth) -> dict[str, np.ndarray]:
    """Every feature on the grid itself."""
    engine = Engine(read_set(SET), ("short", "book"))
    values = engine.own_rows("book", BookRows.of(depth)).numpy()
    return {name: values[:, index] for index, name in enumerate(engine.names)}


def oracle(depth: Depth) -> dict[str, list[float]]:
    """The definitions, cell by cell."""
    cells = depth.depth.numpy() * np.array([0.01, 0.001, 0.01, 0.001])
    found: dict[str, list[float]] = {}

    def put(name: str, value: float) -> None:
        found.setdefault(name + "_ob", []).append(value)

    events = {level: [math.nan] for level in (1, 3)}
    for row in range(len(cells)):
        if not depth.valid[row]:
            cells[row] = math.nan
        if row:
            for level, made in events.items():
                (b, qb, a, qa), (ob, oqb, oa, oqa) = cells[row, level - 1], cells[row - 1, level - 1]
                e = qb * (b >= ob) - oqb * (b <= ob) - qa * (a <= oa) + oqa * (a >= oa)
                made.append(e if np.isfinite([b, ob]).all() else math.nan)
        (bid, bids, ask, asks), mid = cells[row, 0], (cells[row, 0, 0] + cells[row, 0, 2]) / 2
        micro = (bid * asks + ask * bids) / (bids + asks) if bids + asks else mid
        put("spread_bps", (ask - bid) / mid * 1e4)
        put("microprice", micro)
        put("microprice_distance", (micro / mid - 1) * 1e4)
        for n in (1, 5):
            b, a = cells[row, :n, 1].sum(), cells[row, :n, 3].sum()
            put(f"queue_imbalance_{n}", (b - a) / (b + a) if b + a else 0.0)
        for name, level, window in (
            ("book_order_flow_1", 1, 1),
            ("book_order_flow_6", 1, 6),
            ("book_level_flow_3_4", 3, 4),
        ):
            some = slice(row - window + 1, row + 1)
            size = cells[some, level - 1][:, [1, 3]].mean() if row >= window else math.nan
            put(name, sum(events[level][some]) / size if size else 0.0)
        old = cells[row - 2, 0, [0, 2]].mean() if row >= 2 else math.nan
        put("mid_return_2", math.log(mid / old))
        near = {side: abs(cells[row, :10, side] / mid - 1) * 1e4 <= 5 for side in (0, 2)}
        inside = {side: cells[row, :10, side + 1][near[side]].sum() for side in (0, 2)}
        for name, side in (("bid_depth_5_10", 0), ("ask_depth_5_10", 2)):
            all_of = cells[row, :10, side + 1].sum()
            put(name, inside[side] / all_of if all_of else 0.0)
        both = inside[0] + inside[2]
        put("depth_imbalance_5_10", (inside[0] - inside[2]) / both if both else (0.0 if depth.valid[row] else math.nan))
        slopes = []
        for side in (0, 2):
            far = abs(cells[row, :8, side] / mid - 1) * 1e4
            share = cells[row, :8, side + 1].cumsum() / cells[row, :8, side + 1].sum()
            slopes.append((far * share).sum() / (far**2).sum())
        put("book_slope_8", math.log(1 + sum(slopes) / 2))
        size = 2 * (bids + asks) / 2
        for name, side in (("buy_cost_2_6", 2), ("sell_cost_2_6", 0)):
            left, paid = size, 0.0
            for price, quantity in cells[row, :6, [side, side + 1]].T:
                paid, left = paid + min(left, quantity) * price, left - min(left, quantity)
            paid += left * cells[row, 5, side]
            put(name, abs(paid / size - mid) / mid * 1e4 if size else (0.0 if depth.valid[row] else math.nan))
    return found


def test_features_are_their_definitions() -> None:
    depth = depth_of(random_tape(4000, seed=2, minutes=60), levels=12)
    ours, wanted = own_rows(depth), oracle(depth)
    assert set(ours) == set(wanted) and len(depth) > 400 and not depth.valid.all()
    for name, values in wanted.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-9, atol=1e-9, err_msg=name)


def test_an_empty_side_and_an_empty_book_have_values() -> None:
    depth = depth_of(random_tape(500, seed=1, minutes=10))
    empty = depth.depth.clone()
    empty[10:20, :, 1] = 0
    empty[20:30][..., [1, 3]] = 0
    made = own_rows(replace(depth, depth=empty, valid=torch.ones_like(depth.valid)))
    for name, values in made.items():
        assert np.isfinite(values[8 if "_flow" in name else 3 : 35]).all(), name


def test_a_bar_sees_the_last_cell_known_strictly_before_it() -> None:
    bars = plain_bars([1.0, 2.0, 3.0, 4.0])
    closed = bars.close_timestamp
    depth = depth_of(random_tape(500, seed=1, minutes=10)).depth[:4]
    known = torch.stack((closed[0] - 1, closed[1], closed[1] + 1, closed[3] + 5))
    rest = torch.zeros(4, dtype=torch.int64)
    valid = torch.ones(4, dtype=torch.bool)
    book = Depth(bars.symbol, depth, torch.stack((rest, rest), 1), known, known, rest, valid, ~valid)
    made = make_features({"short": bars, "book": book}, {"microprice": {}, "return": {"windows": [1], "on": "short"}})
    index = made.names.index("microprice_ob")
    own = own_rows(book)["microprice_ob"]
    assert made.values[:, index].tolist() == [own[0], own[0], own[2], own[2]]


def test_nothing_is_known_before_the_first_cell() -> None:
    bars = plain_bars([1.0, 2.0])
    book = depth_of(random_tape(500, seed=1, minutes=10))
    late = replace(book, known_ns=book.known_ns - book.known_ns[0] + START + 10**15)
    made = make_features({"short": bars, "book": late}, {"spread_bps": {}, "return": {"windows": [1], "on": "short"}})
    assert torch.isnan(made.values[:, made.names.index("spread_bps_ob")]).all()


def test_what_the_book_lacks_is_named() -> None:
    tape = random_tape(2000, seed=3)
    tables = {**market(tape, 20_000), "book": depth_of(tape, levels=4)}
    with pytest.raises(
        InputError, match=r"'queue_imbalance_5_ob' needs level 5 of the book, which has 4; raise book\."
    ):
        make_features(tables, {"queue_imbalance": {"windows": [5]}})
    with pytest.raises(InputError, match=r"'spread_bps' is a feature of the book, and there is none"):
        make_features(tables["short"], {"spread_bps": {}})
