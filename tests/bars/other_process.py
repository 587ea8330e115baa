"""A chunk of a fold in a process of its own: what it needs and what it gives cross as text and bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load, save

from gpu_pipeline.bars import _fold
from tests.bars.market import random_trades


def saved(state: Mapping[str, torch.Tensor], form: str) -> str | bytes:
    return json.dumps(_fold.state_to_json(state)) if form == "json" else save(dict(state))


def restored(kept: str | bytes) -> dict[str, torch.Tensor]:
    return _fold.state_from_json(json.loads(kept)) if isinstance(kept, str) else load(kept)


def fold(section: dict[str, Any], seed: int, rows: int, span: tuple[int, int], kept: str | bytes, form: str):
    """The rows [span) of `random_trades(seed, rows)` from a saved state: (sums as safetensors, the state saved)."""
    chains = _fold.plan(_fold.section_of(section["type"], {k: v for k, v in section.items() if k != "type"}, "test"))
    sums, state = _fold.step(random_trades(seed, rows)[slice(*span)], chains, restored(kept))
    return save({name: each.contiguous() for name, each in sums.items()}), saved(state, form)
