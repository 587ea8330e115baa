"""Features in one call, for people and for stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_pipeline.core.schema import Bars, Depth, Features
from gpu_pipeline.features._book import BookRows
from gpu_pipeline.features._set import read_include, read_set
from gpu_pipeline.features.engine import Engine


def make_features(
    bars: Bars | Mapping[str, Bars | Depth],
    features: str | Path | Mapping[str, Any],
    include: str | Path | Sequence[str] | None = None,
) -> Features:
    """Features of a feature set (a YAML file or its mapping), row for row beside the (short) bars.

    One `Bars` gives columns without suffix and every feature of the set; a mapping `{short: ..., medium: ...,
    1min: ...}` gives them per resolution with suffixes, aligned to the first, as `on` says. Under the name `book` it
    may hold the depth tensor of the same symbol, for features of the book.

    Raises:
        ConfigError, InputError: mistakes in the set, or bars that lack what a feature needs.
    """
    single = isinstance(bars, Bars)
    tables = {"short": bars} if isinstance(bars, Bars) else {name: _rows(table) for name, table in bars.items()}
    engine = Engine(read_set(features), tuple(tables), suffixes=not single, include=read_include(include))
    table, _ = engine.step(tables, engine.start(tables[engine.base].device))
    return table


def _rows(table: Bars | Depth) -> Bars | BookRows:
    return BookRows.of(table) if isinstance(table, Depth) else table
