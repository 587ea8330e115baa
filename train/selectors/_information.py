"""Mutual information of single columns and the target, estimated once per column."""

from __future__ import annotations

import numpy as np

from train.metrics._tables import Floats
from train.selectors._study import Study

NEIGHBOURS = 3


def information(study: Study, neighbours: int = NEIGHBOURS) -> Floats:
    """Mutual information [F] in nats (Ross 2014, as in scikit-learn's `mutual_info_classif`) on the sample.

    Every column is estimated by itself, so its number does not depend on the others.
    """
    from sklearn.feature_selection import mutual_info_classif
    from sklearn.utils.parallel import Parallel, delayed

    missing = [place for place, name in enumerate(study.columns) if (name, neighbours) not in study.known]
    target = study.target[study.sample]

    def one(place: int) -> float:
        column = study.values[study.sample, place : place + 1]
        found = mutual_info_classif(column, target, n_neighbors=neighbours, random_state=study.seed % 2**32)
        return float(found[0])

    made = Parallel(n_jobs=study.jobs, backend="threading", return_as="generator")(delayed(one)(p) for p in missing)
    for number, (place, value) in enumerate(zip(missing, made, strict=True), start=1):
        study.known[study.columns[place], neighbours] = value
        study.tick(0, f"mutual information, column {number:,} of {len(missing):,}")
    return np.array([study.known[name, neighbours] for name in study.columns])
