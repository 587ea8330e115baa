"""Weighted counts that several metrics share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def confusion(target: Ints, probability: Floats, weight: Floats) -> Floats:
    """Weighted counts [C, C]: rows are true classes, columns the most probable ones (the first of equals)."""
    classes = probability.shape[1]
    cell = target * classes + probability.argmax(1)
    counts: Floats = np.bincount(cell, weights=weight, minlength=classes * classes).astype(np.float64)
    return counts.reshape(classes, classes)


def f1_by_class(table: Floats) -> tuple[Floats, Floats, Floats]:
    """F1 [C], support [C] and whether the class occurs or is predicted, from a confusion table."""
    support, predicted = table.sum(1), table.sum(0)
    occurs = support + predicted > 0
    return 2 * table.diagonal() / np.where(occurs, support + predicted, 1), support, occurs
