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


def last_ended(row: Ints, end_row: Ints) -> Ints:
    """For each sample of one symbol the latest earlier sample whose label had ended by then, -1 where there is none.

    Ended means `end_row <= row`: at the close of this very bar at the latest. The sample just before usually has not:
    its label lies in the future. Rows and not times, because bars can share a close time.

    Args:
        row: [W] int64 decision rows, non-decreasing.
        end_row: [W] int64 deciding rows; below 0: the label never ends.
    """
    samples = len(row)
    position = np.arange(samples)
    seen_from = np.maximum(np.searchsorted(row, end_row, side="left"), position + 1)
    seen_from[end_row < 0] = samples
    latest = np.full(samples + 1, -1, np.int64)
    np.maximum.at(latest, seen_from, position)
    return np.maximum.accumulate(latest[:samples])


def previous_labels(target: Ints, row: Ints, end_row: Ints, symbol_id: Ints) -> Ints:
    """Label of the latest ended sample of the same symbol, -1 where there is none: [W] int64."""
    previous = np.full(len(target), -1, np.int64)
    for symbol in np.unique(symbol_id):
        own = np.flatnonzero(symbol_id == symbol)
        source = last_ended(row[own], end_row[own])
        previous[own] = np.where(source >= 0, target[own[source]], -1)
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
