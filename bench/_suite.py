"""Every benchmark of the folder: its tests, its cases, its records, or why there are none."""

from __future__ import annotations

import ast
import gc
import importlib
import pkgutil
import traceback
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

import bench
from bench._measure import NotRun, Record, interleaved
from bench._rings import Outcome

COMMANDS = ("compiled", "gpu", "gates", "networks", "peers")


def ops() -> list[str]:
    """The benchmarks by name."""
    names = (info.name for info in pkgutil.iter_modules(bench.__path__))
    return sorted(name for name in names if not name.startswith("_") and name not in COMMANDS)


def with_parts(name: str) -> list[str]:
    """A benchmark after those of the ops that its PARTS (patterns of names) say it is made of."""
    patterns = _literal(name, "PARTS", ())
    return [*(op for op in ops() if any(fnmatch(op, pattern) for pattern in patterns)), name]


def tests_of(name: str) -> str:
    """The test files that gate a benchmark."""
    tests = _literal(name, "TESTS", None)
    if tests is None:
        raise LookupError(f"bench/{name}.py names no TESTS")
    return str(tests)


def _literal(name: str, constant: str, default: Any) -> Any:
    """A constant of a benchmark, read without importing it: its packages may be missing."""
    for folder in bench.__path__:
        tree = ast.parse((Path(folder) / f"{name}.py").read_text())
        for node in tree.body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == constant:
                return ast.literal_eval(node.value)
    return default


def measure(name: str, device: torch.device, *, tiny: bool) -> list[Record]:
    """Times the cases of one benchmark; those of the same op and shape in turn."""
    cases = importlib.import_module(f"bench.{name}").cases(device, tiny)
    groups = (list(group) for _, group in groupby(cases, key=lambda case: (case.op, case.shape)))
    records = [record for group in groups for record in interleaved(group, device, tiny=tiny)]
    del cases
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return records


def measure_all(
    names: Sequence[str], device: torch.device, outcome: Outcome | None, *, tiny: bool
) -> Iterator[tuple[str, list[Record], str | None]]:
    """For each benchmark its records, or the reason why there are none: `not run: ...` or `FAILED: ...`.

    Without an outcome of the tests there is no gate; such records are for looking at, not for keeping.
    """
    for name in names:
        reason = outcome.refusal(tests_of(name)) if outcome else None
        records: list[Record] = []
        if reason is None:
            try:
                records = measure(name, device, tiny=tiny)
            except ModuleNotFoundError as error:
                reason = f"not run: no module named {error.name}"
            except NotRun as error:
                reason = f"not run: {error}"
            except Exception as error:
                traceback.print_exc()
                reason = f"FAILED: {type(error).__name__}: {error}"
        yield name, records, reason
