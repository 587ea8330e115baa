"""Shuffled batches of 64 x 128 windows: resident, from shards, and from torch's own DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Subset

from bench._inputs import scratch, size, words
from bench._measure import Case
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.dataset.shards import write_shards
from gpu_pipeline.dataset.tables import Dataset, StreamData
from train.loaders import device as resident
from train.loaders import webdataset

TESTS = "tests/conformance/test_loaders.py tests/train/test_device.py"
WINDOW, FEATURES, BATCH = 64, 128, 512
PEER_BATCHES = 8


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """One epoch of the training part per call."""
    samples = size(device, tiny, cpu=1 << 16, cuda=1 << 20, small=1 << 11)
    dataset = made(samples, device)
    folder = scratch()
    write_shards(dataset, folder / "shards", Trace())
    sharded = made(samples, device, folder)
    shape = f"{words(samples)} x {WINDOW}x{FEATURES}"
    options = {"batch_size": BATCH, "seed": 7, "epoch": 0, "device": device, "shuffle": True, "reuse": True}
    yield _case("resident", shape, samples, lambda: _drain(resident.load(dataset, "train", **options)))
    yield _case("webdataset shards", shape, samples, lambda: _drain(webdataset.load(sharded, "train", **options)))
    if device.type == "cpu":
        count = min(samples, PEER_BATCHES * BATCH)
        yield _case("torch DataLoader", shape, count, _peer(dataset, count))


def _case(implementation: str, shape: str, samples: int, call: Callable[[], object]) -> Case:
    moved = 2 * samples * WINDOW * FEATURES * 4
    return Case("loader", implementation, shape, samples, "samples", call, moved)


def _drain(batches: Iterator[object]) -> None:
    for _ in batches:
        pass


def _peer(dataset: Dataset, count: int) -> Callable[[], object]:
    loader = DataLoader(Subset(_Windows(dataset), range(count)), batch_size=BATCH, shuffle=True)
    return lambda: _drain(iter(loader))


class _Windows(torch.utils.data.Dataset):
    """What one writes first: a slice per sample."""

    def __init__(self, dataset: Dataset) -> None:
        self.values, self.target = dataset.streams["bars"].values, dataset.target
        self.last = dataset.index[:, 0].tolist()

    def __len__(self) -> int:
        return len(self.last)

    def __getitem__(self, sample: int) -> tuple[torch.Tensor, torch.Tensor]:
        last = self.last[sample]
        return self.values[last - WINDOW + 1 : last + 1], self.target[sample]


def made(samples: int, device: torch.device, folder: Path | None = None) -> Dataset:
    """A dataset of one stream, equal on every device: `samples` for training, one more for each other part."""
    rows = samples + 2 + WINDOW - 1
    random = torch.Generator().manual_seed(7)
    number = torch.arange(rows, device=device)
    names = tuple(f"f{column}" for column in range(FEATURES))
    stream = StreamData(torch.randn(rows, FEATURES, generator=random).to(device), WINDOW, names, number, number)
    index, order = number[WINDOW - 1 :], number[: samples + 2]
    zeros = torch.zeros(samples + 2, device=device)
    return Dataset(
        streams={"bars": stream},
        index=index[:, None].contiguous(),
        target=torch.randint(0, 2, (samples + 2,), generator=random).to(device),
        weight=zeros + 1,
        class_names=("down", "up"),
        decision_ns=index,
        known_ns=index,
        t_end_ns=index + 1,
        end_row=index + 1,
        symbol_id=torch.zeros_like(index),
        symbol_names=("BTCUSDT",),
        label_return=zeros.double(),
        code=torch.zeros_like(index),
        uniqueness=zeros.double() + 1,
        parts={"train": order[:-2], "validation": order[-2:-1], "test": order[-1:]},
        segment_rows=min(4096, samples // 4),
        folder=folder,
    )
