"""Area under the ROC curve: binary, or the mean over one-vs-rest curves of the classes that occur."""

from __future__ import annotations

import numpy as np

from gpu_pipeline.core.plugins import Options
from train.metrics._tables import Floats, Ints

MAXIMIZE = True


class Config(Options):
    """No options."""


def compute(target: Ints, probability: Floats, weight: Floats) -> float:
    """Probability that a positive scores above a negative, ties as one half (Hanley & McNeil 1982).

    Args:
        target: [N] class indices.
        probability: [N, C], rows sum to 1.
        weight: [N] weights or bootstrap counts.

    Returns:
        NaN where fewer than two classes occur.
    """
    if probability.shape[1] == 2:
        return _binary(target == 1, probability[:, 1], weight)
    areas = [_binary(target == column, probability[:, column], weight) for column in range(probability.shape[1])]
    defined = [area for area in areas if not np.isnan(area)]
    return float(np.mean(defined)) if defined else float("nan")


def _binary(positive: np.ndarray, score: Floats, weight: Floats) -> float:
    order = np.argsort(score, kind="stable")
    score, above = score[order], np.where(positive[order], weight[order], 0.0)
    below = weight[order] - above
    starts = np.flatnonzero(np.r_[True, score[1:] != score[:-1]]) if len(score) else np.zeros(0, np.int64)
    positives, negatives = np.add.reduceat(above, starts), np.add.reduceat(below, starts)
    pairs = positives.sum() * negatives.sum()
    if pairs == 0:
        return float("nan")
    before = np.cumsum(negatives) - negatives
    return float((positives * (before + negatives / 2)).sum() / pairs)
