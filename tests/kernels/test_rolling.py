"""Rolling windows against exact fractions, pandas and numpy; one fold for any chunking."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.rolling as module
from kernels.rolling import OPS, initial_state, rolling

EVERY = pytest.mark.parametrize("op", OPS)
VALUES = st.one_of(st.floats(-1e9, 1e9), st.integers(-3, 3).map(float), st.just(math.nan))


def prices(rows, columns=1, seed=0):
    steps = np.random.default_rng(seed).normal(size=(rows, columns))
    return torch.from_numpy(1000 + steps.cumsum(axis=0))


def exact(window, op, ddof):
    """One window in exact fractions, rounded once."""
    if any(math.isnan(x) for x in window):
        return math.nan
    values = [Fraction(x) for x in window]
    mean = sum(values) / len(values)
    if op in ("var", "std"):
        var = float(sum((x - mean) ** 2 for x in values) / (len(values) - ddof))
        return math.sqrt(var) if op == "std" else var
    return float({"sum": sum(values), "mean": mean, "min": min(values), "max": max(values)}[op])


def brute(column, window, op, ddof):
    whole = range(window, len(column) + 1)
    return [math.nan] * min(window - 1, len(column)) + [exact(column[end - window : end], op, ddof) for end in whole]


def fold(x, window, op, spans, ddof=0):
    tail, seen = initial_state(window, x.shape[1])
    parts = []
    for begin, stop in spans:
        y, tail, seen = rolling(x[begin:stop], window, op, tail, seen, ddof)
        parts.append(y)
    return (torch.cat(parts) if parts else torch.empty_like(x)), (tail, seen)


def same_bits(a, b):
    return a.shape == b.shape and np.array_equal(a.numpy(), b.numpy(), equal_nan=True)


@given(
    rows=st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=40),
    columns=st.integers(1, 3),
    window=st.integers(1, 9),
    op=st.sampled_from(OPS),
    sample=st.booleans(),
    cuts=st.lists(st.integers(0, 10**6), max_size=5),
)
def test_any_chunking_is_the_definition(chunks_of, rows, columns, window, op, sample, cuts):
    ddof = int(sample and window > 1)
    x = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)[:, :columns].contiguous()
    whole, state = fold(x, window, op, [(0, len(x))], ddof)
    for column in range(columns):
        values = x[:, column].tolist()
        size = max((abs(value) for value in values if value == value), default=0.0)
        # Moments are good to a relative error (squares below 1e-300 underflow); a sum may cancel.
        allowed = {"sum": 1e-15 * window * size, "mean": 1e-15 * size, "var": 1e-300, "std": 1e-150}.get(op, 0.0)
        wanted = brute(values, window, op, ddof)
        np.testing.assert_allclose(whole[:, column], wanted, rtol=1e-13, atol=allowed)
    for spans in (chunks_of(len(x), cuts), [(row, row + 1) for row in range(len(x))]):
        parts, after = fold(x, window, op, spans, ddof)
        assert same_bits(parts, whole)
        assert not spans or (same_bits(after[0], state[0]) and torch.equal(after[1], state[1]))


@EVERY
@pytest.mark.parametrize("window", [2, 20, 333])
def test_pandas_agrees(window, op):
    pd = pytest.importorskip("pandas")
    x = prices(2000, 2)
    y, _ = fold(x, window, op, [(0, 2000)])
    rolled = pd.DataFrame(x.numpy()).rolling(window)
    wanted = getattr(rolled, op)(ddof=0) if op in ("var", "std") else getattr(rolled, op)()
    # pandas takes running differences, so that small variances beside large ones lose digits there.
    moment = op in ("var", "std")
    np.testing.assert_allclose(y, wanted, rtol=1e-6 if moment else 1e-12, atol=1e-6 if moment else 0)


@EVERY
def test_threads_and_tiles_do_not_change_a_bit(op):
    x = prices(70_001, 3)
    x[12_345, 1] = math.nan
    whole, _ = fold(x, 37, op, [(0, 70_001)])
    parts, _ = fold(x, 37, op, [(0, 17), (17, 40_000), (40_000, 40_001), (40_001, 70_001)])
    assert same_bits(parts, whole)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert same_bits(fold(x, 37, op, [(0, 70_001)])[0], whole)
    finally:
        torch.set_num_threads(before)


@EVERY
def test_the_plain_loop_agrees(op):
    x = prices(300, 2)
    y, _ = fold(x, 11, op, [(0, 300)])
    np.testing.assert_allclose(y, module.spec(x.numpy(), 11, OPS.index(op), 0), rtol=1e-10)


def test_an_outlier_leaves_no_trace():
    x = torch.ones(300, 1, dtype=torch.float64)
    x[100] = 1e12
    for op in ("var", "std"):
        y, _ = fold(x, 25, op, [(0, 300)])
        assert (y[125:] == 0).all() and (y[24:100] == 0).all()
    x[200:] = 1 + torch.arange(100.0, dtype=torch.float64)[:, None] * 1e-6
    wanted = x.unfold(0, 25, 1).squeeze(1).numpy().var(axis=1)[200:]
    np.testing.assert_allclose(fold(x, 25, "var", [(0, 300)])[0][224:, 0], wanted, rtol=1e-9)


@pytest.mark.parametrize("at", [0, 50, 74, 99, 199])
def test_a_far_first_row_costs_no_precision(at):
    """The block's first row is what distances are taken from: a wild one is the worst case."""
    x = prices(200)
    x[at] = 1e7
    y, _ = fold(x, 25, "var", [(0, 200)])
    np.testing.assert_allclose(y[:, 0], brute(x[:, 0].tolist(), 25, "var", 0), rtol=1e-13)


