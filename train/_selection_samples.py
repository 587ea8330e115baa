"""The training samples of a dataset as a study: what a feature selection may see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from gpu_pipeline.core.config import SelectSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.units import parse_duration
from gpu_pipeline.dataset.data import Dataset, StreamData, Target
from train.metrics._tables import Ints
from train.selectors._study import Study

NEVER = np.iinfo(np.int64).max


def make_study(
    dataset: Dataset,
    section: SelectSection,
    *,
    embargo: int | str,
    seed: int,
    jobs: int,
    device: str,
    tick: Callable[[int, str], None],
) -> tuple[Study, dict[str, str]]:
    """The training samples that have the target, and the columns left out because they never change there: why.

    Raises:
        InputError: no such target, one class only, `top` above the number of columns, or none that changes.
    """
    name, stream = section.target or next(iter(dataset.targets)), _decision_stream(dataset)
    if name not in dataset.targets:
        raise InputError(f"select.target: no target '{name}' in the dataset; it has {', '.join(dataset.targets)}")
    if section.top > len(stream.columns):
        raise InputError(
            f"select.top: the dataset has {len(stream.columns)} columns (value {section.top}); set select.top to "
            f"{len(stream.columns)} or less"
        )
    target = dataset.targets[name]
    samples = dataset.parts["train"][target.target[dataset.parts["train"]] >= 0]
    classes = target.target[samples].numpy()
    if len(np.unique(classes)) < 2:
        raise InputError(f"select.target: '{name}' has one class in {len(samples):,} training samples; use more data")
    values = stream.values[dataset.row[samples]].numpy()
    without = _flat_columns(dataset, values)
    kept = [place for place, column in enumerate(stream.columns) if column not in without]
    if not kept:
        raise InputError(f"select: all {len(without)} columns are constant in the training part; use other features")
    study = Study(
        columns=tuple(stream.columns[place] for place in kept),
        values=values[:, kept],
        target=classes,
        decision_ns=dataset.decision_ns[samples].numpy(),
        end_ns=ends_with_embargo(dataset, target, samples, embargo),
        sample=evenly(len(samples), section.max_samples),
        seed=seed,
        jobs=jobs,
        device=device,
        tick=tick,
    )
    return study, without


def _decision_stream(dataset: Dataset) -> StreamData:
    return dataset.streams[dataset.manifest["decision_stream"]]


def _flat_columns(dataset: Dataset, values: np.ndarray) -> dict[str, str]:
    """Columns with one value in all training samples, and why."""
    name = dataset.manifest["decision_stream"]
    empty = set(dataset.manifest["streams"][name].get("imputed_columns", ()))
    flat = values.min(0) == values.max(0)
    return {
        column: "no value in the training part" if column in empty else "constant in the training part"
        for column, constant in zip(dataset.streams[name].columns, flat, strict=True)
        if constant
    }


def evenly(count: int, most: int) -> Ints:
    """At most `most` of `count` positions: the first of each of equally long stretches."""
    size = min(count, most)
    return np.arange(size, dtype=np.int64) * count // max(size, 1)


def ends_with_embargo(dataset: Dataset, target: Target, samples: torch.Tensor, embargo: int | str) -> Ints:
    """[n] int64: end of each label plus the split's embargo; never, where one in bars runs past the last bar."""
    ends: Ints = target.t_end_ns[samples].numpy()
    if isinstance(embargo, str):
        return ends + parse_duration(embargo)
    if embargo == 0:
        return ends
    stream, symbols = _decision_stream(dataset), dataset.symbol_id[samples].numpy()
    rows = stream.time_ns.numpy()
    owners = np.zeros(len(rows)) if stream.symbol_id is None else stream.symbol_id.numpy()
    made = np.full(len(ends), NEVER)
    for symbol in np.unique(symbols):
        own, times = symbols == symbol, rows[owners == symbol]
        # Of bars that share the time, the last: the longer embargo.
        place = np.searchsorted(times, ends[own], side="right") - 1 + embargo
        made[own] = np.where(place < len(times), times[np.minimum(place, len(times) - 1)], NEVER)
    return made
