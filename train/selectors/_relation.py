"""Correlation of columns, by values or by ranks."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from train.metrics._tables import Floats
from train.selectors._study import Study

Method = Literal["spearman", "pearson"]


def correlations(study: Study, method: Method) -> Floats:
    """Correlation matrix [F, F] over all training samples; ties share their mean rank.

    It holds one float64 copy of the values: 8 bytes x samples x columns.
    """
    made = np.empty(study.values.shape, np.float64, order="F")
    for place in range(len(study.columns)):
        column = study.values[:, place].astype(np.float64)
        column = pd.Series(column).rank().to_numpy() if method == "spearman" else column
        column = column - column.mean()
        # Scaled first, so that squares of large values stay finite.
        column /= np.abs(column).max() or 1.0
        made[:, place] = column / (np.sqrt(column @ column) or 1.0)
    found: Floats = np.clip(made.T @ made, -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return found
