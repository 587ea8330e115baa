"""An engine's state on disk: tensors as safetensors, what they belong to as JSON."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load, save

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.store import digest_file, read_json, write_bytes, write_json
from gpu_pipeline.features._evaluate import State
from gpu_pipeline.features.engine import Engine


def save_state(folder: Path, engine: Engine, state: State) -> Path:
    """Writes `folder/state.safetensors`, then `folder/state.json` that makes it exist."""
    tensors = {
        f"{key}|{index}": part.contiguous().cpu() for key, parts in state.items() for index, part in enumerate(parts)
    }
    path = write_bytes(folder / "state.safetensors", save(tensors))
    about = {"fingerprint": engine.fingerprint, "columns": engine.names, "sha256": digest_file(path)}
    write_json(folder / "state.json", about)
    return folder


def load_state(folder: Path, engine: Engine, device: torch.device) -> State:
    """Reads a state for an engine of the same feature set, in any process.

    Raises:
        InputError: the state is missing or damaged, or belongs to another set of features.
    """
    about = read_json(folder / "state.json")
    path = folder / "state.safetensors"
    if not path.is_file() or digest_file(path) != about["sha256"]:
        raise InputError.at(
            path, "is not the state that state.json describes", fix="delete both and start from the first bar"
        )
    if about["fingerprint"] != engine.fingerprint:
        other = sorted(set(about["columns"]) ^ set(engine.names))
        differs = f"columns that differ: {', '.join(other[:5])}" if other else "the formulas of features changed"
        raise InputError.at(
            folder, f"the state belongs to another feature set ({differs})", fix="start from the first bar"
        )
    tensors = load(path.read_bytes())
    start = engine.start(device)
    return {
        key: tuple(tensors[f"{key}|{index}"].to(part.device) for index, part in enumerate(parts))
        for key, parts in start.items()
    }
