"""The stage: one safetensors file of depth per symbol."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from gpu_pipeline.core.config import RunConfig
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookSnapshots, Depth, Symbol
from gpu_pipeline.core.store import write_bytes
from gpu_pipeline.core.trace import Trace

_TENSORS = ("depth", "beyond", "time_ns", "known_ns", "age_ns", "valid", "filled")


def write(
    folder: Path,
    config: RunConfig,
    symbols: dict[str, Symbol],
    snapshots: Callable[[Symbol], BookSnapshots],
    device: torch.device,
    trace: Trace,
) -> dict[str, Any]:
    """Writes `folder/{SYMBOL}.safetensors`, ticks and lots in float64, for every symbol.

    Returns:
        what the manifest says: snapshots in, grid times out, and per symbol the counts and the span.

    Raises:
        InputError: a malformed snapshot.
    """
    assert config.book is not None
    accounts = {}
    with trace.progress("book", len(symbols)) as ticker:
        for symbol in symbols.values():
            book = snapshots(symbol)
            depth = config.book.plugin.function(book, config.book.options)
            save_depth(folder / f"{symbol.name}.safetensors", depth)
            accounts[symbol.name] = {"snapshots": len(book), **_counts(depth)}
            ticker.advance(1, symbol.name)
    return {
        "rows_in": sum(account["snapshots"] for account in accounts.values()),
        "rows_out": sum(account["cells"] for account in accounts.values()),
        "note": f"{config.book.form}; rows are grid times",
        "symbols": accounts,
    }


def load(folder: Path, symbol: Symbol, device: torch.device) -> Depth:
    """The depth tensor of a symbol.

    Raises:
        InputError: there is none, or the file is damaged.
    """
    return load_depth(folder / f"{symbol.name}.safetensors", device)


def save_depth(path: Path, depth: Depth) -> Path:
    """Writes one depth tensor with its scales; equal content gives equal bytes."""
    tensors = {name: getattr(depth, name).contiguous().cpu() for name in _TENSORS}
    # One metadata key only: safetensors does not promise an order of several.
    return write_bytes(path, save(tensors, {"symbol": json.dumps(depth.symbol.to_json(), sort_keys=True)}))


def load_depth(path: Path, device: torch.device) -> Depth:
    """Reads what `save_depth` wrote.

    Raises:
        InputError: the file is missing, damaged, or not one of ours.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            symbol = Symbol.from_json(json.loads(file.metadata()["symbol"]))
            return Depth(symbol, **{name: file.get_tensor(name) for name in _TENSORS})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError.at(path, f"cannot be read as a depth tensor: {error}", fix="rerun the book stage") from error


def _counts(depth: Depth) -> dict[str, Any]:
    cells = len(depth)
    filled, valid = int(depth.filled.sum()), int(depth.valid.sum())
    counts = {"cells": cells, "fresh": valid - filled, "filled": filled, "missing": cells - valid}
    span = [int(depth.time_ns[0]), int(depth.time_ns[-1])] if cells else None
    return {**counts, "levels": depth.depth.shape[1], "span_ns": span}
