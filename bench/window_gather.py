"""Batches of windows out of a resident table, beside fancy indexing; on CUDA also as a captured graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import torch
from torch import Tensor

from bench._inputs import size, words
from bench._measure import Case
from kernels.window_gather import gather_windows

TESTS = "tests/kernels/test_window_gather.py"
WINDOW, FEATURES, BATCH = 64, 128, 512
# Different windows in turn: those of one batch would stay in a GPU's cache (17 MB a batch).
BATCHES = 16


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """512 windows of 64 x 128 float32, written again and again into one buffer."""
    rows = size(device, tiny, cpu=100_000, cuda=2_000_000, small=5_000)
    values = torch.randn(rows, FEATURES, device=device)
    order = torch.randint(WINDOW - 1, rows, (BATCHES, BATCH), device=device)
    out = torch.empty(BATCH, WINDOW, FEATURES, device=device)
    shape, moved = f"{BATCH} of {WINDOW}x{FEATURES}, {words(rows)} rows", 2 * out.nbytes
    back = torch.arange(-WINDOW + 1, 1, device=device)

    def case(implementation: str, one: Callable[[Tensor], object]) -> Case:
        batches = cycle(order)
        call = lambda: one(next(batches))  # noqa: E731
        return Case("gather_windows", implementation, shape, BATCH, "samples", call, moved)

    yield case("ours", lambda last: gather_windows(values, last, WINDOW, out))
    yield case("torch indexing", lambda last: values[last[:, None] + back])
    if device.type == "cpu":
        array, steps = values.numpy(), back.numpy()
        yield case("numpy indexing", lambda last: array[last.numpy()[:, None] + steps])
        return
    graph = _captured(lambda: [gather_windows(values, last, WINDOW, out) for last in order])
    yield Case("gather_windows", "ours, CUDA graph", shape, BATCH * BATCHES, "samples", graph.replay, moved * BATCHES)


def _captured(call: Callable[[], object]) -> torch.cuda.CUDAGraph:
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph
