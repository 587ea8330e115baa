"""`python -m bench compiled`: what every numba-cuda kernel takes of a GPU, by the compiler, without one."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench._measure import ROOT

TABLES = ("KERNELS", "NUMBA")
CAPABILITIES = ((8, 6), (9, 0))


def main(arguments: list[str]) -> int:
    """Prints a line per kernel and compute capability; 1 where no ptxas is found."""
    from tests.kernels import conftest

    sys.stdout.write(f"{'kernel':<24} {'cc':<4} {'registers':>9} {'spilled B':>9} {'stack B':>8} {'shared B':>8}\n")
    for name, kernel, signature in _kernels(arguments):
        for cc in CAPABILITIES:
            with tempfile.TemporaryDirectory() as folder:
                used = conftest.assemble(conftest.compile_to_ptx(kernel, signature, cc), cc, Path(folder))
            if used is None:
                sys.stdout.write("no ptxas found: install numba-cuda[cu13] or triton\n")
                return 1
            registers, spilled, stack, shared = (used[part] for part in conftest.RESOURCES)
            line = f"{name:<24} {cc[0]}.{cc[1]:<2} {registers:>9} {spilled:>9} {stack:>8} {shared:>8}\n"
            sys.stdout.write(line)
    return 0


def _kernels(wanted: list[str]) -> Iterator[tuple[str, Any, Any]]:
    """Every kernel that the compile gates name, or those asked for."""
    for path in sorted((ROOT / "tests/kernels").glob("test_compile_*.py")):
        module = importlib.import_module(f"tests.kernels.{path.stem}")
        for table in TABLES:
            for name, (kernel, signature) in getattr(module, table, {}).items():
                if not wanted or name in wanted:
                    yield name, kernel, signature
