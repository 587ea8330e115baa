"""Ranks columns by their mutual information with the target, each by itself.

The estimate takes samples as independent. Labels that overlap make it too large for columns that change slowly: samples
close in value are then close in time and share their label. A smaller `max_samples` spaces the samples out.
"""

from __future__ import annotations

from pydantic import Field

from gpu_pipeline.core.plugins import Options
from train.selectors._information import NEIGHBOURS, information
from train.selectors._study import Study, Verdict

RANKS = True


class Config(Options):
    """The estimator.

    Attributes:
        neighbours: k of the nearest-neighbour estimate (Ross 2014).
    """

    neighbours: int = Field(default=NEIGHBOURS, gt=0)


def judge(study: Study, config: Config) -> Verdict:
    """Nats, estimated on the sample."""
    return Verdict(score=information(study, config.neighbours))
