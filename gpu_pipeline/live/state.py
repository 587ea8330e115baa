"""The live state on disk: every tensor in one safetensors file, everything else as JSON, for any process to go on.

Dataclasses of this project (a book with its events, say) are taken apart field by field and put together again.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Symbol
from gpu_pipeline.core.store import digest_file, read_json, write_bytes, write_json
from gpu_pipeline.live.fold import SymbolFold
from gpu_pipeline.live.plan import Plan

KEPT = ("trades", "books", "bars", "features", "book", "cells", "tails", "started")
PACKAGE = "gpu_pipeline."


def save_live(folder: Path, plan: Plan, folds: Mapping[str, SymbolFold], note: Mapping[str, Any] | None = None) -> None:
    """Writes `folder/state.safetensors`, then `folder/state.json`, which makes it exist; `note` is kept beside."""
    tensors: dict[str, torch.Tensor] = {}
    content = {name: {key: _apart(getattr(fold, key), tensors) for key in KEPT} for name, fold in folds.items()}
    symbols = {name: fold.symbol.to_json() for name, fold in folds.items()}
    path = write_bytes(folder / "state.safetensors", save(tensors))
    about = {"fingerprint": plan.fingerprint, "sha256": digest_file(path), "symbols": symbols, "folds": content}
    write_json(folder / "state.json", {**about, "note": dict(note or {})})


def load_live(folder: Path, plan: Plan) -> tuple[dict[str, SymbolFold], dict[str, Any]]:
    """The folds by symbol and the note.

    Raises:
        InputError: the state is missing or damaged, or belongs to another run.
    """
    about = read_json(folder / "state.json")
    path = folder / "state.safetensors"
    if not path.is_file() or digest_file(path) != about["sha256"]:
        raise InputError.at(path, "is not the state that state.json describes", fix="delete both and start anew")
    if about["fingerprint"] != plan.fingerprint:
        raise InputError.at(folder, "the state belongs to another run or another training", fix="start anew")
    tensors = load(path.read_bytes())
    folds = {}
    for name, content in about["folds"].items():
        kept = {key: _together(content[key], tensors) for key in KEPT}
        folds[name] = SymbolFold(Symbol.from_json(about["symbols"][name]), plan, **kept)
    return folds, about["note"]


def _apart(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, Symbol):
        return {"symbol": value.to_json()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: _apart(getattr(value, part.name), tensors) for part in fields(value) if part.init}
        return {"object": f"{type(value).__module__}:{type(value).__qualname__}", "fields": parts}
    if isinstance(value, Mapping):
        return {"mapping": {str(key): _apart(item, tensors) for key, item in value.items()}}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [_apart(item, tensors) for item in value]}
    return value


def _together(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    kind = next(iter(value))
    if kind == "tensor":
        return tensors[value[kind]].clone()
    if kind == "symbol":
        return Symbol.from_json(value[kind])
    if kind == "decimal":
        return Decimal(value[kind])
    if kind == "mapping":
        return {key: _together(item, tensors) for key, item in value[kind].items()}
    if kind in ("tuple", "list"):
        items = [_together(item, tensors) for item in value[kind]]
        return tuple(items) if kind == "tuple" else items
    made = _class_of(value["object"])
    return made(**{key: _together(item, tensors) for key, item in value["fields"].items()})


def _class_of(path: str) -> Any:
    module, _, name = path.partition(":")
    if not module.startswith(PACKAGE):
        raise InputError(f"live state: '{module}' is no part of this project; start anew")
    found = getattr(importlib.import_module(module), name, None)
    if not (isinstance(found, type) and is_dataclass(found)):
        raise InputError(f"live state: '{path}' is not kept in states; start anew")
    return found
