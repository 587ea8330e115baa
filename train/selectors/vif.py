"""Variance inflation: how well the other columns together give a column, 1 / (1 - R²); prunes above a limit.

The factors are the diagonal of the inverse of the correlation matrix (Marquardt 1970). A column that the columns before
it give exactly (R² within 1e-9 of 1) has no finite factor and is dropped first, by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from gpu_pipeline.core.plugins import Options
from train.metrics._tables import Floats
from train.selectors._relation import Method, correlations
from train.selectors._study import Study, Verdict

RANKS = False
EXACT = 1e-9


class Config(Options):
    """How much inflation is too much.

    Attributes:
        limit: the column with the largest factor is dropped until none exceeds this; null only reports.
        method: correlation by `pearson` or `spearman`.
    """

    limit: float | None = Field(default=None, gt=1)
    method: Method = "pearson"


def judge(study: Study, config: Config) -> Verdict:
    """Factors over all training samples; drops exact combinations, and what exceeds the limit."""
    matrix = correlations(study, config.method)
    kept = independent(matrix)
    alone = dict.fromkeys(_without(study.columns, kept), "an exact linear combination of columns before it")
    inverse: Floats = np.linalg.inv(matrix[np.ix_(kept, kept)]).astype(np.float64)
    factor = np.full(len(study.columns), np.inf)
    factor[kept] = inverse.diagonal()
    dropped = {study.columns[kept[place]]: f"VIF {value:.4g}" for place, value in inflated(inverse, config.limit)}
    return Verdict(
        numbers={"vif": factor},
        dropped={**alone, **dropped},
        facts={"exact_combinations": len(alone), "largest": float(factor[kept].max(initial=1.0))},
        draw=lambda figure: _draw(figure, factor[kept]),
    )


def independent(matrix: Floats) -> list[int]:
    """Positions of the columns that those before do not give exactly, by the Cholesky factor row by row."""
    kept: list[int] = []
    factor = np.zeros_like(matrix)
    for place in range(len(matrix)):
        known = len(kept)
        row = np.zeros(known)
        for step in range(known):
            row[step] = (matrix[place, kept[step]] - factor[step, :step] @ row[:step]) / factor[step, step]
        left = 1.0 - row @ row
        if left > EXACT:
            factor[known, :known], factor[known, known] = row, np.sqrt(left)
            kept.append(place)
    return kept


def inflated(inverse: Floats, limit: float | None) -> list[tuple[int, float]]:
    """Positions above the limit with the factor at which each is dropped, the largest first, one at a time."""
    found: list[tuple[int, float]] = []
    left, remaining = list(range(len(inverse))), inverse.copy()
    while limit is not None and left:
        worst = int(np.argmax(remaining.diagonal()))
        value = float(remaining[worst, worst])
        if value <= limit:
            break
        found.append((left.pop(worst), value))
        # The inverse without a row and column: a Schur complement, in place of inverting again.
        others = np.delete(np.arange(len(remaining)), worst)
        reach = remaining[others, worst]
        remaining = remaining[np.ix_(others, others)] - np.outer(reach, reach) / value
    return found


def _without(columns: tuple[str, ...], kept: list[int]) -> list[str]:
    there = set(kept)
    return [name for place, name in enumerate(columns) if place not in there]


def _draw(figure: Any, factor: Floats) -> None:
    axes = figure.subplots()
    axes.plot(np.arange(1, len(factor) + 1), np.sort(factor)[::-1], color="#1f5a94")
    axes.set_yscale("log")
    axes.set_xlabel("columns, by their factor")
    axes.set_ylabel("variance inflation")
