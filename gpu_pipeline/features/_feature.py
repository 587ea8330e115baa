"""What a family module declares: features with their parameters, and what the folder's modules hold together."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Annotated, Any

from pydantic import Field

from gpu_pipeline.core import plugins
from gpu_pipeline.core.errors import InputError, nearest
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features.expression import Book, Columns, Expression

Rows = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
ManyRows = Annotated[int, Field(strict=True, ge=2, le=1_000_000)]


class NoParameters(Options):
    """A feature that has nothing to choose."""


class Window(Options):
    """One window of rows."""

    window: Rows


class WideWindow(Options):
    """One window of at least two rows."""

    window: ManyRows


@dataclass(frozen=True)
class Feature:
    """A declared feature.

    Attributes:
        name: its key in a feature set (TA-Lib's name in lower case where there is one).
        function: `function(bars, **parameters) -> {output name: expression}`; its docstring holds the formula.
            That of a feature of the book gets a `Book`.
        config: its parameters; their order is that of a list in `windows` and of the column's name.
        levels: outputs that are levels (prices, cumulative volume): computed, but no model input as they are.
        tolerance: largest difference between devices, relative to the largest value of the column.
        tail: how the parameters end a column's name where they are not joined by `_`: `_{window}w_{bins}b`.
        of_book: whether it is computed on the grid of the book instead of on bars.
    """

    name: str
    function: Callable[..., dict[str, Expression]]
    config: type[Options] = NoParameters
    levels: tuple[str, ...] = ()
    tolerance: float = 1e-9
    tail: str | None = None
    of_book: bool = False

    def columns(self, parameters: Options) -> dict[str, Expression]:
        """Column name -> expression: the output's name and the parameters, `macd_signal_12_26_9`."""
        values = parameters.model_dump()
        tail = self._tail(values)
        return {
            f"{output}{tail}": node
            for output, node in self.function(Book() if self.of_book else Columns(), **values).items()
        }

    def level_columns(self, parameters: Options) -> tuple[str, ...]:
        """The columns of `columns` that are levels."""
        tail = self._tail(parameters.model_dump())
        return tuple(f"{output}{tail}" for output in self.levels)

    def _tail(self, values: Mapping[str, Any]) -> str:
        if self.tail is not None:
            return self.tail.format(**values)
        return "".join(f"_{_show(value)}" for value in values.values())

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").strip().split("\n")[0]


def _show(value: Any) -> str:
    return format(value, "g") if isinstance(value, float) else str(value)


@cache
def catalogue() -> Mapping[str, Feature]:
    """All features of this folder by name.

    Raises:
        InputError: two modules declare one name.
    """
    return collect([plugins.load("features", name).module for name in plugins.names("features")])


def collect(modules: list[ModuleType]) -> Mapping[str, Feature]:
    """The features of some modules by name; names are unique over all of them."""
    found: dict[str, Feature] = {}
    for module in modules:
        for feature in module.FEATURES:
            if feature.name in found:
                first = found[feature.name].function.__module__
                raise InputError(
                    f"feature '{feature.name}' is declared by {first} and again by {module.__name__}; rename one"
                )
            found[feature.name] = feature
    return found


def find(name: str) -> Feature:
    """A feature by its name, or by `package.module.feature` where its module lies outside the project.

    Raises:
        InputError: there is none; names the nearest.
    """
    path, _, short = name.rpartition(".")
    known = collect([_outside(path)]) if path else catalogue()
    if short not in known:
        hint = nearest(short, known)
        raise InputError(f"no feature '{name}'" + (f"; did you mean '{hint}'?" if hint else f"; {', '.join(known)}"))
    return known[short]


def _outside(path: str) -> ModuleType:
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise InputError(f"cannot import '{path}' ({error}); is its folder on PYTHONPATH?") from error
    if not hasattr(module, "FEATURES"):
        raise InputError(f"module '{path}' declares no FEATURES; see the other files of gpu_pipeline.features")
    return module
