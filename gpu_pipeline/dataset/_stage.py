"""The dataset stage: makes a dataset and writes it, with shards where the loader reads shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.core.config import RunConfig
from gpu_pipeline.core.schema import Depth, Features, Labels, Symbol
from gpu_pipeline.core.store import write_json
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.dataset._make import Sources, make_dataset
from gpu_pipeline.dataset.data import check_dataset, save_dataset
from gpu_pipeline.dataset.shards import write_shards

SHARDED_LOADERS = ("webdataset", "dali")


def write(
    folder: Path,
    config: RunConfig,
    symbols: Mapping[str, Symbol],
    features: Callable[[Symbol], Features],
    labels: Callable[[Symbol, str], Labels],
    depth: Callable[[Symbol], Depth],
    device: torch.device,
    trace: Trace,
) -> dict[str, Any]:
    """Writes `streams/`, `samples.parquet`, `scaler.json` and, for a loader of shards, `shards/`.

    Returns the manifest's content. Whether shards are written depends on `sharded(config)`, which belongs into the key.
    """
    dataset, fitted = make_dataset(config, list(symbols.values()), Sources(features, labels, depth))
    check_dataset(dataset)
    save_dataset(dataset, folder)
    write_json(folder / "scaler.json", {name: numbers.to_json() for name, numbers in fitted.items()})
    shards = write_shards(dataset, folder / "shards", trace) if sharded(config) else None
    return {**dataset.manifest, "shards": shards}


def sharded(config: RunConfig) -> bool:
    """Whether this run's loader reads shards."""
    return config.train is not None and config.train.loader in SHARDED_LOADERS
