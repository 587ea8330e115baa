"""The bar kernels compile for the GPUs we name, without one, spill nothing and take what is on record here."""

from __future__ import annotations

import pytest
from numba import boolean, int64

from kernels import _bar_warps, _blocks, _marks, _reset_levels, carry_ends, centred_moments, time_ends

ROWS = int64[::1]
TABLE = int64[:, ::1]
TRADES = (ROWS, ROWS, ROWS, ROWS, boolean[::1])
TREE = (TABLE,) * 4
KERNELS = {
    "scan": (_blocks._scan_kernel, (ROWS, int64, ROWS, ROWS, ROWS)),
    "marks_count": (_marks._count_kernel, (ROWS, ROWS)),
    "marks_rows": (_marks._rows_kernel, (ROWS, ROWS, int64, ROWS)),
    "reset_block": (_reset_levels._block_kernel, (ROWS, int64, *TREE, ROWS)),
    "reset_lift": (_reset_levels._lift_kernel, (int64, TABLE, TABLE, int64, int64)),
    "reset_node": (_reset_levels._node_kernel, (ROWS, int64, *TREE, int64, int64)),
    "reset_enter": (_reset_levels._enter_kernel, (ROWS, int64, *TREE, TABLE, ROWS, ROWS, ROWS, int64, int64, int64)),
    "reset_replay": (_reset_levels._replay_kernel, (ROWS, int64, TABLE, TABLE, ROWS, ROWS, ROWS, int64, ROWS)),
    "carry_sum": (carry_ends._sum_kernel, (ROWS, int64, ROWS, ROWS)),
    "carry_mark": (carry_ends._mark_kernel, (ROWS, int64, ROWS, ROWS)),
    "time_mark": (time_ends._mark_kernel, (ROWS, int64, ROWS, ROWS, ROWS, ROWS)),
    "time_start": (time_ends._start_kernel, (ROWS, int64, ROWS, ROWS, ROWS)),
    "bar_runs": (_bar_warps._run_kernel, (*TRADES, ROWS, int64, ROWS, TABLE, TABLE, TABLE)),
    "bar_join": (_bar_warps._join_kernel, (ROWS, int64, ROWS, TABLE, TABLE, TABLE)),
    "centred_moments": (centred_moments._moments_kernel, (TABLE, TABLE, ROWS)),
}
# Registers on cc 8.6 and 9.0 and bytes of shared memory, as ptxas 13 counts them.
RECORD = {
    "scan": (38, 40, 4096),
    "marks_count": (30, 30, 2048),
    "marks_rows": (32, 32, 2048),
    "reset_block": (38, 32, 34832),
    "reset_lift": (34, 38, 0),
    "reset_node": (72, 72, 0),
    "reset_enter": (48, 48, 0),
    "reset_replay": (37, 38, 0),
    "carry_sum": (38, 38, 2048),
    "carry_mark": (32, 32, 34816),
    "time_mark": (36, 34, 0),
    "time_start": (22, 22, 0),
    "bar_runs": (76, 74, 0),
    "bar_join": (40, 32, 11776),
    "centred_moments": (72, 64, 0),
}
# The one array that a thread keeps for itself: what the chain before had open.
STACK = {"reset_node": 56}


@pytest.mark.compile
@pytest.mark.parametrize("cc", [(8, 6), (9, 0)], ids=["sm_86", "sm_90"])
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_compiles_and_takes_what_is_on_record(compiled, name, cc):
    kernel, signature = KERNELS[name]
    ptx, used = compiled(kernel, signature, cc)
    assert f".target sm_{cc[0]}{cc[1]}" in ptx
    assert ".f64" not in ptx and ".f32" not in ptx, "an integer kernel computes in floating point"
    if used is None:
        pytest.skip("PTX is made, but no ptxas is found to count registers")
    registers = RECORD[name][0] if cc == (8, 6) else RECORD[name][1]
    # Another release of the compiler may differ by a few.
    assert abs(used["registers"] - registers) <= 8, used
    assert used["bytes spill stores"] == 0 and used["bytes stack frame"] == STACK.get(name, 0), used
    assert used["bytes smem"] == RECORD[name][2], used
