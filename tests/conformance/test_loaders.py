"""What every loader must keep, files not yet written included: order, slices, and the bits of the rows."""

from __future__ import annotations

import inspect

import pytest
import torch

from gpu_pipeline.core import plugins
from gpu_pipeline.dataset.data import Batch, load_dataset
from gpu_pipeline.dataset.order import global_batches, rank_slice
from tests.conformance.options import example
from tests.dataset.market import CPU, config, market, write

NAMES = plugins.names("loaders")
ARGUMENTS = {"batch_size", "seed", "epoch", "rank", "world", "device", "shuffle", "inputs"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load_dataset(write(tmp_path_factory.mktemp("store"), market(), config("webdataset")).path, CPU)


def test_there_are_loaders():
    assert {"device", "webdataset"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_config_and_signature(name):
    plugin = plugins.load("loaders", name)
    assert plugin.summary and example(plugin.config) is not None
    assert set(inspect.signature(plugin.function).parameters) >= ARGUMENTS | {"dataset", "part"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world", [1, 2])
def test_batches_are_those_of_the_order(name, dataset, shuffle, world):
    load = plugins.load("loaders", name).function
    train, segments = dataset.parts["train"], dataset.segment_of("train")
    wanted = list(global_batches(train, segments, 5, 2, 32, train=shuffle))
    for rank in range(world):
        keys = {"batch_size": 32, "seed": 5, "epoch": 2, "rank": rank, "world": world, "device": CPU}
        found = list(load(dataset, "train", shuffle=shuffle, **keys))
        assert len(found) == len(wanted)
        for batch, order in zip(found, wanted, strict=True):
            assert isinstance(batch, Batch) and isinstance(batch.weight_total, float)
            assert torch.equal(batch.sample, rank_slice(order, rank, world))
            assert torch.equal(batch.target, dataset.target[batch.sample])
            for s, (stream, data) in enumerate(dataset.streams.items()):
                rows = dataset.index[batch.sample, s][:, None] + torch.arange(1 - data.window, 1)
                assert torch.equal(batch.inputs[stream], data.values[rows])
