"""The pooling kernel compiles for the GPUs we name, without one, and spills nothing."""

from __future__ import annotations

import pytest
from numba import int64

from kernels import pool_sums

TABLE = int64[:, ::1]


@pytest.mark.compile
@pytest.mark.parametrize("cc", [(8, 6), (9, 0)], ids=["sm_86", "sm_90"])
def test_the_kernel_compiles_and_spills_nothing(compiled, cc):
    ptx, used = compiled(pool_sums._pool_kernel, (TABLE, int64[::1], TABLE), cc)
    assert f".target sm_{cc[0]}{cc[1]}" in ptx
    assert ".f64" not in ptx and ".f32" not in ptx, "an integer kernel computes in floating point"
    if used is None:
        pytest.skip("PTX is made, but no ptxas is found to count registers")
    assert used["bytes spill stores"] == 0
    assert used["registers"] <= 128
