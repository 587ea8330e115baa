"""Windows against plain slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.window_gather as module
from kernels.window_gather import gather_windows, require_windows

DTYPES = pytest.mark.parametrize("dtype", module.DTYPES)


def table(rows, features, dtype=torch.float32):
    return torch.arange(rows * features).reshape(rows, features).to(dtype)


def slices(values, last, window):
    return torch.stack([values[end - window + 1 : end + 1] for end in last.tolist()])


@given(
    rows=st.integers(1, 40),
    features=st.integers(1, 9),
    window=st.integers(1, 40),
    count=st.integers(1, 20),
    data=st.data(),
)
def test_a_window_is_a_slice(rows, features, window, count, data):
    window = min(window, rows)
    ends = st.integers(window - 1, rows - 1)
    last = torch.tensor(data.draw(st.lists(ends, min_size=count, max_size=count)))
    values = table(rows, features, data.draw(st.sampled_from(module.DTYPES)))
    wanted = slices(values, last, window)
    assert torch.equal(gather_windows(values, last, window), wanted)
    looped = np.zeros(wanted.shape, wanted.numpy().dtype)
    module.spec(values.numpy(), last.numpy(), window, looped)
    assert np.array_equal(looped, wanted.numpy())


def test_a_reused_buffer_is_written_whole():
    values, last = table(1000, 16), torch.arange(63, 1000, 7)
    out = torch.full((len(last), 64, 16), torch.nan)
    assert gather_windows(values, last, 64, out) is out
    assert torch.equal(out, slices(values, last, 64))


def test_nothing_in_nothing_out():
    none = torch.empty(0, dtype=torch.int64)
    assert gather_windows(table(5, 3), none, 4).shape == (0, 4, 3)
    assert gather_windows(table(0, 3), none, 4).shape == (0, 4, 3)
    assert gather_windows(table(5, 0), torch.tensor([4]), 4).shape == (1, 4, 0)


@pytest.mark.parametrize(("bad", "window"), [(2, 4), (5, 4), (-1, 1)])
def test_a_window_outside_the_table_is_refused(bad, window):
    last = torch.tensor([4, bad, 4])
    words = rf"last must be in \[{window - 1}, 4\] for windows of {window} in 5 rows, got {bad} for window 1"
    with pytest.raises(ValueError, match=words):
        gather_windows(table(5, 2), last, window)
    with pytest.raises(ValueError, match=words):
        require_windows(last, window, 5)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"window": 0}, ValueError, "window must be at least 1, got 0"),
        ({"values": table(5, 2, torch.int32)}, TypeError, r"must be float32, float64 or int64, got torch\.int32"),
        ({"last": torch.tensor([4.0])}, TypeError, "last must be a tensor"),
        ({"out": torch.zeros(1, 3, 3)}, ValueError, r"out must have shape \[1, 3, 2\], got \[1, 3, 3\]"),
        ({"out": torch.zeros(1, 2, 3).mT}, ValueError, "out must be contiguous"),
    ],
)
def test_what_is_refused(change, error, words):
    call = {"values": table(5, 2), "last": torch.tensor([4]), "window": 3} | change
    with pytest.raises(error, match=f"gather_windows: .*{words}"):
        gather_windows(**call)


def test_opcheck():
    values, last = table(9, 3), torch.tensor([4, 8])
    torch.library.opcheck(torch.ops.gpu_pipeline.gather_windows, (values, last, 4, torch.zeros(2, 4, 3)))


@pytest.mark.interpret
@DTYPES
@pytest.mark.parametrize("window", [1, 4, 7])
@pytest.mark.parametrize("features", [1, 2, 5])
def test_the_triton_kernel_copies(window, features, dtype):
    values = table(11, features, dtype)
    last = torch.tensor([window - 1, 10, 9, window - 1])
    out = torch.full((4, window, features), -7, dtype=dtype)
    module.launch(values, last, window, out, block=8)
    assert torch.equal(out, slices(values, last, window))


@pytest.mark.interpret
@DTYPES
def test_the_triton_kernel_never_reads_outside(dtype):
    values, last = table(5, 2, dtype), torch.tensor([1, 4, 5, -3])
    out = torch.zeros(4, 3, 2, dtype=dtype)
    module.launch(values, last, 3, out, block=8)
    bad = out[[0, 2, 3]]
    assert bad.isnan().all() if dtype.is_floating_point else (bad == torch.iinfo(dtype).min).all()
    assert torch.equal(out[1], values[2:5])


@pytest.mark.interpret
def test_the_triton_kernel_with_nothing_to_do():
    module.launch(table(5, 2), torch.empty(0, dtype=torch.int64), 3, torch.empty(0, 3, 2))


@pytest.mark.gpu
@DTYPES
def test_the_gpu_copies(dtype):
    values, last = table(5003, 128, dtype), torch.randint(63, 5003, (512,))
    assert torch.equal(gather_windows(values.cuda(), last.cuda(), 64).cpu(), slices(values, last, 64))
