"""Which ring a kernel test belongs to, chunking, and compiling a CUDA kernel without a GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from kernels._op import SIMULATED
from tests.kernels import simulator, without_hypothesis

if without_hypothesis.installed():
    from hypothesis import settings

    settings.register_profile("kernels", deadline=None, max_examples=100)
    settings.load_profile("kernels")

if SIMULATED:
    # The simulator's main thread polls the others; at Python's 5 ms a barrier takes three times as long.
    sys.setswitchinterval(5e-4)
    simulator.allocate_shared_arrays_once()


def pytest_collection_finish() -> None:
    without_hypothesis.remove()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, visibly, what this process cannot run."""
    if ("sim" in item.keywords) != SIMULATED:
        pytest.skip("sim tests, and only those, run with NUMBA_ENABLE_CUDASIM=1")
    if (os.environ.get("TRITON_INTERPRET") == "1") != ("interpret" in item.keywords):
        pytest.skip("interpret tests, and only those, run with TRITON_INTERPRET=1")
    if "gpu" in item.keywords and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


def spans(rows: int, cuts: list[int]) -> list[tuple[int, int]]:
    """The chunks of `rows` rows at the given cuts (any integers; equal ones make empty chunks)."""
    edges = [0, *sorted(cut % (rows + 1) for cut in cuts), rows]
    return list(pairwise(edges))


@pytest.fixture(scope="session")
def chunks_of():
    return spans


RESOURCES = ("registers", "bytes spill stores", "bytes stack frame", "bytes smem")


class _Device:
    def __init__(self, cc: tuple[int, int]) -> None:
        self.compute_capability = cc


def _assemblers() -> list[str]:
    wheels = [Path(folder) / "nvidia/cu13/bin/ptxas" for folder in sys.path]
    triton = [Path(folder) / "triton/backends/nvidia/bin/ptxas" for folder in sys.path]
    found = [str(path) for path in (*wheels, *triton) if path.is_file()]
    return [*filter(None, [shutil.which("ptxas")]), *found]


def assemble(ptx: str, cc: tuple[int, int], folder: Path) -> dict[str, int] | None:
    """Registers, bytes spilled, of stack and of shared memory, from the first ptxas found; None without one."""
    for ptxas in _assemblers():
        done = _run_ptxas(ptxas, ptx, cc, folder)
        if older := re.search(r"Unsupported .version .* current version is '([\d.]+)'", done.stderr):
            # The compiler names its newest PTX version whatever it uses; an older ptxas reads the text all the same.
            done = _run_ptxas(ptxas, re.sub(r"\.version [\d.]+", f".version {older[1]}", ptx), cc, folder)
        assert done.returncode == 0, done.stderr
        return {name: max(map(int, re.findall(rf"(\d+) {name}", done.stderr)), default=0) for name in RESOURCES}
    return None


def _run_ptxas(ptxas: str, ptx: str, cc: tuple[int, int], folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "kernel.ptx").write_text(ptx)
    command = [ptxas, "-v", f"-arch=sm_{cc[0]}{cc[1]}", "kernel.ptx", "-o", "kernel.cubin"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def compile_to_ptx(kernel, signature, cc: tuple[int, int]) -> str:
    """PTX of a numba-cuda kernel, which asks the current device for its compute capability."""
    from numba import cuda
    from numba.cuda import dispatcher

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, "get_current_device", lambda: _Device(cc))
        ptx, _ = cuda.compile(kernel.py_func, signature, cc=cc, output="ptx", device=False, abi="numba")
    return ptx


@pytest.fixture
def compiled(tmp_path):
    """Compile a numba-cuda kernel for a compute capability; returns (PTX, what ptxas says or None)."""

    def compile_for(kernel, signature, cc):
        ptx = compile_to_ptx(kernel, signature, cc)
        return ptx, assemble(ptx, cc, tmp_path)

    return compile_for
