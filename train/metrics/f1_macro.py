"""F1 averaged over the classes that occur or are predicted, each counting the same."""

from __future__ import annotations

from gpu_pipeline.core.plugins import Options
from train.metrics._tables import Floats, Ints, confusion, f1_by_class

MAXIMIZE = True


class Config(Options):
    """No options."""


def compute(target: Ints, probability: Floats, weight: Floats) -> float:
    """Macro F1 of `probability` [N, C] against `target` [N]; NaN where all of `weight` [N] is 0."""
    scores, _, occurs = f1_by_class(confusion(target, probability, weight))
    return float(scores[occurs].mean()) if occurs.any() else float("nan")
