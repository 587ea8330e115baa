"""The integer logarithm against Python's decimal, which rounds correctly at any precision."""

from __future__ import annotations

import random
from decimal import Context, Decimal

import numpy as np
import pytest
import torch
from numba import njit

from kernels import _log
from kernels._log import CELLS, UNITS, log_price
from kernels._op import launch
from kernels.cusum_ends import _log_kernel

MANY_DIGITS = Context(prec=50)
BOUND = Decimal("0.50000003")
BORDERS = sorted({(CELLS + cell << power) // CELLS for power in range(63) for cell in range(CELLS)} | {2**63 - 1})


def exact(ticks: int) -> Decimal:
    return MANY_DIGITS.multiply(MANY_DIGITS.ln(Decimal(ticks)), Decimal(UNITS))


def some_prices(count: int) -> list[int]:
    draw = random.Random(7)
    near = [2**power + step for power in range(2, 63) for step in (-1, 0, 1)]
    spread = [int(2 ** (63 * draw.random())) for _ in range(count)]
    usual = [draw.randrange(9_000_000, 10_000_000) for _ in range(count // 4)]
    return [*range(1, 1_000), *near, *spread, *usual, 2**61, 2**63 - 1]


def test_it_is_the_nearest_integer():
    for ticks in some_prices(4_000):
        assert abs(log_price(ticks) - exact(ticks)) <= BOUND, ticks


def test_values_known_by_heart():
    logs = {1: 0, 2: 693_147_181, 10: 2_302_585_093, 100_000: 11_512_925_465, 2**61: 42_281_978_014}
    assert {ticks: log_price(ticks) for ticks in logs} == logs


def test_it_never_falls_as_the_price_rises():
    """Between borders of cells each step of the formula rises with the price; this is the rest: every border."""
    for border in BORDERS[1:]:
        assert log_price(border - 1) <= log_price(border), border
    small = np.array([log_price(ticks) for ticks in range(1, 1 << 14)])
    assert (np.diff(small) > 0).all()


def test_compiled_is_plain():
    """The simulator and the GPU run the same text; in Python its integers cannot wrap."""
    for ticks in [*some_prices(500), *BORDERS[1::97]]:
        assert log_price(ticks) == log_price.py_func(ticks)


@pytest.mark.sim
def test_the_simulator_takes_numpy_integers():
    with np.errstate(all="raise"):
        for ticks in some_prices(300):
            assert abs(log_price(np.int64(ticks)) - exact(ticks)) <= BOUND


@njit
def logs_of(prices, out):
    for row in range(prices.shape[0]):
        out[row] = log_price(prices[row])


@pytest.mark.gpu
def test_cuda_is_the_cpu():
    prices = torch.tensor(some_prices(100_000) + BORDERS[1:])
    expected, got = torch.empty_like(prices), torch.empty_like(prices, device="cuda")
    logs_of(prices.numpy(), expected.numpy())
    bad = torch.zeros(1, dtype=torch.int64, device="cuda")
    launch(_log_kernel, -(-len(prices) // 128), 128, prices.cuda(), got, bad)
    assert torch.equal(got.cpu(), expected)


def test_the_tables_are_what_they_say():
    assert len(_log._RECIPROCAL) == len(_log._LOG_OF_CELL) == CELLS
    middle = (CELLS + 17.5) / CELLS
    assert _log._RECIPROCAL[17] / 2**62 == pytest.approx(1 / middle, rel=1e-15)
    assert _log._LOG_OF_CELL[17] / 2**27 == pytest.approx(float(np.log(middle)) * UNITS, rel=1e-12)
