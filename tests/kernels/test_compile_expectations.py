"""The kernels of imbalance and runs bars compile without a GPU, spill nothing, and fuse no product with a sum."""

from __future__ import annotations

import re

import pytest
from numba import cuda, float64, int8, int64, types
from numba.cuda import libdevice

from kernels import imbalance_ends, runs_ends, tick_signs
from kernels._expectations import moved_mean, moved_ticks

ROWS, SIGNS, MEANS = int64[::1], int8[::1], float64[::1]
RULE = types.Tuple((int64, int64, float64, float64))
CHAIN = (ROWS, SIGNS, RULE, ROWS, MEANS, ROWS, ROWS)
KERNELS = {
    "imbalance": (imbalance_ends._walk_kernel, CHAIN),
    "runs": (runs_ends._walk_kernel, CHAIN),
    "tick_turn": (tick_signs._turn_kernel, (ROWS, ROWS, ROWS)),
    "tick_carry": (tick_signs._carry_kernel, (ROWS, ROWS, ROWS, ROWS, ROWS)),
    "tick_write": (tick_signs._write_kernel, (ROWS, ROWS, ROWS, SIGNS)),
}
TARGETS = pytest.mark.parametrize("cc", [(8, 6), (9, 0)], ids=["sm_86", "sm_90"])


def floats(ptx):
    """The float64 operations of a kernel that round."""
    return re.findall(r"\b(?:fma|mad|mul|add|sub|div|rcp|sqrt)[.a-z]*\.f64", ptx)


@pytest.mark.compile
@TARGETS
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_compiles_spills_nothing_and_fuses_nothing(compiled, name, cc):
    kernel, signature = KERNELS[name]
    ptx, used = compiled(kernel, signature, cc)
    assert f".target sm_{cc[0]}{cc[1]}" in ptx
    assert ".f32" not in ptx, "a float64 kernel rounds through float32"
    # ptxas may fuse a product without a rounding mode with the sum behind it; mul.rn it must leave alone.
    assert set(floats(ptx)) <= {"mul.rn.f64", "add.f64", "add.rn.f64", "sub.f64", "sub.rn.f64", "div.rn.f64"}
    assert ("mul.rn.f64" in floats(ptx)) == (not name.startswith("tick"))
    if used is None:
        pytest.skip("PTX is made, but no ptxas is found to count registers")
    assert used["bytes spill stores"] == 0
    assert used["registers"] <= 128


@pytest.mark.compile
@TARGETS
def test_the_gate_sees_a_fused_product(compiled, cc):
    @cuda.jit
    def fused(x):
        x[0] = libdevice.fma_rn(x[1], x[2], x[3])

    @cuda.jit
    def apart(x):
        x[0] = moved_ticks(x[1], x[2], x[3])
        x[1] = moved_mean(x[1], x[2], 7, x[3], 1)

    assert "fma.rn.f64" in floats(compiled(fused, (MEANS,), cc)[0])
    found = floats(compiled(apart, (MEANS,), cc)[0])
    assert "mul.rn.f64" in found and "fma.rn.f64" not in found
