"""What every loader shares: the global batches of an epoch, and the sum of weights of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_pipeline.core.errors import InputError, nearest
from gpu_pipeline.dataset.order import GROUP, cut_batches, epoch_order
from gpu_pipeline.dataset.tables import Dataset


@dataclass(frozen=True)
class Plan:
    """One epoch over one part.

    Attributes:
        batches: positions within the part, [batch_size] int64 each, the last one may be shorter.
        totals: sum of the weights of each batch over all ranks.
    """

    batches: tuple[Tensor, ...]
    totals: list[float]


def plan_epoch(dataset: Dataset, part: str, batch_size: int, seed: int, epoch: int, shuffle: bool) -> Plan:
    """The batches of `part` in the order of dataset/order.py; in decision order and complete where not shuffled."""
    if part not in dataset.parts:
        hint = nearest(part, dataset.parts)
        raise InputError(f"loader: no part '{part}'" + (f"; did you mean '{hint}'?" if hint else ""))
    order = epoch_order(dataset.segment_of(part), seed, epoch, GROUP, shuffle)
    batches = cut_batches(order, batch_size, shuffle)
    weights = [dataset.weight[dataset.parts[part][batch]].to(torch.float64).sum() for batch in batches]
    return Plan(batches, torch.stack(weights).tolist() if weights else [])


def stream_names(dataset: Dataset, inputs: Sequence[str] | None) -> tuple[str, ...]:
    """The streams that a model asked for, all of them by default."""
    for name in inputs or ():
        if name not in dataset.streams:
            raise InputError(f"loader: no stream '{name}'; the dataset has {', '.join(dataset.streams)}")
    return tuple(dataset.streams) if inputs is None else tuple(inputs)


class Buffers:
    """Window tensors that are written again and again, or fresh ones for every batch."""

    def __init__(self, dataset: Dataset, names: Sequence[str], device: torch.device, reuse: bool) -> None:
        streams = {name: dataset.streams[name] for name in names}
        self._shapes = {name: (stream.window, len(stream.columns)) for name, stream in streams.items()}
        self._device, self._reuse = device, reuse
        self._kept: dict[str, Tensor] = {}

    def get(self, count: int) -> dict[str, Tensor]:
        """Stream -> [count, window, F] float32, not initialised."""
        return {name: self._one(name, count) for name in self._shapes}

    def _one(self, name: str, count: int) -> Tensor:
        kept = self._kept.get(name)
        if kept is None or len(kept) < count:
            kept = torch.empty(count, *self._shapes[name], dtype=torch.float32, device=self._device)
        if self._reuse:
            self._kept[name] = kept
        return kept[:count]
