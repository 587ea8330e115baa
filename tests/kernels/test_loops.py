"""Row loops: the compiled CPU form and the CUDA form give the numbers of the plain function, in any cutting."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from kernels import loops
from kernels._op import SIMULATED
from kernels.loops import helper, row_loop

ROWS = 1500


@helper
def larger(a, b):
    return a if a > b else b


@row_loop
def decay(x, y, state, seen, p):
    """A recurrence with a division that may be by zero, and a value that depends on the row number."""
    for row in range(x.shape[1]):
        state[0] = state[0] * p[0] + x[0, row]
        y[0, row] = state[0] / x[1, row]
        y[1, row] = math.nan if seen + row < 3 else state[0] + (seen + row)


@row_loop
def peaks(x, y, state, seen, p):
    """Uses a helper; skips rows without a value."""
    for row in range(x.shape[1]):
        if x[0, row] == x[0, row]:
            state[0] = larger(state[0], x[0, row])
            state[1] *= 0.5
            state[1] += 1.0
        y[0, row] = state[0] - state[1] * p[0]


@row_loop
def ring(x, y, state, seen, p):
    """Sum of the last rows, kept in the state at the absolute row number."""
    window = state.size
    for row in range(x.shape[1]):
        state[(seen + row) % window] = x[0, row]
        total = 0.0
        for back in range(window):
            total += state[back]
        y[0, row] = total


# Loop, inputs, outputs, state before the first row, parameters.
LOOPS = {
    "decay": (decay, 2, 2, [0.5], [0.9]),
    "peaks": (peaks, 1, 1, [-1e300, 0.0], [0.25]),
    "ring": (ring, 1, 1, [0.0] * 9, []),
}
EVERY = pytest.mark.parametrize("name", LOOPS)


def given(name: str, rows: int):
    loop, inputs, outputs, state, parameters = LOOPS[name]
    rng = np.random.default_rng(1)
    x = rng.normal(100, 5, (inputs, rows))
    x[-1, rng.random(rows) < 0.05] = 0.0
    if name == "peaks":
        x[0, rng.random(rows) < 0.1] = math.nan
    return loop, x, outputs, np.array(state), np.array(parameters, dtype=np.float64)


def plain(name: str, rows: int):
    """The function as it is written, over all rows."""
    loop, x, outputs, state, p = given(name, rows)
    y = np.full((outputs, rows), 99.0)
    with np.errstate(all="ignore"):
        loop.plain(x, y, state, 0, p)
    return y, state


def same(a, b) -> bool:
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return a.shape == b.shape and bool(((a.view(np.int64) == b.view(np.int64)) | ((a != a) & (b != b))).all())


@EVERY
@pytest.mark.parametrize("cuts", [[], [1], [1023, 1024, 1025], [0, 7, 7, 400, 1499], list(range(40))])
def test_any_cutting_gives_the_numbers_of_the_plain_function(name, cuts):
    loop, x, outputs, begin, p = given(name, ROWS)
    state, parts = torch.from_numpy(begin.copy()), []
    for start, stop in pairwise([0, *cuts, ROWS]):
        before = state.clone()
        piece = torch.from_numpy(x[:, start:stop])
        y, after = loops.run(loop, piece, outputs, state, start, torch.from_numpy(p))
        assert torch.equal(state, before), "the state that is given stays as it was"
        state = after
        parts.append(y)
    wanted, end = plain(name, ROWS)
    assert same(torch.cat(parts, dim=1).numpy(), wanted) and same(state.numpy(), end)


def test_no_rows_change_nothing():
    loop, x, outputs, state, p = given("decay", 0)
    y, after = loops.run(loop, torch.from_numpy(x), outputs, torch.from_numpy(state), 5, torch.from_numpy(p))
    assert y.shape == (2, 0) and after.tolist() == [0.5]


def test_what_is_no_float64_matrix_is_refused():
    x, flat = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"row loop: x must be a tensor of torch\.float64"):
        loops.run(decay, x.float(), 2, flat, 0, flat)
    with pytest.raises(ValueError, match=r"row loop: x must have shape"):
        loops.run(decay, x[0], 2, flat, 0, flat)
    with pytest.raises(ValueError, match=r"row loop: state must have shape"):
        loops.run(decay, x, 2, x, 0, flat)


def test_a_name_tells_what_a_loop_does():
    def one():
        def step(x, y, state, seen, p):
            y[0, 0] = x[0, 0] + 1.0

        return step

    def two():
        def step(x, y, state, seen, p):
            y[0, 0] = x[0, 0] + 2.0

        return step

    assert row_loop(one()).name == row_loop(one()).name
    digests = {row_loop(make()).name.rpartition("@")[2] for make in (one, two)}
    assert len(digests) == 2


def test_the_address_is_that_of_the_compiled_loop():
    assert decay.address == decay.address != peaks.address != 0


@pytest.mark.sim
@pytest.mark.filterwarnings("ignore:.*divide by zero:RuntimeWarning")
@EVERY
def test_the_cuda_form_gives_the_numbers_of_the_plain_function(name):
    rows = 70
    loop, x, outputs, state, p = given(name, rows)
    wanted, end = plain(name, rows)
    parts = []
    for start, stop in pairwise([0, 1, 33, 64, 65, rows]):
        y = np.full((outputs, stop - start), 99.0)
        with np.errstate(all="ignore"):
            loops.launch_loop(loop, np.ascontiguousarray(x[:, start:stop]), y, state, start, p)
        parts.append(y)
    assert same(np.concatenate(parts, axis=1), wanted) and same(state, end)


@pytest.mark.sim
def test_the_simulator_runs_what_is_written():
    assert SIMULATED and decay.compiled is decay.plain


@pytest.mark.compile
@pytest.mark.parametrize("cc", [(8, 6), (9, 0)], ids=["sm_86", "sm_90"])
@EVERY
def test_a_row_loop_compiles_for_the_gpus_we_name(compiled, name, cc):
    from numba import float64, int64

    ptx, used = compiled(
        LOOPS[name][0].kernel, (float64[:, ::1], float64[:, ::1], float64[::1], int64, float64[::1]), cc
    )
    assert f".target sm_{cc[0]}{cc[1]}" in ptx and ".f64" in ptx
    assert "fma.rn.f64" not in ptx, "a product fused with a sum is not the CPU's"
    if used is None:
        pytest.skip("PTX is made, but no ptxas is found to count registers")
    assert used["bytes spill stores"] == 0


@pytest.mark.gpu
@EVERY
def test_the_gpu_agrees(name):
    loop, x, outputs, state, p = given(name, ROWS)
    wanted, end = plain(name, ROWS)
    y, after = loops.run(
        loop, torch.from_numpy(x).cuda(), outputs, torch.from_numpy(state).cuda(), 0, torch.from_numpy(p).cuda()
    )
    np.testing.assert_allclose(y.cpu().numpy(), wanted, rtol=1e-12)
    np.testing.assert_allclose(after.cpu().numpy(), end, rtol=1e-12)
