"""Where hypothesis is not installed, its tests are skipped one by one, and the others of the same file still run."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

NAMES = ("hypothesis", "hypothesis.strategies")


class Anything(ModuleType):
    """Every attribute, call and combination gives it again: strategies that are named, and never drawn from."""

    def __init__(self, name: str = "anything") -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self

    def __or__(self, other: Any) -> Any:
        return self


def _given(*arguments: Any, **options: Any) -> Any:
    return pytest.mark.skip(reason="needs hypothesis")


def _unchanged(*arguments: Any, **options: Any) -> Any:
    return lambda test: test


def installed() -> bool:
    """Whether hypothesis is there; where it is not, a stand-in takes its name."""
    if importlib.util.find_spec("hypothesis") is not None:
        return True
    stand_in = Anything("hypothesis")
    stand_in.given, stand_in.settings, stand_in.example = _given, _unchanged, _unchanged
    sys.modules.update(dict.fromkeys(NAMES, stand_in))
    return False


def remove() -> None:
    """Takes the stand-in away: other packages ask at run time whether hypothesis is there."""
    for name in NAMES:
        if isinstance(sys.modules.get(name), Anything):
            del sys.modules[name]
