"""Intervals for dependent samples: the moving-block bootstrap (Kunsch 1989) in time order."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from train.metrics._tables import Floats, Ints

SHORTEST_BLOCK = 10


def label_life(decision_ns: Ints, t_end_ns: Ints) -> float:
    """Mean number of later samples whose decisions fall within a sample's own label: decision < d <= t_end."""
    if not len(decision_ns):
        return 0.0
    last = np.searchsorted(decision_ns, t_end_ns, side="right")
    own = np.searchsorted(decision_ns, decision_ns, side="right")
    return float(np.maximum(last - own, 0).mean())


def block_length(life: float) -> int:
    """Samples of a block: twice the mean label life, at least 10."""
    return max(SHORTEST_BLOCK, math.ceil(2 * life))


def resamples(samples: int, block: int, count: int, seed: int) -> Iterator[Ints]:
    """How often each sample is drawn: [samples] int64, `count` times; blocks start anywhere, the last is cut short.

    Nothing where two blocks do not fit: such intervals would say more than the data know.
    """
    if samples < 2 * block:
        return
    random = np.random.default_rng(seed)
    lengths = np.full(-(-samples // block), block)
    lengths[-1] = samples - block * (len(lengths) - 1)
    for _ in range(count):
        starts = random.integers(0, samples - block + 1, len(lengths))
        edges = np.bincount(starts, minlength=samples + 1) - np.bincount(starts + lengths, minlength=samples + 1)
        yield np.cumsum(edges)[:samples]


def interval(values: Floats, confidence: float) -> tuple[float, float]:
    """Percentile interval of resampled values; values that are not defined do not count; NaN where none is."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
