"""Logarithm, sine and cosine against exact arithmetic, and the same bits in any company."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels import elementwise
from kernels.elementwise import cos, log, sin

FUNCTIONS = {"log": log, "sin": sin, "cos": cos}
EVERY = pytest.mark.parametrize("name", FUNCTIONS)


def values(count, seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(np.exp(random.normal(0, 20, count)))


def near(name, x):
    """Compare with numpy's own implementation, within one unit in the last place of each."""
    wanted = getattr(np, name)(x.numpy())
    return np.all(np.abs(FUNCTIONS[name](x).numpy() - wanted) <= 2 * np.spacing(np.abs(wanted)))


@EVERY
def test_numpy_agrees(name):
    x = values(5000)
    assert near(name, x if name == "log" else x % 1000 - 500)


@given(st.floats(1e-300, 1e300))
def test_log_is_within_one_unit_of_the_exact_one(x):
    with localcontext() as context:
        context.prec = 40
        exact = Decimal(x).ln()
    got = log(torch.tensor([x], dtype=torch.float64)).item()
    assert abs(Decimal(got) - exact) <= Decimal(math.ulp(got))


@EVERY
@given(data=st.data())
def test_bits_depend_on_the_value_alone(name, data):
    x = values(67, seed=1)
    whole = FUNCTIONS[name](x)
    begin = data.draw(st.integers(0, 67))
    stop = data.draw(st.integers(begin, 67))
    assert torch.equal(FUNCTIONS[name](x[begin:stop]), whole[begin:stop])
    assert torch.equal(FUNCTIONS[name](x.flip(0)).flip(0), whole)


@EVERY
def test_threads_do_not_change_a_bit(name):
    x = values(200_003)
    parts = torch.cat([FUNCTIONS[name](part) for part in x.split(9_973)])
    assert torch.equal(FUNCTIONS[name](x), parts)


@EVERY
def test_any_shape(name):
    x = values(24)
    wanted = FUNCTIONS[name](x)
    assert torch.equal(FUNCTIONS[name](x.view(2, 3, 4)), wanted.view(2, 3, 4))
    assert torch.equal(FUNCTIONS[name](x.view(4, 6).T), wanted.view(4, 6).T)
    assert FUNCTIONS[name](x[0]).shape == () and FUNCTIONS[name](x[:0]).shape == (0,)


def test_edges_are_ieee():
    edges = torch.tensor([0.0, -0.0, -1.0, math.inf, math.nan, 1.0], dtype=torch.float64)
    wanted = torch.tensor([-math.inf, -math.inf, math.nan, math.inf, math.nan, 0.0], dtype=torch.float64)
    assert torch.equal(log(edges).nan_to_num(9), wanted.nan_to_num(9))
    for function in (sin, cos):
        assert function(edges[3:5]).isnan().all()


@EVERY
def test_opcheck(name):
    code = {"log": elementwise.LOG, "sin": elementwise.SIN, "cos": elementwise.COS}[name]
    torch.library.opcheck(torch.ops.gpu_pipeline.elementwise, (values(5), code))


@EVERY
def test_float32_is_refused(name):
    with pytest.raises(TypeError, match=rf"{name}: x must be a tensor of torch\.float64, got torch\.float32"):
        FUNCTIONS[name](values(3).float())


@pytest.mark.gpu
@EVERY
def test_the_gpu_agrees(name):
    x = values(100_003) if name == "log" else values(100_003) % 1000
    assert torch.allclose(FUNCTIONS[name](x.cuda()).cpu(), FUNCTIONS[name](x), rtol=1e-12, atol=1e-15)
