"""Power sums about the open, back from those about the mean: the inverse, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.uncentred_moments as module
from kernels.bar_sums import CHANGES, COUNT, S1, K
from kernels.centred_moments import MOMENTS, centred_moments
from kernels.uncentred_moments import POWERS, launch_uncentred_moments, uncentred_moments
from tests.kernels.test_bar_sums import brute, central, random_trades, wraps


def bars_of(prices):
    """The brute-force sums [K, B] of bars with the given prices, and their moments by definition."""
    sums, moments = [], []
    for inside in prices:
        trades = random_trades(np.random.default_rng(1), len(inside), 1)
        trades[1] = inside
        sums.append(brute(trades, 0, len(inside), 0))
        moments.append(central(inside) if inside else [0] * len(MOMENTS))
    table = torch.tensor(sums, dtype=torch.int64).reshape(len(prices), K).T.contiguous()
    return table, torch.tensor(moments, dtype=torch.int64).reshape(len(prices), len(MOMENTS)).T.contiguous()


PRICE = st.one_of(st.integers(-5, 5), st.integers(-(2**28), 2**28))


@given(prices=st.lists(st.lists(PRICE, max_size=20), max_size=4))
def test_powers_are_those_of_the_bar(prices):
    sums, moments = bars_of(prices)
    assert uncentred_moments(moments, sums[COUNT]).equal(sums[S1:CHANGES])


def test_it_is_the_inverse_of_centred_moments():
    draw = np.random.default_rng(3)
    sums, _ = bars_of([draw.integers(0, 2**25, 90).tolist() for _ in range(50)])
    assert bool((sums[CHANGES - 2].abs() > 1).any())
    assert uncentred_moments(centred_moments(sums), sums[COUNT]).equal(sums[S1:CHANGES])


def test_the_op_keeps_its_contract(monkeypatch):
    sums, moments = bars_of([[3, 4], [], [9, 1, 5]])
    torch.library.opcheck(module._uncentred_moments, (moments, sums[COUNT]))
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -77, dtype))
    assert uncentred_moments(moments, sums[COUNT]).equal(sums[S1:CHANGES])
    with pytest.raises(ValueError, match=r"count must have shape \[3\], got \[2\]"):
        uncentred_moments(moments, sums[COUNT, :2])


@pytest.mark.sim
@wraps
def test_powers_on_the_device_are_the_definition():
    draw = np.random.default_rng(4)
    sums, moments = bars_of([draw.integers(0, 2**26, size).tolist() for size in (0, 1, 2, 7, 30, 5)])
    found = launch_uncentred_moments(moments.numpy(), sums[COUNT].numpy())
    assert found.shape == (len(POWERS), 6)
    assert found.tolist() == sums[S1:CHANGES].tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("bars", [0, 1, 127, 128, 129])
def test_cuda_is_the_cpu(bars):
    draw = np.random.default_rng(bars)
    sums, moments = bars_of([draw.integers(0, 2**26, draw.integers(0, 9)).tolist() for _ in range(bars)])
    assert uncentred_moments(moments.cuda(), sums[COUNT].cuda()).cpu().equal(sums[S1:CHANGES])
