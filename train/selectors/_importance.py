"""Permutation importance on a later, purged slice of the training part."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from train.metrics._tables import Floats, Ints
from train.selectors._study import Study, one_thread


def fit_and_permute(
    study: Study, model: Any, later: float, repeats: int, jobs: int
) -> tuple[Floats, dict[str, int | float]]:
    """How much the log loss on the later half grows when a column is permuted there [F], and what it was made of.

    Args:
        study: the columns.
        model: an unfitted classifier; it is fitted here on the earlier half.
        later: share of the sample, the last in time, to permute on.
        repeats: permutations of each column; the mean counts.
        jobs: threads.
    """
    from joblib import parallel_config
    from sklearn.inspection import permutation_importance

    before, after = study.halves(later)
    classes = np.unique(study.target[before])
    target = np.searchsorted(classes, study.target).astype(np.int64)
    with one_thread():
        model.fit(study.values[before], target[before])
    # A forest adds up the trees of several threads in the order in which they finish.
    if "n_jobs" in model.get_params():
        model.set_params(n_jobs=1)
    score = _score(len(classes), study, repeats * len(study.columns))
    with parallel_config(backend="threading"):
        found = permutation_importance(
            model,
            study.values[after],
            target[after],
            scoring=score,
            n_repeats=repeats,
            random_state=study.seed % 2**32,
            n_jobs=jobs,
        )
    facts = {"fitted_on": len(before), "permuted_on": len(after)}
    return found.importances_mean, {**facts, "log_loss": round(-score(model, study.values[after], target[after]), 9)}


def _score(classes: int, study: Study, total: int) -> Callable[[Any, Any, Ints], float]:
    from sklearn.metrics import log_loss

    calls = count()

    def score(model: Any, x: Any, target: Ints) -> float:
        study.tick(0, f"{type(model).__name__}, permutation {next(calls):,} of {total:,}")
        with one_thread():
            probability = np.asarray(model.predict_proba(x), np.float64)
        probability /= probability.sum(1, keepdims=True)
        return -float(log_loss(target, probability, labels=range(classes)))

    return score
