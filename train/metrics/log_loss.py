"""Mean negative log probability of the true class, in nats."""

from __future__ import annotations

import numpy as np

from gpu_pipeline.core.plugins import Options
from train.metrics._tables import Floats, Ints

MAXIMIZE = False


class Config(Options):
    """No options."""


def compute(target: Ints, probability: Floats, weight: Floats) -> float:
    """Weighted log loss of `probability` [N, C] against `target` [N], probabilities clipped to float64's epsilon.

    NaN where all of `weight` [N] is 0.
    """
    total = float(weight.sum())
    if not total:
        return float("nan")
    true = probability[np.arange(len(target)), target]
    return float(-(weight * np.log(np.clip(true, np.finfo(np.float64).eps, 1.0))).sum() / total)
