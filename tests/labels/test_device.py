"""The GPU gives the CPU's labels (its ATR agrees within rounding, so a price may differ in the last place)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gpu_pipeline.labels._make import make_labels
from tests.labels.market import random_bars

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("name", ["triple_barrier", "null_symmetric"])
@pytest.mark.parametrize("rows", [0, 1, 10_007])
def test_cuda_is_the_cpu(name, rows):
    bars = random_bars(4, rows)
    there = replace(bars, columns={key: column.cuda() for key, column in bars.columns.items()})
    expected, found = make_labels(bars, name), make_labels(there, name)
    for column in ("code", "valid", "t_end", "known_row"):
        assert getattr(found, column).device.type == "cuda"
        assert getattr(found, column).cpu().equal(getattr(expected, column))
    torch.testing.assert_close(found.label_return.cpu(), expected.label_return, rtol=0, atol=1e-12, equal_nan=True)
