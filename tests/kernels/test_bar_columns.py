"""Columns of bars against the formulas in Python's floats, which are IEEE 754 and round one op at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.bar_columns as module
from kernels.bar_columns import COPIED, FLOATS, bar_columns, spec
from kernels.bar_sums import BUYS, CLOSE, COUNT, HIGH, LOW, NOTIONAL, OPEN, VOLUME, K, bar_sums
from kernels.centred_moments import centred_moments
from tests.kernels.test_bar_sums import random_trades, tensors, whole

SCALES = (1.0, 100.0), (5.0, 4.0), (1.0, 1e8)
NOTHING = torch.zeros(K, dtype=torch.int64)


def divide(a, b):
    return a / b if b else math.nan


def expected(sums, moments, scales, has_side, inverse):
    """The floats of one bar from its two columns of integers."""
    (tick, ticks), (lot, lots), (unit, units) = scales
    volume, buys, value, n = (int(sums[row]) for row in (VOLUME, BUYS, NOTIONAL, COUNT))
    sells, close = volume - buys, float(sums[CLOSE]) * tick / ticks
    vwap = float(value) / float(volume) * tick / ticks if volume > 0 else close
    sides = [float(buys) * lot / lots, float(sells) * lot / lots]
    sides += [float(buys - sells) / float(volume) if volume > 0 else 0.0]
    sides += [float(buys) / float(sells) if sells > 0 else math.nan]
    power = [whole(moments[row], moments[row + 1]) for row in (2, 4, 6)]
    words = [float((p + 2**63) >> 64) * 2.0**64 + float((p + 2**63) % 2**64 - 2**63) for p in power]
    e, (p2, p3, p4) = float(moments[1]) / max(n, 1), (word / max(n, 1) for word in words)
    square = e * e
    m2 = p2 - square
    m3 = p3 - 3.0 * e * p2 + 2.0 * square * e
    m4 = p4 - 4.0 * e * p3 + 6.0 * square * p2 - 3.0 * square * square
    flat = sums[HIGH] == sums[LOW]
    root = 0.0 if flat else math.sqrt(m2)
    return [
        *(float(sums[row]) * tick / ticks for row in (OPEN, HIGH, LOW, CLOSE)),
        *(float(volume) * lot / lots, float(value) * unit / units, math.nan if inverse else vwap),
        *(sides if has_side else [math.nan] * 4),
        *((float(sums[OPEN] + moments[0]) + e) * tick / ticks, root * tick / ticks),
        *(0.0 if flat else divide(m3, m2 * root), 0.0 if flat else divide(m4, m2 * m2) - 3.0),
    ]


def bits(values):
    """Bytes, with one kind of NaN."""
    array = np.array(values.tolist() if isinstance(values, torch.Tensor) else values, np.float64)
    array[np.isnan(array)] = np.nan
    return array.tobytes()


def sums_of(seed, rows, spread, every):
    trades = random_trades(np.random.default_rng(seed), rows, spread)
    trades[2] = [lots % 7 if row % 3 else 0 for row, lots in enumerate(trades[2])]
    return bar_sums(*tensors(trades), torch.arange(0, rows + 1, every), 10**12, NOTHING)[0]


def check(sums, has_side=True, inverse=False):
    columns = bar_columns(sums, *SCALES, has_side=has_side, inverse=inverse)
    moments = centred_moments(sums)
    assert list(columns) == [*COPIED, *FLOATS]
    for name, row in COPIED.items():
        assert torch.equal(columns[name], sums[row]), name
    found = torch.stack([columns[name] for name in FLOATS])
    table, words = sums.numpy(), moments.numpy()
    for bar in range(sums.shape[1]):
        want = expected(table[:, bar].tolist(), words[:, bar].tolist(), SCALES, has_side, inverse)
        assert bits(found[:, bar]) == bits(want), bar
    flat = [number for scale in SCALES for number in scale]
    assert bits(spec(sums, moments, flat, has_side, inverse)[1]) == bits(found)


@pytest.mark.parametrize("has_side", [True, False])
@pytest.mark.parametrize("inverse", [True, False])
@pytest.mark.parametrize(("spread", "every"), [(0, 3), (1, 1), (1, 7), (50, 20), (10**6, 100)])
def test_every_bit_is_the_formulas(has_side, inverse, spread, every):
    check(sums_of(every, 2000, spread, every), has_side, inverse)


@given(prices=st.lists(st.one_of(st.integers(-3, 3), st.integers(-(2**28), 2**28)), min_size=1, max_size=12))
def test_every_bit_is_the_formulas_for_any_prices(prices):
    trades = random_trades(np.random.default_rng(1), len(prices), 1)
    trades[1] = prices
    check(bar_sums(*tensors(trades), torch.tensor([0, len(prices)]), 0, NOTHING)[0])


def test_threads_and_tiles_change_no_bit(monkeypatch):
    sums = sums_of(4, 9001, 9, 3)
    tables = []
    for threads, least in ((1, 1 << 20), (3, 10), (7, 1)):
        monkeypatch.setattr(module, "BARS_PER_THREAD", least)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        tables.append(bar_columns(sums, *SCALES, has_side=True, inverse=False))
    for part in (slice(0, 511), slice(700, 701), slice(1000, None)):
        some = bar_columns(sums[:, part].contiguous(), *SCALES, has_side=True, inverse=False)
        for name in some:
            assert bits(some[name]) == bits(tables[0][name][part])
    for name in tables[0]:
        assert bits(tables[0][name]) == bits(tables[1][name]) == bits(tables[2][name])


def test_no_bars_have_no_columns_but_their_names():
    columns = bar_columns(torch.zeros(K, 0, dtype=torch.int64), *SCALES, has_side=True, inverse=False)
    assert {name: (len(column), column.dtype) for name, column in columns.items()} == {
        **dict.fromkeys(COPIED, (0, torch.int64)),
        **dict.fromkeys(FLOATS, (0, torch.float64)),
    }


def test_outputs_are_written_and_fresh(monkeypatch):
    sums = sums_of(5, 600, 9, 7)
    want = bar_columns(sums, *SCALES, has_side=False, inverse=True)
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    found = bar_columns(sums, *SCALES, has_side=False, inverse=True)
    assert all(bits(found[name]) == bits(want[name]) for name in want)
    found["num_ticks"][:] = -1
    assert (sums[COUNT] >= 0).all()


def test_a_bar_too_wide_for_exact_moments_is_refused():
    trades = random_trades(np.random.default_rng(9), 3, 1)
    trades[1] = [0, 2**32, 5]
    sums, _ = bar_sums(*tensors(trades), torch.tensor([0, 3]), 0, NOTHING)
    with pytest.raises(ValueError, match="bar 1 spans 4294967296 ticks over 3 trades; count x span"):
        bar_columns(sums, *SCALES, has_side=True, inverse=False)


def test_the_op_keeps_its_contract_with_torch():
    flat = [number for scale in SCALES for number in scale]
    # Where no column is NaN: opcheck finds NaN unlike NaN.
    torch.library.opcheck(module._bar_columns, (sums_of(6, 400, 5, 50)[:, 1:].contiguous(), flat, True, False))


@pytest.mark.gpu
@pytest.mark.parametrize("has_side", [True, False])
def test_cuda_is_the_cpu(has_side):
    sums = sums_of(8, 300_000, 30, 11)
    want = bar_columns(sums, *SCALES, has_side=has_side, inverse=False)
    found = bar_columns(sums.cuda(), *SCALES, has_side=has_side, inverse=False)
    assert all(bits(found[name].cpu()) == bits(want[name]) for name in want)
