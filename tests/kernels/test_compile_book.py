"""The book kernels compile for the GPUs we name, without one, and spill nothing."""

from __future__ import annotations

import pytest
from numba import boolean, float64, int64

from kernels import book_faults, book_replay, book_sequence, depth

ROWS = int64[::1]
TABLE = int64[:, ::1]
BOOKS = (int64[:, :, :, ::1], int64[:, :, ::1])
KERNELS = {
    "book_faults": (book_faults._faults_kernel, (ROWS,) * 6),
    "depth": (
        depth._depth_kernel,
        (ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, int64, float64[:, :, ::1], TABLE, ROWS),
    ),
    "book_replay": (
        book_replay._walk_kernel,
        (TABLE, ROWS, ROWS, TABLE, int64, int64, *BOOKS, TABLE, ROWS, ROWS, ROWS, ROWS, TABLE),
    ),
    "book_sequence": (book_sequence._sequence_kernel, (ROWS, ROWS, ROWS, boolean[::1], ROWS, int64, ROWS, ROWS, ROWS)),
}


@pytest.mark.compile
@pytest.mark.parametrize("cc", [(8, 6), (9, 0)], ids=["sm_86", "sm_90"])
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_compiles_and_spills_nothing(compiled, name, cc):
    kernel, signature = KERNELS[name]
    ptx, used = compiled(kernel, signature, cc)
    assert f".target sm_{cc[0]}{cc[1]}" in ptx
    assert name == "depth" or (".f64" not in ptx and ".f32" not in ptx), "an integer kernel computes in floating point"
    if used is None:
        pytest.skip("PTX is made, but no ptxas is found to count registers")
    assert used["bytes spill stores"] == 0
    assert used["registers"] <= 128
