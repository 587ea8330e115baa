"""Ranks columns by recursive elimination: a logistic model is fitted, its smallest coefficients go, and again.

Columns that go together share a rank (Guyon et al. 2002). Values are standardised over the sample and held within five
standard deviations, so that coefficients compare and no outlier rules them.
"""

from __future__ import annotations

import warnings

import numpy as np
from pydantic import Field

from gpu_pipeline.core.plugins import Options
from train.selectors._study import Study, Verdict

RANKS = True
WIDEST = 5.0


class Config(Options):
    """The elimination and its model.

    Attributes:
        step: share of the columns that goes at once.
        inverse_penalty: C of the ridge penalty.
        iterations: of the solver at most.
    """

    step: float = Field(default=0.1, gt=0, lt=1)
    inverse_penalty: float = Field(default=1.0, gt=0)
    iterations: int = Field(default=100, gt=0)


def judge(study: Study, config: Config) -> Verdict:
    """Minus the round, counted from the last one, in which a column went."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_selection import RFE
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if len(study.columns) == 1:
        return Verdict(score=np.zeros(1))
    x = StandardScaler().fit_transform(study.values[study.sample].astype(np.float64)).clip(-WIDEST, WIDEST)
    model = LogisticRegression(C=config.inverse_penalty, max_iter=config.iterations)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ConvergenceWarning)
        search = RFE(model, n_features_to_select=1, step=config.step).fit(x, study.target[study.sample])
    unfinished = sum(issubclass(warning.category, ConvergenceWarning) for warning in told)
    return Verdict(score=-search.ranking_.astype(np.float64), facts={"fits_cut_short": unfinished})
