"""The order in which samples are seen, defined once for every loader.

Segments are permuted by (seed, epoch); samples are permuted within each group of `group` segments; global batches are
cut from that, and a rank takes its slice. Everything is integer arithmetic (SplitMix64, Steele, Lea and Flood 2014) and
stable sorting, so the order is the same on every device, platform and version of torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gpu_pipeline.core.errors import InputError

GROUP = 8
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_SEGMENTS, _SAMPLES = 1, 2


def segment_groups(count: int, seed: int, epoch: int, group: int = GROUP, train: bool = True) -> list[list[int]]:
    """Segments 0..count-1 in groups of `group`, in the order in which an epoch reads them."""
    ranks = _permutation(torch.arange(count), _stream(seed, epoch, _SEGMENTS)) if train else torch.arange(count)
    return [ranks[start : start + group].tolist() for start in range(0, count, group)]


def epoch_order(segment_of: Tensor, seed: int, epoch: int, group: int = GROUP, train: bool = True) -> Tensor:
    """Positions 0..n-1 in the order of one epoch: [n] int64 on the device of `segment_of`.

    Args:
        segment_of: [n] int64 segment of each position, numbered from 0 without gaps.
        seed: of the run.
        epoch: counted from 0.
        group: segments whose samples are mixed with each other.
        train: False: in order.
    """
    positions = torch.arange(len(segment_of), device=segment_of.device)
    if not train or not len(positions):
        return positions
    groups = segment_groups(int(segment_of.max()) + 1, seed, epoch, group)
    place = torch.empty(sum(map(len, groups)), dtype=torch.int64)
    for number, members in enumerate(groups):
        place[members] = number
    mixed = _permutation(positions, _stream(seed, epoch, _SAMPLES))
    by_group = torch.argsort(place.to(segment_of.device)[segment_of[mixed]], stable=True)
    return mixed[by_group]


def global_batches(
    samples: Tensor,
    segment_of: Tensor,
    seed: int,
    epoch: int,
    batch_size: int,
    group: int = GROUP,
    train: bool = True,
) -> Iterator[Tensor]:
    """Batches over all ranks: [batch_size] int64 entries of `samples`.

    The last short batch of training is dropped, unless it is the only one; evaluation is in order and drops nothing.
    """
    ordered = samples[epoch_order(segment_of, seed, epoch, group, train)]
    return iter(cut_batches(ordered, batch_size, train))


def cut_batches(ordered: Tensor, batch_size: int, train: bool) -> tuple[Tensor, ...]:
    """Consecutive pieces of `batch_size`; a last short one is dropped in training, unless it is the only one."""
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1 (value {batch_size})")
    whole = len(ordered) // batch_size * batch_size
    kept = ordered[:whole] if train and whole else ordered
    return tuple(kept[start : start + batch_size] for start in range(0, len(kept), batch_size))


def rank_slice(batch: Tensor, rank: int, world: int) -> Tensor:
    """The samples of one rank: positions rank, rank + world, ... of the global batch."""
    if not 0 <= rank < world:
        raise InputError(f"rank must be in 0..world-1 (rank {rank}, world {world})")
    return batch[rank::world]


def _stream(seed: int, epoch: int, purpose: int) -> int:
    state = 0
    for word in (seed, epoch, purpose):
        state = _splitmix((state ^ word) & _MASK)
    return state


def _splitmix(state: int) -> int:
    z = (state + _GOLDEN) & _MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)


def _permutation(items: Tensor, base: int) -> Tensor:
    """Items sorted by the SplitMix64 value of `base + (item + 1) x golden`, as signed integers, ties by item."""
    z = items * _signed(_GOLDEN) + _signed(base + _GOLDEN & _MASK)
    z = (z ^ _shift(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift(z, 27)) * _signed(0x94D049BB133111EB)
    return items[torch.argsort(z ^ _shift(z, 31), stable=True)]


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _shift(values: Tensor, bits: int) -> Tensor:
    return (values >> bits) & ((1 << (64 - bits)) - 1)
