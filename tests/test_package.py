"""Importing needs no GPU and compiles nothing; every run file validates; versions stand pinned."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_pipeline.core.config import load_config

ROOT = Path(__file__).resolve().parent.parent
RUN_FILES = sorted((ROOT / "configs").glob("*.yaml"))


def test_importing_needs_no_gpu_and_compiles_nothing() -> None:
    script = """
import sys, time
started = time.perf_counter()
import gpu_pipeline
assert not {"torch", "numba", "cudf", "cupy", "train"} & set(sys.modules), "import gpu_pipeline is lazy"
import gpu_pipeline.pipeline, train.stage, kernels
import numba
from numba.core import dispatcher
compiled = [
    f"{module.__name__}.{name}"
    for module in list(sys.modules.values())
    if getattr(module, "__name__", "").split(".")[0] in ("kernels", "gpu_pipeline", "train")
    for name, value in list(vars(module).items())
    if isinstance(value, dispatcher.Dispatcher) and value.signatures
]
assert not compiled, compiled
import torch
assert not torch.cuda.is_initialized()
"""
    environment = {"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name", ["read_trades", "read_bars", "make_bars", "pool_bars", "make_features", "make_labels", "load_run"]
)
def test_every_public_name_is_there(name: str) -> None:
    import gpu_pipeline as gp

    assert callable(getattr(gp, name))
    assert name in dir(gp)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import gpu_pipeline as gp

    with pytest.raises(AttributeError, match="has no attribute 'make_money'"):
        gp.make_money  # noqa: B018


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.stem)
def test_every_run_file_validates(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpu_pipeline.features import _stage

    monkeypatch.chdir(ROOT)
    config = load_config(path)
    assert config.name == path.stem
    assert config.features is None or len(_stage.compile_run(config).names) > 10


def test_there_are_run_files() -> None:
    assert {"demo", "btcusdt_day", "btcusdt_h200", "btcusdt_2x3090"} <= {path.stem for path in RUN_FILES}


def test_torch_is_pinned_and_nothing_direct_is_left_open() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert pins["torch"] == "2.13.0"
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    project = (ROOT / "pyproject.toml").read_text()
    named = {
        re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r'^    "([A-Za-z0-9_.-]+)[\[>=;]', project, re.M)
    }
    assert named - pinned == set()
