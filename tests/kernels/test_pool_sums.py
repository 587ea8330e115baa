"""Pools of bars against the brute force over their trades: every row, every bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.pool_sums as module
from kernels._op import SIMULATED
from kernels.bar_sums import COLUMNS, COUNT, LAST_MOVE, TURNS, K, bar_sums
from kernels.pool_sums import FEW, NARROW, launch_pool_sums, pool_sums
from tests.kernels.test_bar_sums import brute, random_trades, tensors, wraps

NOTHING = torch.zeros(K, dtype=torch.int64)


def made(trades, ends, first_row=0):
    """Bars of the trades, by the brute force: [K, B] int64."""
    bars = [brute(trades, a, b, first_row) for a, b in itertools.pairwise([0, *ends])]
    return torch.tensor(bars, dtype=torch.int64).reshape(len(ends), K).T.contiguous()


def direct(trades, ends, pools, first_row=0):
    """The longer bars straight from the trades."""
    edges = [0, *(ends[pool - 1] if pool else 0 for pool in pools)]
    return [brute(trades, a, b, first_row) for a, b in itertools.pairwise(edges)]


@st.composite
def markets(draw):
    rows = draw(st.integers(0, 30))
    trades = random_trades(np.random.default_rng(draw(st.integers(0, 2**32))), rows, 1)
    price = st.one_of(st.integers(-2, 2), st.integers(-(2**29), 2**29), st.sampled_from([NARROW - 1, NARROW, -NARROW]))
    trades[1] = draw(st.lists(price, min_size=rows, max_size=rows))
    ends = sorted(draw(st.lists(st.integers(0, rows), max_size=12)))
    pools = sorted(draw(st.lists(st.integers(0, len(ends)), max_size=6)))
    return trades, ends, pools


@given(market=markets())
def test_pools_are_the_bars_of_their_trades(market):
    trades, ends, pools = market
    found = pool_sums(made(trades, ends, 10**12), torch.tensor(pools, dtype=torch.int64))
    assert found.T.tolist() == direct(trades, ends, pools, 10**12)


@given(market=markets(), cut=st.integers(0, 12))
def test_pools_of_pools_are_pools(market, cut):
    """Joining is associative: the order in which bars are pooled does not matter."""
    trades, ends, _ = market
    cut = min(cut, len(ends))
    bars, whole = made(trades, ends), torch.tensor([len(ends)])
    halves = pool_sums(bars, torch.tensor([cut, len(ends)]))
    assert pool_sums(halves, torch.tensor([2])).equal(pool_sums(bars, whole))


@pytest.mark.parametrize("spread", [0, 1, 3000, 10**6])
def test_long_pools_hold_moments_beyond_64_bits(spread):
    trades = random_trades(np.random.default_rng(spread), 4_000, spread)
    ends = sorted(np.random.default_rng(1).integers(0, 4_001, 300).tolist())
    pools = [0, 3, 3, 10, 150, 298]
    found = pool_sums(made(trades, ends), torch.tensor(pools))
    assert found.T.tolist() == direct(trades, ends, pools)
    assert bool((found[COLUMNS.index("s4_hi")] > 0).any()) == (spread >= 3000)


@pytest.mark.parametrize("count", [FEW - 1, FEW, 5 * FEW])
def test_bars_of_many_trades_hold_moments_beyond_64_bits(count):
    span = NARROW - 1
    trades = random_trades(np.random.default_rng(count), 2 * count, 0)
    trades[1] = [span, 0] * count
    found = pool_sums(made(trades, [count, 2 * count]), torch.tensor([2]))
    assert found.T.tolist() == direct(trades, [count, 2 * count], [2])
    assert (count * span**4 < 2**64) == (int(found[COLUMNS.index("s4_hi")]) == 0)


def test_moves_across_the_seam_count():
    """Prices 5 6 | 4 | 4 | 5: up inside, down over the first seam, none over the second, up over the third."""
    trades = [[1, 2, 3, 4, 5], [5, 6, 4, 4, 5], [1] * 5, [1] * 5, [False] * 5]
    (pool,) = pool_sums(made(trades, [2, 3, 4, 5]), torch.tensor([4])).T.tolist()
    assert pool[module.CHANGES : LAST_MOVE + 1] == [3, 2, 1, 1]
    flat = made(trades, [2, 3, 4, 5])
    assert flat[TURNS].tolist() == [0, 0, 0, 0]


def test_every_thread_count_gives_the_same_integers(monkeypatch):
    monkeypatch.setattr(module, "BARS_PER_THREAD", 20)
    trades = random_trades(np.random.default_rng(2), 2003, 9)
    ends, pools = list(range(7, 2003, 7)), list(range(3, 286, 3))
    tables = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert len(module._cuts(np.array(pools))) == threads + 1
        tables.append(pool_sums(made(trades, ends), torch.tensor(pools)))
    assert tables[0].equal(tables[1]) and tables[0].equal(tables[2])
    assert tables[0].T.tolist() == direct(trades, ends, pools)


def test_outputs_are_written_and_fresh(monkeypatch):
    trades = random_trades(np.random.default_rng(5), 10, 5)
    bars = made(trades, [0, 4, 4, 10])
    kept = bars.clone()
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    found = pool_sums(bars, torch.tensor([0, 1, 3]))
    assert found.T.tolist() == [[0] * K, [0] * K, brute(trades, 0, 4, 0)]
    assert bars.equal(kept)
    assert pool_sums(bars, torch.tensor([], dtype=torch.int64)).shape == (K, 0)


def test_wrong_inputs_are_refused():
    bars = made(random_trades(np.random.default_rng(6), 9, 5), [2, 4, 9])
    for ends, first in (([1, 4], "ends[1] is 4"), ([3, 2], "ends[1] is 2"), ([-1], "ends[0] is -1")):
        with pytest.raises(ValueError, match=r"ends must not fall and must lie in \[0, 3\]") as error:
            pool_sums(bars, torch.tensor(ends))
        assert first in str(error.value)
    with pytest.raises(ValueError, match=r"sums must have shape \[23, 'any'\], got \[3, 3\]"):
        pool_sums(bars[:3], torch.tensor([1]))
    with pytest.raises(TypeError, match=r"ends must be a tensor of torch\.int64, got torch\.int32"):
        pool_sums(bars, torch.tensor([1], dtype=torch.int32))


def test_the_op_keeps_its_contract_with_torch():
    bars = made(random_trades(np.random.default_rng(7), 9, 5), [3, 5, 9])
    torch.library.opcheck(module._pool_sums, (bars, torch.tensor([2, 3])))


@pytest.mark.sim
@wraps
def test_shares_of_a_pool_join_to_the_definition():
    assert SIMULATED
    draw = np.random.default_rng(14)
    for trial in range(60):
        rows = int(draw.choice([0, 1, 3, 9, 40]))
        trades = random_trades(draw, rows, int(draw.choice([1, 5, 10**6])))
        ends = np.sort(draw.integers(0, rows + 1, draw.integers(0, 14))).tolist()
        pools = np.sort(draw.integers(0, len(ends) + 1, draw.integers(0, 4)))
        found = launch_pool_sums(made(trades, ends, 50).numpy(), pools)
        assert found.T.tolist() == direct(trades, ends, pools.tolist(), 50), trial


@pytest.mark.gpu
@pytest.mark.parametrize("bars", [0, 1, 31, 33, 9_973, 200_000])
@pytest.mark.parametrize("length", [1, 10, 1000, 10**7])
def test_cuda_is_the_cpu(bars, length):
    rows = bars * 5
    trades = tensors(random_trades(np.random.default_rng(rows), rows, 50))
    ends = torch.sort(torch.randint(0, rows + 1, (bars,), generator=torch.Generator().manual_seed(1))).values
    sums, _ = bar_sums(*trades, ends, 77, NOTHING)
    pools = torch.tensor([*range(length, bars, length), bars])
    expected = pool_sums(sums, pools)
    assert int(expected[COUNT].sum()) == (int(ends[-1]) if bars else 0)
    for _ in range(2):
        assert pool_sums(sums.cuda(), pools.cuda()).cpu().equal(expected)
