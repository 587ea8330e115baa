"""Logarithms whose bits depend on the value alone, beside torch's."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench._inputs import size, walk, words
from bench._measure import Case
from kernels import elementwise

TESTS = "tests/kernels/test_elementwise.py"


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """One column of prices."""
    rows = size(device, tiny, cpu=10_000_000, cuda=400_000_000, small=10_000)
    x = walk(rows, 1, device)
    shape = f"{words(rows)} values"
    yield Case("log", "ours", shape, rows, "values", lambda: elementwise.log(x), 2 * x.nbytes)
    yield Case("log", "torch", shape, rows, "values", lambda: torch.log(x), 2 * x.nbytes)
