"""The GPU gives the CPU's batches, and a training step of the CPU's loss within float32."""

from __future__ import annotations

import pytest
import torch

from bench.loaders import BATCH, made
from bench.train_step import MODELS, step_of
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.dataset.shards import write_shards
from train.loaders import device as resident
from train.loaders import webdataset

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("loader", [resident, webdataset])
def test_batches_are_those_of_the_cpu(loader, tmp_path):
    host = made(4 * BATCH, CPU, tmp_path)
    write_shards(host, tmp_path / "shards", Trace())
    there = made(4 * BATCH, CUDA, tmp_path)
    options = {"batch_size": BATCH, "seed": 3, "epoch": 1, "shuffle": True}
    wanted = resident.load(host, "train", device=CPU, **options)
    for one, other in zip(wanted, loader.load(there, "train", device=CUDA, **options), strict=True):
        assert other.inputs["bars"].is_cuda and one.weight_total == other.weight_total
        assert torch.equal(one.inputs["bars"], other.inputs["bars"].cpu())
        for name in ("target", "weight", "sample"):
            assert torch.equal(getattr(one, name), getattr(other, name).cpu())


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_gives_the_loss_of_the_cpu(name):
    here, there = step_of(name, 32, CPU), step_of(name, 32, CUDA)
    for _ in range(3):
        torch.testing.assert_close(there().cpu(), here(), rtol=2e-3, atol=0)
