"""What a model must beat: class frequencies, and the label that had last ended."""

from __future__ import annotations

import numpy as np

from train.metrics._tables import Floats, Ints

BASELINES = ("majority", "persistence")


def frequencies(target: Ints, classes: int) -> Floats:
    """Shares [C] of the classes among `target` [N]; entries below 0 do not count."""
    counts = np.bincount(target[target >= 0], minlength=classes)
    shares: Floats = counts / counts.sum()
    return shares


def majority(train_target: Ints, classes: int, samples: int) -> Floats:
    """Class frequencies of the training part for every sample: [samples, C]."""
    return np.tile(frequencies(train_target, classes), (samples, 1))


def last_ended(decision_ns: Ints, t_end_ns: Ints) -> Ints:
    """For each sample of one symbol the latest earlier sample whose label had ended by then, -1 where there is none.

    Ended means `t_end <= decision time`. The sample just before usually has not: its label lies in the future.

    Args:
        decision_ns: [W] int64, non-decreasing.
        t_end_ns: [W] int64; below 0: the label never ends.
    """
    samples = len(decision_ns)
    position = np.arange(samples)
    seen_from = np.maximum(np.searchsorted(decision_ns, t_end_ns, side="left"), position + 1)
    seen_from[t_end_ns < 0] = samples
    latest = np.full(samples + 1, -1, np.int64)
    np.maximum.at(latest, seen_from, position)
    return np.maximum.accumulate(latest[:samples])


def previous_labels(target: Ints, decision_ns: Ints, t_end_ns: Ints, symbol_id: Ints) -> Ints:
    """Label of the latest ended sample of the same symbol, -1 where there is none: [W] int64."""
    previous = np.full(len(target), -1, np.int64)
    for symbol in np.unique(symbol_id):
        rows = np.flatnonzero(symbol_id == symbol)
        source = last_ended(decision_ns[rows], t_end_ns[rows])
        previous[rows] = np.where(source >= 0, target[rows[source]], -1)
    return previous


def persistence(previous: Ints, target: Ints, train: Ints, classes: int) -> Floats:
    """Probabilities [W, C]: the training part's table of label given the label that had last ended.

    A sample without an ended label, or with one that never occurs as such in training, gets the class frequencies.

    Args:
        previous: [W] from `previous_labels`.
        target: [W] class indices, -1 where the class has no output.
        train: positions of the training part.
        classes: C.
    """
    now, before = target[train], previous[train]
    both = (now >= 0) & (before >= 0)
    counts = np.bincount(before[both] * classes + now[both], minlength=classes * classes).reshape(classes, classes)
    overall = frequencies(now, classes)
    seen = counts.sum(1, keepdims=True)
    table = np.where(seen > 0, counts / np.maximum(seen, 1), overall)
    return np.where(previous[:, None] >= 0, table[np.maximum(previous, 0)], overall)
