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
