"""The kernels of range and cusum bars compile for the GPUs we name, without one, and spill nothing."""

from __future__ import annotations

import pytest
from numba import int64

from kernels import _chain, _levels, _spans, cusum_ends

ROWS = int64[::1]
TABLE = int64[:, ::1]
KERNELS = {
    "levels_lift": (_levels._lift_kernel, (ROWS, TABLE, int64, int64, int64, int64)),
    "chain_link": (_chain._link_kernel, (ROWS, ROWS)),
    "chain_walk": (_chain._walk_kernel, (ROWS,) * 6),
    "chain_replay": (_chain._replay_kernel, (ROWS,) * 4),
    "spans_follow": (_spans._follow_kernel, (ROWS, TABLE, int64, int64, ROWS, int64, ROWS)),
    "spans_open": (_spans._open_kernel, (ROWS, TABLE, int64, int64, ROWS, int64, ROWS, ROWS)),
    "cusum_log": (cusum_ends._log_kernel, (ROWS, ROWS, ROWS)),
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
