"""The dataset stage: makes a dataset and writes it, with shards where the loader reads shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.core.config import RunConfig
from gpu_pipeline.core.schema import Depth, Features, Labels, Symbol, Trades
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
    trades: Callable[[Symbol], Iterator[Trades]],
    device: torch.device,
    trace: Trace,
) -> dict[str, Any]:
    """Writes `streams/`, `samples.parquet`, `scaler.json` and, for a loader of shards, `shards/`.

    Returns the manifest's content. Whether shards are written depends on `sharded(config)`, which belongs into the key.
    Trades are read only where `needs_trades(config)`.
    """
    dataset, fitted = make_dataset(config, list(symbols.values()), Sources(features, labels, depth, trades))
    check_dataset(dataset)
    save_dataset(dataset, folder)
    write_json(folder / "scaler.json", {name: numbers.to_json() for name, numbers in fitted.items()})
    shards = write_shards(dataset, folder / "shards", trace) if sharded(config) else None
    return {**dataset.manifest, "shards": shards}


def needs_trades(config: RunConfig) -> bool:
    """Whether a stream is made of trades: their key is an input of the stage then."""
    return config.dataset is not None and any(one.from_ == "daily" for one in config.dataset.streams.values())


def sharded(config: RunConfig) -> bool:
    """Whether this run's loader reads shards."""
    return config.train is not None and config.train.loader in SHARDED_LOADERS
