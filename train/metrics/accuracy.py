"""Share of samples whose most probable class is the true one."""

from __future__ import annotations

import numpy as np

from gpu_pipeline.core.plugins import Options
from train.metrics._tables import Floats, Ints

MAXIMIZE = True


class Config(Options):
    """No options."""


def compute(target: Ints, probability: Floats, weight: Floats) -> float:
    """Weighted accuracy of `probability` [N, C] against `target` [N]; NaN where all of `weight` [N] is 0."""
    total = float(weight.sum())
    return float(weight[probability.argmax(1) == target].sum() / total) if total else float(np.nan)
