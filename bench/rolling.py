"""Rolling windows of many columns, beside TA-Lib in C on one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from bench._inputs import installed, size, walk, words
from bench._measure import Case
from kernels.rolling import initial_state, rolling

TESTS = "tests/kernels/test_rolling.py"
WINDOW = 50
TALIB = {"mean": "SMA", "std": "STDDEV", "min": "MIN"}


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """One window over all columns."""
    rows = size(device, tiny, cpu=2_000_000, cuda=2_000_000, small=10_000)
    columns = size(device, tiny, cpu=14, cuda=200, small=3)
    x, state, shape = walk(rows, columns, device), initial_state(WINDOW, columns, device), f"{words(rows)} x {columns}"
    for op in TALIB:
        call = lambda op=op: rolling(x, WINDOW, op, *state)  # noqa: E731
        yield Case(f"rolling {op}", "ours", shape, x.numel(), "values", call, 2 * x.nbytes)
        if device.type == "cpu" and installed("talib"):
            peer = _talib(x, TALIB[op])
            yield Case(f"rolling {op}", "TA-Lib, 1 thread", shape, x.numel(), "values", peer, 2 * x.nbytes)


def _talib(x: torch.Tensor, name: str) -> Callable[[], object]:
    import talib

    function, arrays = getattr(talib, name), [column.numpy().copy() for column in x.T]
    return lambda: [function(array, WINDOW) for array in arrays]