@EVERY
def test_a_nan_is_gone_with_its_window(op):
    x = prices(60)
    x[20] = math.nan
    y, _ = fold(x, 8, op, [(0, 60)])
    assert y.isnan()[:, 0].nonzero()[:, 0].tolist() == [*range(7), *range(20, 28)]


@EVERY
def test_nothing_sees_the_future(op):
    x = prices(90, 2)
    whole, _ = fold(x, 12, op, [(0, 90)])
    for rows in (0, 1, 11, 12, 13, 24, 60):
        assert same_bits(fold(x[:rows], 12, op, [(0, rows)])[0], whole[:rows])


def test_the_state_survives_a_file(tmp_path):
    x = prices(100, 2)
    whole, _ = fold(x, 12, "std", [(0, 100)])
    first, state = fold(x[:37], 12, "std", [(0, 37)])
    torch.save(list(state), tmp_path / "state.pt")
    second, _, _ = rolling(x[37:], 12, "std", *torch.load(tmp_path / "state.pt", weights_only=True))
    assert same_bits(torch.cat([first, second]), whole)


@EVERY
def test_opcheck(op):
    tail, seen = torch.ones(2, 2, dtype=torch.float64), torch.tensor([5])
    torch.library.opcheck(torch.ops.gpu_pipeline.rolling, (prices(7, 2), 3, OPS.index(op), tail, seen, 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"op": "median"}, "op must be one of sum, mean, var, std, min, max, got 'median'"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"op": "var", "ddof": 3}, r"ddof must be in \[0, window\), got 3 for window 3"),
        ({"window": 4}, r"tail must have shape \[3, 2\], got \[2, 2\]"),
        ({"seen": torch.zeros(2, dtype=torch.int64)}, "seen must have shape"),
    ],
)
def test_what_is_refused(change, words):
    tail, seen = initial_state(3, 2)
    call = {"x": prices(4, 2), "window": 3, "op": "sum", "tail": tail, "seen": seen} | change
    with pytest.raises(ValueError, match=f"rolling: {words}"):
        rolling(**call)


def agree(got, wanted, op, scale):
    assert torch.equal(got.isnan(), wanted.isnan())
    exactly = op in ("min", "max")
    assert torch.allclose(got, wanted, rtol=0 if exactly else 1e-12, atol=0 if exactly else scale, equal_nan=True)


@pytest.mark.interpret
@EVERY
@pytest.mark.parametrize("window", [1, 3, 4, 5])
@pytest.mark.parametrize("shape", [(0, 2), (1, 1), (7, 3), (12, 1), (13, 5)])
def test_the_triton_kernel_is_the_rule(shape, window, op):
    x = prices(*shape, seed=window)
    x[4::9, 0] = math.nan
    tail, seen = initial_state(window, shape[1])
    for begin, stop in ((0, shape[0] // 3), (shape[0] // 3, shape[0])):
        y = torch.full_like(x[begin:stop], -12345.0)
        module.launch(x[begin:stop], tail, int(seen), window, OPS.index(op), 0, y, tile=16)
        wanted, tail, seen = rolling(x[begin:stop], window, op, tail, seen)
        agree(y, wanted, op, 1e-12)


@pytest.mark.gpu
@EVERY
@pytest.mark.parametrize(("window", "columns"), [(1, 3), (20, 1), (20, 40), (1000, 3), (16384, 1)])
def test_the_gpu_agrees(window, columns, op):
    x = prices(50_021, columns)
    x[777::20_001, 0] = math.nan
    tail, seen = initial_state(window, columns)
    for begin, stop in ((0, 30_011), (30_011, 50_021)):
        wanted, after, count = rolling(x[begin:stop], window, op, tail, seen)
        got, gpu_after, gpu_count = rolling(x[begin:stop].cuda(), window, op, tail.cuda(), seen)
        agree(got.cpu(), wanted, op, 1e-12 * window)
        assert same_bits(gpu_after.cpu(), after) and torch.equal(gpu_count, count)
        tail, seen = after, count


@pytest.mark.gpu
def test_a_window_too_long_for_the_gpu_is_refused():
    tail, seen = initial_state(20_000, 1, "cuda")
    with pytest.raises(ValueError, match="on a GPU window must be at most 16384, got 20000"):
        rolling(prices(4).cuda(), 20_000, "sum", tail, seen)
