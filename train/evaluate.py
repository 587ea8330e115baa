"""Models beside baselines: metrics with block-bootstrap intervals, confusion tables, effective sample sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from gpu_pipeline.core import plugins
from gpu_pipeline.core.config import EvaluateSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.trace import Ticker
from gpu_pipeline.dataset.data import Dataset
from train import baselines, bootstrap
from train.metrics._tables import Floats, Ints, confusion

JUDGED = ("validation", "test")
Metrics = dict[str, Any]


@dataclass(frozen=True)
class Samples:
    """Host copies of what judging needs of all samples, in decision order.

    Attributes:
        target: [W] int64 output of the models; -1 where the class has none.
        head: class index of each output.
    """

    dataset: Dataset
    target: Ints
    decision_ns: Ints
    t_end_ns: Ints
    row: Ints
    end_row: Ints
    uniqueness: Floats
    symbol_id: Ints
    parts: Mapping[str, Ints]
    head: tuple[int, ...]

    @classmethod
    def of(cls, dataset: Dataset, target: Ints, head: Sequence[int]) -> Samples:
        """Copies the dataset's samples to the host."""
        columns = ("decision_ns", "t_end_ns", "row", "end_row", "uniqueness", "symbol_id")
        held = {name: getattr(dataset, name).cpu().numpy() for name in columns}
        parts = {name: positions.cpu().numpy() for name, positions in dataset.parts.items()}
        return cls(dataset, target, parts=parts, head=tuple(head), **held)

    def baseline(self, name: str) -> Floats:
        """Probabilities [W, C] of a baseline; what it knows comes from the training part and the past."""
        train, classes = self.parts["train"], len(self.head)
        if name == "majority":
            return baselines.majority(self.target[train], classes, len(self.target))
        previous = baselines.previous_labels(self.target, self.row, self.end_row, self.symbol_id)
        return baselines.persistence(previous, self.target, train, classes)


@dataclass(frozen=True)
class Part:
    """The samples of one part that can be judged.

    Attributes:
        rows: [n] int64, which of the part's samples have a class that the models know.
        target: [n] int64.
        block: samples of a bootstrap block.
        facts: numbers about the part, for the record.
    """

    rows: Ints
    target: Ints
    block: int
    facts: Metrics


def describe(samples: Samples, part: str) -> Part:
    """Effective size, label life and block length of a part.

    Raises:
        InputError: no sample of the part has a class that occurs in training.
    """
    positions = samples.parts[part]
    target = samples.target[positions]
    rows = np.flatnonzero(target >= 0)
    if not len(rows):
        raise InputError(f"dataset: part '{part}' has no sample of a class known from training; change dataset.split")
    known = positions[rows]
    life = bootstrap.label_life(samples.decision_ns[known], samples.t_end_ns[known])
    block = bootstrap.block_length(life)
    facts = {
        "samples": len(rows),
        "unknown_class": len(target) - len(rows),
        "effective_samples": float(samples.uniqueness[known].sum()),
        "label_life": life,
        "block": block,
        "class_counts": np.bincount(target[rows], minlength=len(samples.head)).tolist(),
    }
    return Part(rows, target[rows], block, facts)


class Judge:
    """Scores of every predictor of one part, on the same resamples, so that differences are paired."""

    def __init__(self, part: Part, predicted: Mapping[str, Floats], section: EvaluateSection) -> None:
        self._part, self._predicted, self._confidence = part, predicted, section.confidence
        self._metrics = {name: plugins.load("metrics", name).function for name in section.metrics}
        self._values: dict[tuple[str, str], list[float]] = {
            (name, metric): [] for name in predicted for metric in self._metrics
        }

    def draw(self, weight: Floats) -> None:
        """Scores every predictor on one weighting [n] of the samples; the first one drawn is the whole part."""
        for (name, metric), found in self._values.items():
            found.append(self._metrics[metric](self._part.target, self._predicted[name], weight))

    def result(self, name: str) -> Metrics:
        """Metrics with intervals and the confusion table of a predictor."""
        table = confusion(self._part.target, self._predicted[name], np.ones(len(self._part.target)))
        entries = {metric: self._entry(self._drawn(name, metric)) for metric in self._metrics}
        return {"metrics": entries, "confusion": table.astype(np.int64).tolist()}

    def against(self, name: str, other: str) -> Metrics:
        """Metrics of one predictor minus another's, with intervals."""
        return {metric: self._entry(self._drawn(name, metric) - self._drawn(other, metric)) for metric in self._metrics}

    def _drawn(self, name: str, metric: str) -> Floats:
        return np.array(self._values[name, metric])

    def _entry(self, values: Floats) -> dict[str, float | None]:
        low, high = bootstrap.interval(values[1:], self._confidence)
        found = {"value": float(values[0]), "low": low, "high": high}
        return {key: None if np.isnan(number) else number for key, number in found.items()}


def judge_part(
    samples: Samples, part: str, predicted: Mapping[str, Floats], section: EvaluateSection, seed: int, ticker: Ticker
) -> tuple[Metrics, dict[str, Metrics]]:
    """Facts about a part, and per predictor its scores; models also against each baseline.

    Args:
        samples: all samples.
        part: validation or test.
        predicted: model -> [n, C] probabilities of the part's samples.
        section: the run file's `evaluate`.
        seed: of the resamples.
        ticker: advanced once per resample.
    """
    described = describe(samples, part)
    positions = samples.parts[part]
    compared: dict[str, Floats] = {name: samples.baseline(name)[positions] for name in section.baselines}
    everyone: dict[str, Floats] = {**compared, **predicted}
    judged = {name: probability[described.rows] for name, probability in everyone.items()}
    judge = Judge(described, judged, section)
    judge.draw(np.ones(len(described.rows)))
    for count in bootstrap.resamples(len(described.rows), described.block, section.resamples, seed):
        judge.draw(count.astype(np.float64))
        ticker.advance()
    results = {name: judge.result(name) for name in judged}
    for model in predicted:
        results[model]["against"] = {baseline: judge.against(model, baseline) for baseline in compared}
    return described.facts, results


def prediction_table(samples: Samples, part: str, model: str, probability: Floats) -> pa.Table:
    """Predictions of one model for one part, a row per sample; `label` is null where the class has no output."""
    dataset, positions = samples.dataset, samples.parts[part]
    instant = pa.timestamp("ns", tz="UTC")
    label = [dataset.class_names[samples.head[index]] if index >= 0 else None for index in samples.target[positions]]
    columns = {
        "symbol": pa.array([dataset.symbol_names[index] for index in samples.symbol_id[positions]], pa.string()),
        "decision_time": pa.array(samples.decision_ns[positions]).cast(instant),
        "t_end": pa.array(samples.t_end_ns[positions]).cast(instant),
        "split": pa.array([part] * len(positions), pa.string()),
        "label": pa.array(label, pa.string()),
    }
    for index, name in enumerate(dataset.class_names):
        known = index in samples.head
        columns[f"probability_{name}"] = pa.array(
            probability[:, samples.head.index(index)] if known else np.zeros(len(positions))
        )
    return pa.table({**columns, "model": pa.array([model] * len(positions), pa.string())})
