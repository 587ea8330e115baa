"""Smoothing against TA-Lib, pandas and a brute force; one fold for any chunking."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.recurrence as module
from kernels.recurrence import KINDS, initial_state, smooth

VALUES = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0]))
BOTH = pytest.mark.parametrize("kind", KINDS)


def prices(rows, columns=1, seed=0):
    steps = np.random.default_rng(seed).normal(size=(rows, columns))
    return torch.from_numpy(1000 + steps.cumsum(axis=0))


def brute(values, window, kind):
    """One column, in Python floats, straight from the definition."""
    seen, out = [], []
    value = math.nan
    for x in values:
        if not math.isfinite(x):
            out.append(math.nan)
            continue
        seen.append(x)
        if len(seen) == window:
            value = sum(seen, 0.0) / window
        elif len(seen) > window and kind == "ema":
            value = (x - value) * (2.0 / (window + 1)) + value
        elif len(seen) > window:
            value = value * (1.0 - 1.0 / window) + x * (1.0 / window)
        out.append(value)
    return out


def fold(x, window, kind, spans):
    state, parts = initial_state(x.shape[1]), []
    for begin, stop in spans:
        y, state = smooth(x[begin:stop], window, kind, state)
        parts.append(y)
    return torch.cat(parts) if parts else torch.empty_like(x), state


def same_bits(a, b):
    return a.shape == b.shape and np.array_equal(a.numpy(), b.numpy(), equal_nan=True)


@pytest.mark.parametrize("window", [2, 3, 14, 200])
def test_ema_is_talib(window):
    talib = pytest.importorskip("talib")
    x = prices(1000)
    y, _ = smooth(x, window, "ema", initial_state(1))
    assert np.array_equal(y[:, 0].numpy(), talib.EMA(x[:, 0].numpy(), window), equal_nan=True)


@pytest.mark.parametrize("window", [2, 14])
def test_wilder_makes_talibs_rsi_and_atr(window):
    talib = pytest.importorskip("talib")
    x = prices(500, 3)
    close = x[:, 0].numpy()
    change = np.diff(close)
    moves = torch.from_numpy(np.stack([change.clip(min=0), -change.clip(max=0)], axis=1))
    y, _ = smooth(moves, window, "wilder", initial_state(2))
    rsi = 100 * (y[:, 0] / (y[:, 0] + y[:, 1])).numpy()
    np.testing.assert_allclose(rsi, talib.RSI(close, window)[1:], rtol=1e-12)
    high, low = close + x[:, 1].abs().numpy() / 1000, close - x[:, 2].abs().numpy() / 1000
    ranges = torch.from_numpy(talib.TRANGE(high, low, close))[:, None]
    y, _ = smooth(ranges, window, "wilder", initial_state(1))
    np.testing.assert_allclose(y[:, 0], talib.ATR(high, low, close, window), rtol=1e-14)


@BOTH
def test_pandas_agrees_from_the_same_seed(kind):
    pd = pytest.importorskip("pandas")
    x, window = prices(400)[:, 0].numpy(), 21
    y, _ = smooth(torch.from_numpy(x)[:, None], window, kind, initial_state(1))
    alpha = 2 / (window + 1) if kind == "ema" else 1 / window
    seeded = pd.Series([x[:window].mean(), *x[window:]])
    np.testing.assert_allclose(y[window - 1 :, 0], seeded.ewm(alpha=alpha, adjust=False).mean(), rtol=1e-12)


@given(
    rows=st.lists(st.lists(VALUES, min_size=4, max_size=4), max_size=30),
    columns=st.integers(1, 4),
    window=st.integers(1, 9),
    kind=st.sampled_from(KINDS),
    cuts=st.lists(st.integers(0, 10**6), max_size=5),
)
def test_any_chunking_is_the_definition(chunks_of, rows, columns, window, kind, cuts):
    x = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)[:, :columns].contiguous()
    wanted = torch.tensor([brute(column, window, kind) for column in x.T.tolist()], dtype=torch.float64)
    wanted = wanted.reshape(columns, -1).T
    whole, state = fold(x, window, kind, [(0, len(x))])
    assert same_bits(whole, wanted)
    for spans in (chunks_of(len(x), cuts), [(row, row + 1) for row in range(len(x))]):
        parts, after = fold(x, window, kind, spans)
        assert same_bits(parts, wanted) and (same_bits(after, state) or not spans)


@BOTH
def test_bits_do_not_depend_on_the_columns_beside(kind):
    x = prices(300, 40)
    x[5::7, 3] = math.nan
    y, state = smooth(x, 10, kind, initial_state(40))
    for column in range(40):
        alone, after = smooth(x[:, column : column + 1], 10, kind, initial_state(1))
        assert same_bits(alone, y[:, column : column + 1]) and same_bits(after, state[:, column : column + 1])


def test_the_state_survives_a_file_and_the_input_is_left_alone(tmp_path):
    x = prices(100, 2)
    whole, _ = smooth(x, 12, "ema", initial_state(2))
    given = initial_state(2)
    first, state = smooth(x[:37], 12, "ema", given)
    assert torch.equal(given, initial_state(2))
    torch.save(state, tmp_path / "state.pt")
    second, _ = smooth(x[37:], 12, "ema", torch.load(tmp_path / "state.pt", weights_only=True))
    assert same_bits(torch.cat([first, second]), whole)


def test_nothing_sees_the_future():
    x = prices(200, 2)
    whole, _ = smooth(x, 9, "wilder", initial_state(2))
    for rows in (0, 1, 8, 9, 10, 150):
        assert same_bits(smooth(x[:rows], 9, "wilder", initial_state(2))[0], whole[:rows])


@BOTH
def test_opcheck(kind):
    torch.library.opcheck(torch.ops.gpu_pipeline.smooth, (prices(7, 2), 1, kind == "wilder", initial_state(2)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "sma"}, "kind must be one of ema, wilder, got 'sma'"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"state": torch.zeros(3, 1, dtype=torch.float64)}, r"state must have shape \[3, 2\], got \[3, 1\]"),
        ({"x": torch.zeros(4, dtype=torch.float64)}, "x must have shape"),
    ],
)
def test_what_is_refused(change, words):
    call = {"x": prices(4, 2), "window": 3, "kind": "ema", "state": initial_state(2)} | change
    with pytest.raises(ValueError, match=f"smooth: {words}"):
        smooth(**call)


def test_float32_is_refused():
    with pytest.raises(TypeError, match=r"x must be a tensor of torch\.float64"):
        smooth(prices(4).float(), 3, "ema", initial_state(1))


def test_without_triton_and_without_a_gpu_the_cpu_form_works():
    program = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch; from kernels import recurrence, rolling, window_gather, barriers, depth, elementwise\n"
        "x = torch.ones(3, 1, dtype=torch.float64)\n"
        "assert recurrence.smooth(x, 2, 'ema', recurrence.initial_state(1))[0][1:].eq(1).all()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(module.__file__).parents[1])


def close_to(got, wanted, scale):
    assert torch.equal(got.isnan(), wanted.isnan())
    assert torch.allclose(got, wanted, rtol=0, atol=1e-12 * scale, equal_nan=True)


@pytest.mark.interpret
@BOTH
@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.parametrize("shape", [(0, 2), (1, 1), (7, 3), (8, 1), (9, 17), (23, 2), (33, 1)])
def test_the_triton_kernels_are_the_rule(shape, window, kind):
    x = prices(*shape, seed=window)
    x[2::5, 0] = math.nan
    state = initial_state(shape[1])
    for begin, stop in ((0, shape[0] // 3), (shape[0] // 3, shape[0])):
        y, after = torch.full_like(x[begin:stop], math.nan), torch.full_like(state, math.nan)
        module.launch(x[begin:stop], window, kind == "wilder", state, y, after, tile=8)
        wanted, wanted_after = smooth(x[begin:stop], window, kind, state)
        close_to(y, wanted, 2000)
        close_to(after, wanted_after, 2000 * window)
        state = wanted_after


@pytest.mark.gpu
@BOTH
@pytest.mark.parametrize("columns", [1, 3, 40])
def test_the_gpu_agrees(columns, kind):
    x = prices(100_003, columns)
    x[1000::777, 0] = math.nan
    wanted, wanted_after = smooth(x, 14, kind, initial_state(columns))
    got, after = smooth(x.cuda(), 14, kind, initial_state(columns, "cuda"))
    close_to(got.cpu(), wanted, x[x.isfinite()].abs().max().item())
    close_to(after.cpu(), wanted_after, wanted_after.abs().max().item())
