"""The bar kernels compile for the GPUs we name, without one, and spill nothing."""

from __future__ import annotations

import pytest
from numba import boolean, int64

from kernels import _bar_warps, _blocks, _marks, _reset_levels, carry_ends, centred_moments, time_ends

ROWS = int64[::1]
TABLE = int64[:, ::1]
TREE = (TABLE,) * 4
TRADES = (ROWS, ROWS, ROWS, ROWS, boolean[::1])
KERNELS = {
    "scan": (_blocks._scan_kernel, (ROWS, int64, ROWS, ROWS, ROWS)),
    "reset_block": (_reset_levels._block_kernel, (ROWS, int64, *TREE, ROWS)),
    "reset_lift": (_reset_levels._lift_kernel, (int64, TABLE, TABLE, int64, int64)),
    "reset_node": (_reset_levels._node_kernel, (ROWS, int64, *TREE, int64, int64)),
    "reset_enter": (_reset_levels._enter_kernel, (ROWS, int64, *TREE, TABLE, ROWS, ROWS, ROWS, int64, int64, int64)),
    "reset_replay": (_reset_levels._replay_kernel, (ROWS, int64, TABLE, TABLE, ROWS, ROWS, ROWS, int64, ROWS)),
    "marks_count": (_marks._count_kernel, (ROWS, ROWS)),
    "marks_rows": (_marks._rows_kernel, (ROWS, ROWS, int64, ROWS)),
    "carry_sum": (carry_ends._sum_kernel, (ROWS, int64, ROWS, ROWS)),
    "carry_mark": (carry_ends._mark_kernel, (ROWS, int64, ROWS, ROWS)),
    "time_mark": (time_ends._mark_kernel, (ROWS, int64, ROWS, ROWS, ROWS, ROWS)),
    "time_start": (time_ends._start_kernel, (ROWS, int64, ROWS, ROWS, ROWS)),
    "bar_runs": (_bar_warps._run_kernel, (*TRADES, ROWS, int64, ROWS, TABLE, TABLE, TABLE)),
    "bar_join": (_bar_warps._join_kernel, (ROWS, int64, ROWS, TABLE, TABLE, TABLE)),
    "centred_moments": (centred_moments._moments_kernel, (TABLE, TABLE, ROWS)),
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
