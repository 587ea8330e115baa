"""Reports how many directions the columns really have: the variance that principal components explain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from gpu_pipeline.core.plugins import Options
from train.metrics._tables import Floats
from train.selectors._study import Study, Verdict

RANKS = False
SHARES = (0.90, 0.95, 0.99)


class Config(Options):
    """What is reported.

    Attributes:
        loadings: names of the columns with the largest weights, per component.
    """

    loadings: int = Field(default=5, gt=0)


def judge(study: Study, config: Config) -> Verdict:
    """Components of the standardised columns that are left, over all training samples."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    x = StandardScaler(copy=False).fit_transform(study.values.astype(np.float64))
    found = PCA(svd_solver="covariance_eigh", copy=False).fit(x)
    share, total = found.explained_variance_ratio_, np.cumsum(found.explained_variance_ratio_)
    largest = np.argsort(-np.abs(found.components_), axis=1, kind="stable")[:, : config.loadings]
    needed = {f"components_for_{level:.0%}": int(np.searchsorted(total, level - 1e-12)) + 1 for level in SHARES}
    return Verdict(
        tables={
            "pca": pa.table(
                {
                    "component": np.arange(1, len(share) + 1),
                    "explained": share,
                    "cumulative": total,
                    "largest": [", ".join(study.columns[place] for place in row) for row in largest],
                }
            )
        },
        facts=needed,
        draw=lambda figure: _draw(figure, total),
    )


def _draw(figure: Any, total: Floats) -> None:
    axes = figure.subplots()
    axes.plot(np.arange(1, len(total) + 1), total, color="#1f5a94")
    for level in SHARES:
        axes.axhline(level, color="#8a8a8a", linewidth=0.8, linestyle=":")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("principal components")
    axes.set_ylabel("variance explained")
