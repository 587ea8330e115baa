"""Prunes columns that follow a better one: of all whose correlation exceeds a limit, the most informative stays.

Columns are taken by falling mutual information with the target (or in their own order); one stays if its |r| with every
column that stayed before is at most `limit`, else it joins the cluster of the one that it follows closest. So columns
that stay never exceed the limit among themselves, and a pruned one always exceeds it with the head of its cluster.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from gpu_pipeline.core.plugins import Options
from train.metrics._tables import Floats
from train.selectors._information import information
from train.selectors._relation import Method, correlations
from train.selectors._study import Study, Verdict

RANKS = False


class Config(Options):
    """When two columns are the same.

    Attributes:
        limit: largest |r| between two columns that stay.
        method: `spearman` (by rank) or `pearson`.
        keep: which of a cluster stays: that with the most `mutual_information` (equal: the first), or the `first`.
    """

    limit: float = Field(default=0.95, gt=0, lt=1)
    method: Method = "spearman"
    keep: Literal["mutual_information", "first"] = "mutual_information"


def judge(study: Study, config: Config) -> Verdict:
    """Prunes by correlation over all training samples."""
    matrix = correlations(study, config.method)
    worth = information(study) if config.keep == "mutual_information" else np.zeros(len(study.columns))
    order = np.argsort(-worth, kind="stable")
    head = clusters(np.abs(matrix), order, config.limit)
    names = study.columns
    pruned = [place for place in range(len(names)) if head[place] != place]
    return Verdict(
        dropped={names[place]: f"r = {matrix[place, head[place]]:.4f} with {names[head[place]]}" for place in pruned},
        tables={
            "correlation": pa.table({"column": names, **{name: matrix[:, p] for p, name in enumerate(names)}}),
            "correlation_clusters": pa.table(
                {
                    "kept": pa.array([names[head[place]] for place in pruned], pa.string()),
                    "pruned": pa.array([names[place] for place in pruned], pa.string()),
                    "correlation": np.array([matrix[place, head[place]] for place in pruned], np.float64),
                }
            ),
        },
        facts={"clusters": len({head[place] for place in pruned})},
        draw=lambda figure: _draw(figure, matrix, config.method),
    )


def clusters(strength: Floats, order: Any, limit: float) -> list[int]:
    """The head of each column's cluster [F]: itself where it stays.

    Args:
        strength: [F, F] absolute correlations.
        order: F positions, the one to keep first.
        limit: above it two columns are the same.
    """
    head = list(range(len(strength)))
    kept: list[int] = []
    for place in map(int, order):
        closest = max(kept, key=lambda other: strength[place, other], default=place)
        if closest != place and strength[place, closest] > limit:
            head[place] = closest
        else:
            kept.append(place)
    return head


def _draw(figure: Any, matrix: Floats, method: str) -> None:
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_title(f"{method} correlation of {len(matrix):,} columns, in the order of the dataset")
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, shrink=0.8)
