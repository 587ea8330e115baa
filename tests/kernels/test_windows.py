"""Moments, ranks and quantiles of windows: numpy and scipy, and the Triton form against the loop, state included."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from kernels import loops, windows

LOOPS = {"moments": (windows.moments, 2), "rank": (windows.rank, 1), "quantile": (windows.quantile, 1)}
EVERY = pytest.mark.parametrize("name", LOOPS)


def prices(rows, seed=0):
    """A walk on a grid: many values are equal."""
    return torch.tensor(np.random.default_rng(seed).integers(-2, 3, rows).cumsum(), dtype=torch.float64)[None] + 100.0


def begin_of(name, window):
    state = torch.zeros(2 * window + (name == "quantile"), dtype=torch.float64)
    return state, torch.tensor([window, 0.3], dtype=torch.float64)


@EVERY
@pytest.mark.parametrize("window", [2, 5, 50])
def test_a_window_is_what_scipy_says(name, window):
    loop, outputs = LOOPS[name]
    x = prices(300, window)
    state, p = begin_of(name, window)
    y, _ = loops.run(loop, x, outputs, state, 0, p)
    for row in range(window - 1, 300):
        rows = x[0, row - window + 1 : row + 1].numpy()
        if name == "rank":
            wanted = [((rows < rows[-1]).sum() + 0.5 * (rows == rows[-1]).sum()) / window]
        elif name == "quantile":
            wanted = [np.quantile(rows, 0.3)]
        else:
            flat = np.ptp(rows) == 0
            wanted = [0.0, 0.0] if flat else [stats.skew(rows), stats.kurtosis(rows)]
        np.testing.assert_allclose(y[:, row].numpy(), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.interpret
@EVERY
@pytest.mark.parametrize("window", [1, 2, 7, 8])
def test_the_triton_form_gives_the_loops_rows_and_state(name, window):
    loop, outputs = LOOPS[name]
    x = prices(331, window)
    if name == "quantile":
        x[0, :2] = math.nan
    state, p = begin_of(name, window)
    walked, seen = state, 0
    for first, stop in ((0, 3), (3, 4), (4, 200), (200, 200), (200, 331)):
        part = x[:, first:stop].contiguous()
        wanted, walked = loops.run(loop, part, outputs, walked, seen, p)
        got, state = loop.parallel(part, outputs, state, seen, p)
        seen += stop - first
        ready = torch.arange(first, stop) >= window - 1 + 2 * (name == "quantile")
        assert torch.allclose(got[:, ready], wanted[:, ready], rtol=1e-12, atol=1e-12)
        if name == "quantile":
            assert torch.equal(got.isnan(), wanted.isnan())
            held = min(int(state[0]), window)
            assert torch.equal(state[: 1 + held], walked[: 1 + held])
            assert torch.equal(state[1 + window :][:held], walked[1 + window :][:held])
        else:
            assert torch.equal(state, walked)


@pytest.mark.interpret
@EVERY
@pytest.mark.parametrize("rows", [0, 1, 127, 128, 129])
def test_the_kernel_writes_every_row(name, rows):
    loop, outputs = LOOPS[name]
    x, tail = prices(rows, 5), torch.zeros(3, dtype=torch.float64)
    state, p = begin_of(name, 4)
    y = torch.full((outputs, rows), -12345.0, dtype=torch.float64)
    windows.launch(x[0], tail, y, 4, list(LOOPS).index(name), missing=3, probability=0.3)
    wanted, _ = loops.run(loop, x, outputs, state, 0, p)
    assert not bool((y == -12345.0).any())
    assert torch.allclose(y[:, 3:], wanted[:, 3:], rtol=1e-12, atol=1e-12)


@pytest.mark.gpu
@EVERY
def test_the_gpu_agrees(name):
    loop, outputs = LOOPS[name]
    x = prices(20_011, 3)
    state, p = begin_of(name, 50)
    wanted, after = loops.run(loop, x, outputs, state, 0, p)
    got, gpu_after = loops.run(loop, x.cuda(), outputs, state.cuda(), 0, p.cuda())
    assert torch.allclose(got.cpu()[:, 49:], wanted[:, 49:], rtol=1e-9, atol=1e-9)
    assert torch.equal(gpu_after.cpu(), after)
