"""What a step of a feature selection sees, and what it says.

Axes: n training samples, m of them in the sample that slow steps see, F columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import ThreadpoolController

from gpu_pipeline.core.errors import InputError
from train.metrics._tables import Floats, Ints


def _silent(steps: int, note: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Study:
    """Training samples in decision order: the rows of model input at which decisions were made, and what came of them.

    Attributes:
        columns: F names.
        values: [n, F] float32 model input, imputed and scaled by the training part.
        target: [n] int64 class index.
        decision_ns: [n] int64, non-decreasing.
        end_ns: [n] int64, when the label has ended, the split's embargo included.
        sample: [m] int64 positions, evenly spaced over the samples in time order: all that slow steps see.
        seed: of everything that draws numbers.
        jobs: threads; no result depends on it.
        device: `cpu` or `cuda`.
        known: (column, neighbours) -> mutual information, so that it is estimated once.
        tick: hears (steps done, note).
    """

    columns: tuple[str, ...]
    values: npt.NDArray[np.float32]
    target: Ints
    decision_ns: Ints
    end_ns: Ints
    sample: Ints
    seed: int = 0
    jobs: int = 1
    device: str = "cpu"
    known: dict[tuple[str, int], float] = field(default_factory=dict)
    tick: Callable[[int, str], None] = _silent

    def among(self, columns: Sequence[str]) -> Study:
        """The same samples with some of the columns, in their own order."""
        kept = [place for place, name in enumerate(self.columns) if name in set(columns)]
        if len(kept) == len(self.columns):
            return self
        return replace(self, columns=tuple(self.columns[place] for place in kept), values=self.values[:, kept])

    def halves(self, later: float) -> tuple[Ints, Ints]:
        """Sampled positions to fit on, and the last share `later` of the sample in time to judge on.

        Both lie inside the training part. No decision time is divided, and what ends at or after the first decision of
        the later half is dropped from the earlier one (López de Prado 2018, chapter 7).

        Raises:
            InputError: the earlier half lacks a second class, or the later one a sample of its classes.
        """
        times = self.decision_ns[self.sample]
        cut = int(np.searchsorted(times, times[min(int(len(times) * (1 - later)), len(times) - 1)]))
        before, after = self.sample[:cut], self.sample[cut:]
        before = before[self.end_ns[before] < times[cut]]
        classes = np.unique(self.target[before])
        after = after[np.isin(self.target[after], classes)]
        if len(classes) < 2 or not len(after):
            raise InputError(
                f"select: {len(before):,} training samples end before the last {later:.0%} of them begin, of "
                f"{len(classes)} class{'' if len(classes) == 1 else 'es'}; use more data, a shorter label horizon or "
                "embargo, or another share 'later'"
            )
        return before, after


@dataclass(frozen=True)
class Verdict:
    """What a step says of the columns it saw.

    Attributes:
        score: [F] float64, higher is better; None where the step ranks nothing.
        numbers: name -> [F] float64, further columns of `scores.parquet`.
        dropped: column -> why no later step sees it.
        tables: name -> table, written as Parquet.
        facts: numbers for the record.
        draw: draws what there is to see.
    """

    score: Floats | None = None
    numbers: Mapping[str, Floats] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[Any], None] | None = None


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS and OpenMP of this thread in one thread: sums over several depend on how many there are."""
    with _libraries().limit(limits=1):
        yield
