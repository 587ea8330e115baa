"""Ranks columns by what gradient-boosted trees lose without them, on a later slice of the training part."""

from __future__ import annotations

from pydantic import Field

from gpu_pipeline.core.plugins import Options
from train.selectors._importance import fit_and_permute
from train.selectors._study import Study, Verdict

RANKS = True


class Config(Options):
    """The trees and how their columns are weighed.

    Attributes:
        iterations: trees per class.
        learning_rate: share of each tree that counts.
        leaves: of a tree at most.
        least_leaf: samples in a leaf at least.
        later: share of the sample, the last in time, that is permuted.
        repeats: permutations of each column.
    """

    iterations: int = Field(default=60, gt=0)
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    leaves: int = Field(default=15, gt=1)
    least_leaf: int = Field(default=20, gt=0)
    later: float = Field(default=0.25, gt=0, lt=1)
    repeats: int = Field(default=3, gt=0)


def judge(study: Study, config: Config) -> Verdict:
    """Growth of the log loss of scikit-learn's histogram gradient boosting by permutation."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    # Early stopping would draw its validation rows from all over the slice.
    model = HistGradientBoostingClassifier(
        max_iter=config.iterations,
        learning_rate=config.learning_rate,
        max_leaf_nodes=config.leaves,
        min_samples_leaf=config.least_leaf,
        early_stopping=False,
        random_state=study.seed % 2**32,
    )
    lost, facts = fit_and_permute(study, model, config.later, config.repeats, study.jobs)
    return Verdict(score=lost, facts=facts)
