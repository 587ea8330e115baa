"""The GPU gives the CPU's bits, float columns included."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gpu_pipeline.bars._make import make_resolutions
from gpu_pipeline.core.schema import BAR_COLUMNS, Trades
from tests.bars.market import random_trades
from tests.bars.test_fold import CASES

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def on_gpu(trades: Trades) -> Trades:
    return replace(trades, **{name: getattr(trades, name).cuda() for name in Trades.COLUMNS})


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rows", [1, 4_999, 200_000])
def test_cuda_is_the_cpu(case, rows):
    trades = random_trades(rows, rows)
    expected, found = make_resolutions(trades, **case), make_resolutions(on_gpu(trades), **case)
    chunks = make_resolutions([on_gpu(trades[: rows // 3]), on_gpu(trades[rows // 3 :])], **case)
    for resolution, bars in expected.items():
        for name in BAR_COLUMNS:
            assert found[resolution].columns[name].device.type == "cuda"
            for other in (found, chunks):
                assert other[resolution].columns[name].cpu().numpy().tobytes() == bars.columns[name].numpy().tobytes()
        assert (found[resolution].partial is None) == (bars.partial is None)
