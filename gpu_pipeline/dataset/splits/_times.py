"""What a split sees of the samples: when each decides, and when its labels end."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SampleTimes:
    """Samples in decision order.

    Attributes:
        decision_ns: [W] int64, non-decreasing.
        t_end_ns: [W] int64, when the last of the sample's labels is decided.
        end_row: [W] int64, row of the decision stream at which it is decided.
        row_stop: [W] int64, end of the rows of the sample's symbol.
        row_time_ns: [R] int64 times of the decision stream's rows.
    """

    decision_ns: Tensor
    t_end_ns: Tensor
    end_row: Tensor
    row_stop: Tensor
    row_time_ns: Tensor


@dataclass(frozen=True)
class Division:
    """Positions of the samples of each part after the purge, and how many the purge took from each."""

    parts: dict[str, Tensor]
    purged: dict[str, int]
