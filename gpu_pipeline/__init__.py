"""From raw market data to judged models on the GPU, and on a plain CPU with the same results."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "read_trades": "gpu_pipeline.ingest._read",
    "read_bars": "gpu_pipeline.ingest._read_bars",
    "make_bars": "gpu_pipeline.bars._make",
    "pool_bars": "gpu_pipeline.bars._pool",
    "make_features": "gpu_pipeline.features._make",
    "make_labels": "gpu_pipeline.labels._make",
    "load_run": "gpu_pipeline.results",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'gpu_pipeline' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
