"""The kernels of pooling compile for the GPUs we name, without one, and spill nothing."""

from __future__ import annotations

import pytest
from numba import int64

from kernels import pool_sums, uncentred_moments

ROWS = int64[::1]
TABLE = int64[:, ::1]
KERNELS = {
    "pool_sums": (pool_sums._pool_kernel, (TABLE, ROWS, TABLE)),
    "uncentred_moments": (uncentred_moments._powers_kernel, (TABLE, ROWS, TABLE)),
}


@pytest.mark.compile
@pytest.mark.parametrize("cc", [(8, 6), (9, 0)], ids=["sm_86", "sm_90"])
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_compiles_and_spills_nothing(compiled, name, cc):
    kernel, signature = KERNELS[name]
    ptx, used = compiled(kernel, signature, cc)
    assert f".target sm_{cc[0]}{cc[1]}" in ptx
    assert ".f64" not in ptx and ".f32" not in ptx, "an integer kernel computes in floating point"
    if used is None:
        pytest.skip("PTX is made, but no ptxas is found to count registers")
    assert used["bytes spill stores"] == 0
    assert used["registers"] <= 128
