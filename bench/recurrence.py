"""Exponential and Wilder smoothing of many columns, beside TA-Lib in C on one thread."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench._inputs import installed, size, walk, words
from bench._measure import Case
from kernels.recurrence import KINDS, initial_state, smooth

TESTS = "tests/kernels/test_recurrence.py"
WINDOW = 14


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """One window over all columns."""
    rows = size(device, tiny, cpu=2_000_000, cuda=2_000_000, small=10_000)
    columns = size(device, tiny, cpu=14, cuda=200, small=3)
    x, state, shape = walk(rows, columns, device), initial_state(columns, device), f"{words(rows)} x {columns}"
    for kind in KINDS:
        call = lambda kind=kind: smooth(x, WINDOW, kind, state)  # noqa: E731
        yield Case(f"smooth {kind}", "ours", shape, x.numel(), "values", call, 2 * x.nbytes)
        if kind == "ema" and device.type == "cpu" and installed("talib"):
            yield Case(f"smooth {kind}", "TA-Lib, 1 thread", shape, x.numel(), "values", _talib(x), 2 * x.nbytes)


def _talib(x: torch.Tensor):
    import talib

    arrays = [column.numpy().copy() for column in x.T]
    return lambda: [talib.EMA(array, WINDOW) for array in arrays]
