"""Importing kernels needs no GPU, no numba-cuda and no Triton, and compiles nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOAD_ALL = """
import importlib, pkgutil, sys
{before}
import kernels
assert kernels.__path__ == [{folder!r}], kernels.__path__
from numba.core.dispatcher import Dispatcher
for found in pkgutil.iter_modules(kernels.__path__):
    module = importlib.import_module("kernels." + found.name)
    for name, value in vars(module).items():
        assert not (isinstance(value, Dispatcher) and value.signatures), (module, name)
"""
WITHOUT = """
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numba_cuda", "triton", "cupy", "cudf"):
            raise ImportError(name + " is not installed")
sys.meta_path = [Absent(), *(f for f in sys.meta_path if "redirector" not in type(f).__module__)]
"""


def load(before: str) -> str:
    code = LOAD_ALL.format(before=before, folder=str(ROOT / "kernels"))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stderr


def test_every_module_loads_here_and_compiles_nothing():
    assert load("") == ""


def test_every_module_loads_without_the_gpu_packages():
    assert load(WITHOUT) == ""


def test_compiled_code_on_disk_dies_with_any_change_of_the_package(tmp_path):
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_op.py").write_text((ROOT / "kernels/_op.py").read_text())
    (package / "inner.py").write_text("from kernels._op import jit\n\n@jit\ndef one(): return 1\n")
    outer = "from kernels._op import jit\nfrom kernels.inner import one\n\n@jit\ndef two(): return 2 * one()\n"
    (package / "outer.py").write_text(outer)
    command = [sys.executable, "-c", "from kernels.outer import two; print(two())"]
    run = {"cwd": tmp_path, "capture_output": True, "text": True, "check": True}
    assert subprocess.run(command, **run).stdout == "2\n"
    (package / "inner.py").write_text("from kernels._op import jit\n\n@jit\ndef one(): return 100\n")
    assert subprocess.run(command, **run).stdout == "200\n"
