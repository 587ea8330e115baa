"""F1 averaged over classes by how often each occurs."""

from __future__ import annotations

from gpu_pipeline.core.plugins import Options
from train.metrics._tables import Floats, Ints, confusion, f1_by_class

MAXIMIZE = True


class Config(Options):
    """No options."""


def compute(target: Ints, probability: Floats, weight: Floats) -> float:
    """Support-weighted F1 of `probability` [N, C] against `target` [N]; NaN where all of `weight` [N] is 0."""
    scores, support, _ = f1_by_class(confusion(target, probability, weight))
    return float((scores * support).sum() / support.sum()) if support.sum() else float("nan")
