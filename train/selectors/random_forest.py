"""Ranks columns by what a random forest loses without them, on a later slice of the training part.

On a cuda device the forest is cuML's where that is installed; else it is scikit-learn's, on the CPU.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from pydantic import Field

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from train.selectors._importance import fit_and_permute
from train.selectors._study import Study, Verdict

RANKS = True
log = logging.getLogger("gpu_pipeline")


class Config(Options):
    """The forest and how its columns are weighed.

    Attributes:
        trees: how many.
        depth: of a tree at most.
        least_leaf: samples in a leaf at least.
        importance: `permutation` on the later slice, or `impurity` on the slice fitted on (Breiman 2001; it favours
            columns with many values, and is reported beside the other).
        later: share of the sample, the last in time, that is permuted.
        repeats: permutations of each column.
    """

    trees: int = Field(default=100, gt=0)
    depth: int = Field(default=8, gt=0)
    least_leaf: int = Field(default=20, gt=0)
    importance: Literal["permutation", "impurity"] = "permutation"
    later: float = Field(default=0.25, gt=0, lt=1)
    repeats: int = Field(default=3, gt=0)


def judge(study: Study, config: Config) -> Verdict:
    """Growth of the log loss by permutation, or the mean decrease in impurity."""
    on_gpu = study.device == "cuda" and find_spec("cuml") is not None
    if study.device == "cuda" and not on_gpu:
        log.info("select: random_forest: cuML is not installed, so scikit-learn's forest grows on the CPU")
    model = _cuml(study, config) if on_gpu else _sklearn(study, config)
    lost, facts = fit_and_permute(study, model, config.later, config.repeats, 1 if on_gpu else study.jobs)
    found = getattr(model, "feature_importances_", None)
    impurity = None if found is None else np.asarray(found, np.float64)
    if config.importance == "impurity" and impurity is None:
        raise InputError("select: random_forest: cuML's forest has no impurity; set importance: permutation")
    return Verdict(
        score=lost if config.importance == "permutation" else impurity,
        numbers={} if impurity is None else {"random_forest_impurity": impurity},
        facts={**facts, "library": "cuml" if on_gpu else "scikit-learn"},
    )


def _sklearn(study: Study, config: Config) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        n_estimators=config.trees,
        max_depth=config.depth,
        min_samples_leaf=config.least_leaf,
        random_state=study.seed % 2**32,
        n_jobs=study.jobs,
    )


def _cuml(study: Study, config: Config) -> Any:
    from cuml.ensemble import RandomForestClassifier

    # One stream: several give trees that differ from run to run.
    return RandomForestClassifier(
        n_estimators=config.trees,
        max_depth=config.depth,
        min_samples_leaf=config.least_leaf,
        max_features="sqrt",
        random_state=study.seed % 2**31,
        n_streams=1,
    )
