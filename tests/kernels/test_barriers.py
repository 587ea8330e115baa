"""First touches against a brute force in plain Python, hand-written bars, and the simulator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.barriers as module
from kernels.barriers import first_touch

PRICE = st.sampled_from([*range(90, 111), math.nan])


def market(rows, seed=0, spread=1.0):
    """Bars on whole ticks, so that barriers are often met exactly."""
    random = np.random.default_rng(seed)
    close = (1000 + random.normal(0, 2, rows).cumsum()).round()
    open_ = np.concatenate([close[:1], close[:-1] + random.integers(-1, 2, max(rows - 1, 0))])
    high = np.maximum(open_, close) + random.integers(0, 3, rows) * spread
    low = np.minimum(open_, close) - random.integers(0, 3, rows) * spread
    return [torch.from_numpy(x) for x in (open_, high, low, close)]


def brute(bars, upper, lower, first, horizon):
    open_, high, low, close = (x.tolist() for x in bars)
    out = []
    for up, down, begin in zip(upper.tolist(), lower.tolist(), first.tolist(), strict=True):
        end = begin + horizon
        if end > len(open_) or up != up or down != down:
            out.append((-2, -1, math.nan))
            continue
        above = next((row for row in range(begin, end) if high[row] >= up), end)
        below = next((row for row in range(begin, end) if low[row] <= down), end)
        row = min(above, below)
        if row == end:
            out.append((0, end - 1, close[end - 1]))
        elif below == row:
            out.append((2 if above == row else -1, row, open_[row] if open_[row] < down else down))
        else:
            out.append((1, row, open_[row] if open_[row] > up else up))
    return out


def agree(got, wanted):
    code, row, price = (x.tolist() for x in got)
    assert (code, row) == ([w[0] for w in wanted], [w[1] for w in wanted])
    assert np.array_equal(price, [w[2] for w in wanted], equal_nan=True)


def around(close, rows, width):
    return close[rows] + width, close[rows] - width / 2


@given(
    bars=st.lists(st.tuples(PRICE, PRICE, PRICE, PRICE), min_size=1, max_size=80),
    events=st.lists(st.tuples(PRICE, PRICE, st.integers(0, 90)), max_size=20),
    horizon=st.integers(1, 90),
)
def test_any_prices_are_the_rule(bars, events, horizon):
    columns = list(torch.tensor(bars, dtype=torch.float64).T)
    upper, lower, first = torch.tensor(events, dtype=torch.float64).reshape(-1, 3).T
    first = first.long()
    agree(first_touch(*columns, upper, lower, first, horizon), brute(columns, upper, lower, first, horizon))


@pytest.mark.parametrize("width", [2, 30, 400])
@pytest.mark.parametrize("horizon", [1, module.BLOCK, 2 * module.BLOCK + 1, 300])
def test_skipped_blocks_hide_nothing(horizon, width):
    bars = market(3000, seed=horizon)
    first = torch.arange(1, 3001)
    upper, lower = around(bars[3], first - 1, width)
    agree(first_touch(*bars, upper, lower, first, horizon), brute(bars, upper, lower, first, horizon))


def test_threads_do_not_change_a_label():
    bars = market(40_000)
    first = torch.arange(1, 40_001)
    upper, lower = around(bars[3], first - 1, 12)
    whole = first_touch(*bars, upper, lower, first, 100)
    parts = [
        first_touch(*bars, u, d, f, 100)
        for u, d, f in zip(*(x.split(7001) for x in (upper, lower, first)), strict=True)
    ]
    for one, cut in zip(whole, zip(*parts, strict=True), strict=True):
        assert np.array_equal(one.numpy(), torch.cat(cut).numpy(), equal_nan=True)
    looped = torch.empty_like(first).numpy(), torch.empty_like(first).numpy(), np.empty(len(first))
    module.spec(*(x.numpy() for x in (*bars, upper, lower, first)), 100, *looped)
    for one, loop in zip(whole, looped, strict=True):
        assert np.array_equal(one.numpy(), loop, equal_nan=True)


@pytest.mark.parametrize(
    ("bar", "wanted"),
    [
        ((100, 105, 99, 104), (1, 105)),
        ((107, 108, 106, 106), (1, 107)),
        ((100, 101, 95, 96), (-1, 95)),
        ((93, 94, 92, 94), (-1, 93)),
        ((100, 106, 94, 100), (2, 95)),
        ((93, 106, 92, 100), (2, 93)),
        ((107, 108, 95, 96), (2, 95)),
        ((100, 104.99, 95.01, 101), (0, 101)),
        ((100, math.nan, 94, 96), (-1, 95)),
        ((math.nan, 106, 99, 100), (1, 105)),
    ],
    ids=[
        "upper",
        "gap_up",
        "lower",
        "gap_down",
        "both",
        "both_gap_down",
        "both_gap_up",
        "neither",
        "nan_high",
        "nan_open",
    ],
)
def test_one_bar_by_hand(bar, wanted):
    columns = [torch.tensor([x], dtype=torch.float64) for x in bar]
    levels = [torch.tensor([x], dtype=torch.float64) for x in (105.0, 95.0)]
    code, row, price = first_touch(*columns, *levels, torch.tensor([0]), 1)
    assert (code.item(), row.item(), price.item()) == (wanted[0], 0, wanted[1])


def test_an_event_whose_horizon_ends_beyond_the_data_is_unknown_even_if_touched():
    bars = market(10)
    below = torch.tensor([0.0, 0.0], dtype=torch.float64)
    code, row, price = first_touch(*bars, below, below - 1, torch.tensor([5, 6]), 5)
    assert code.tolist() == [1, -2] and row.tolist() == [5, -1] and price[1].isnan()


def test_nothing_sees_past_the_horizon():
    bars = market(200)
    first = torch.arange(1, 100)
    upper, lower = around(bars[3], first - 1, 8)
    whole = first_touch(*bars, upper, lower, first, 30)
    cut = first_touch(*(x[:129] for x in bars), upper, lower, first, 30)
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


def test_no_events():
    none = torch.empty(0, dtype=torch.float64)
    assert [len(x) for x in first_touch(*market(5), none, none, none.long(), 3)] == [0, 0, 0]


def test_opcheck():
    bars, first = market(9), torch.tensor([0, 3])
    levels = torch.tensor([1003.0, 1001.0], dtype=torch.float64)
    torch.library.opcheck(torch.ops.gpu_pipeline.first_touch, (*bars, levels, levels - 5, first, 4))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"first": torch.tensor([-1])}, "first must not be negative, got -1"),
        ({"low": torch.zeros(3, dtype=torch.float64)}, r"low must have shape \[4\], got \[3\]"),
        ({"upper": torch.zeros(2, dtype=torch.float64)}, r"upper must have shape \[1\], got \[2\]"),
    ],
)
def test_what_is_refused(change, words):
    bars = dict(zip(("open_", "high", "low", "close"), market(4), strict=True))
    level = torch.ones(1, dtype=torch.float64)
    call = bars | {"upper": level, "lower": level, "first": torch.tensor([0]), "horizon": 2} | change
    with pytest.raises(ValueError, match=f"first_touch: {words}"):
        first_touch(**call)


@pytest.mark.sim
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 17])
@pytest.mark.parametrize("horizon", [1, 3, 9, 12])
def test_the_cuda_kernels_are_the_rule(rows, horizon):
    bars = market(rows, seed=rows)
    first = torch.arange(rows)
    upper, lower = around(bars[3], first, 4)
    extremes, out = module._allocate(bars[1], first, horizon)
    for x in (*extremes, *out):
        x.fill_(-99)
    arrays = [[x.numpy() for x in group] for group in (bars, extremes, (upper, lower, first))]
    module.launch(*arrays, horizon, [x.numpy() for x in out])
    agree(out, brute(bars, upper, lower, first, horizon))


@pytest.mark.gpu
@pytest.mark.parametrize("horizon", [1, 50, 500])
def test_the_gpu_agrees(horizon):
    bars = market(50_021)
    first = torch.arange(1, 50_022)
    upper, lower = around(bars[3], first - 1, 12)
    wanted = first_touch(*bars, upper, lower, first, horizon)
    got = first_touch(*(x.cuda() for x in (*bars, upper, lower, first)), horizon)
    for one, other in zip(wanted, got, strict=True):
        assert np.array_equal(one.numpy(), other.cpu().numpy(), equal_nan=True)
