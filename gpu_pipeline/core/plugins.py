"""The folder is the registry: a plug-in is one module with a `Config` and the one function of its kind."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict

from gpu_pipeline.core.errors import InputError, nearest


class Options(BaseModel):
    """Base of every `Config`: frozen; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Kind:
    """A folder of plug-ins and the name of the function that each module in it must have."""

    package: str
    function: str


KINDS: Mapping[str, Kind] = {
    "sources": Kind("gpu_pipeline.ingest", "read"),
    "bars": Kind("gpu_pipeline.bars", "step"),
    "book": Kind("gpu_pipeline.book", "step"),
    "features": Kind("gpu_pipeline.features", "FEATURES"),
    "labels": Kind("gpu_pipeline.labels", "make"),
    "splits": Kind("gpu_pipeline.dataset.splits", "split"),
    "scalers": Kind("gpu_pipeline.dataset.scalers", "fit"),
    "models": Kind("train.models", "build"),
    "metrics": Kind("train.metrics", "compute"),
    "loaders": Kind("train.loaders", "load"),
    "selectors": Kind("train.selectors", "judge"),
}


@dataclass(frozen=True)
class Plugin:
    """One module of a plug-in folder."""

    kind: str
    name: str
    module: ModuleType

    @property
    def config(self) -> type[Options]:
        """Its `Config` class."""
        config: type[Options] = self.module.Config
        return config

    @property
    def function(self) -> Callable[..., Any]:
        """The function of its kind."""
        found: Callable[..., Any] = getattr(self.module, KINDS[self.kind].function)
        return found

    @property
    def summary(self) -> str:
        """First line of its docstring."""
        return (self.module.__doc__ or "").strip().split("\n")[0]


@cache
def names(kind: str) -> tuple[str, ...]:
    """The plug-ins of a kind: modules of its folder that have its function, private ones left out."""
    package = importlib.import_module(KINDS[kind].package)
    found = [info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_")]
    return tuple(sorted(name for name in found if _is_plugin(kind, f"{package.__name__}.{name}")))


def _is_plugin(kind: str, path: str) -> bool:
    return hasattr(importlib.import_module(path), KINDS[kind].function)


def load(kind: str, name: str) -> Plugin:
    """Loads a plug-in by its module name, or by a dotted path to a module outside the project.

    Raises:
        InputError: no such plug-in, or the module at the path lacks what its kind needs; names the nearest one.
    """
    if "." in name:
        return _load_path(kind, name)
    if name not in names(kind):
        hint = nearest(name, names(kind))
        raise InputError(
            f"{kind}: no plug-in '{name}'"
            + (f"; did you mean '{hint}'?" if hint else "")
            + f" There are: {', '.join(names(kind))}"
        )
    return Plugin(kind, name, importlib.import_module(f"{KINDS[kind].package}.{name}"))


def _load_path(kind: str, path: str) -> Plugin:
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise InputError(f"{kind}: cannot import '{path}' ({error}); is its folder on PYTHONPATH?") from error
    lacks = [part for part in ("Config", KINDS[kind].function) if not hasattr(module, part)]
    if lacks and kind != "features":
        raise InputError(
            f"{kind}: module '{path}' lacks {' and '.join(lacks)}; see the other files of {KINDS[kind].package}"
        )
    return Plugin(kind, path, module)
