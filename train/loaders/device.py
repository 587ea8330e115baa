"""Streams resident on the device, windows gathered when a batch is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.dataset.order import rank_slice
from gpu_pipeline.dataset.tables import Batch, Dataset
from kernels.window_gather import gather_windows
from train.loaders._plan import Buffers, plan_epoch, stream_names


class Config(Options):
    """No keys."""


def load(
    dataset: Dataset,
    part: str,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    device: torch.device,
    shuffle: bool,
    inputs: Sequence[str] | None = None,
    reuse: bool = False,
) -> Iterator[Batch]:
    """One rank's slices of an epoch's global batches.

    Args:
        dataset: with its streams on `device`.
        part: train, validation or test.
        batch_size: samples of a global batch, over all ranks.
        seed: of the run.
        epoch: counted from 0.
        rank: of this process.
        world: number of processes.
        device: where batches are wanted.
        shuffle: True: the order of training, the last short batch dropped; False: decision order, all samples.
        inputs: streams to gather, all by default.
        reuse: write all batches into the same window tensors: a batch is valid until the next one is asked for.

    Raises:
        InputError: no such part or stream, or the dataset lives elsewhere.
    """
    names = stream_names(dataset, inputs)
    _require_resident(dataset, names, torch.device(device))
    plan = plan_epoch(dataset, part, batch_size, seed, epoch, shuffle)
    order = list(dataset.streams)
    last = {name: dataset.index[:, order.index(name)].contiguous() for name in names}
    buffers = Buffers(dataset, names, torch.device(device), reuse)
    for batch, total in zip(plan.batches, plan.totals, strict=True):
        sample = dataset.parts[part][rank_slice(batch, rank, world)]
        windows = buffers.get(len(sample))
        for name, out in windows.items():
            stream = dataset.streams[name]
            gather_windows(stream.values, last[name][sample], stream.window, out)
        yield Batch(windows, dataset.target[sample], dataset.weight[sample], sample, total)


def _require_resident(dataset: Dataset, names: Sequence[str], device: torch.device) -> None:
    for name in names:
        found = dataset.streams[name].values.device
        if found.type != device.type:
            raise InputError(
                f"loader 'device': stream '{name}' is on {found}, batches are wanted on {device}; "
                "load the dataset with resident=True, or use the loader 'webdataset'"
            )
