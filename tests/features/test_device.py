"""The GPU gives the CPU's features within the tolerance that each declares."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._make import make_features
from gpu_pipeline.features._set import read_set
from tests.features.factory import market, random_tape

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
SET = "configs/features/standard.yaml"


def on_gpu(bars: Bars) -> Bars:
    return replace(bars, columns={name: column.cuda() for name, column in bars.columns.items()})


def test_cuda_agrees_with_the_cpu():
    bars = market(random_tape(40_000, seed=3, minutes=600.0), 1_000_000.0)
    expected = make_features(bars, SET)
    found = make_features({name: on_gpu(table) for name, table in bars.items()}, SET)
    tolerance = max(choice.feature.tolerance for choice in read_set(SET))
    assert found.names == expected.names and found.values.is_cuda and found.known_ns.is_cuda
    for column, name in enumerate(expected.names):
        wanted, got = expected.values[:, column], found.values[:, column].cpu()
        largest = wanted[wanted.isfinite()].abs().max().item() if wanted.isfinite().any() else 0.0
        torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * largest, equal_nan=True, msg=name)
