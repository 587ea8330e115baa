"""What every op shares: how its plain loop is compiled, its arguments checked, and its kernel launched.

A plain loop decorated with `jit` serves three places: called from Python it is the CPU implementation, called from a
CUDA kernel it is compiled for the device, and in the CUDA simulator (NUMBA_ENABLE_CUDASIM=1) it stays plain Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
_KERNELS = Path(__file__).parent
POISON = -0x5A5A5A5A5A5A5A5A


@cache
def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    files = sorted(folder.glob("*.py"))
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def notice_edits(compiled: Any, folder: Path) -> None:
    """Make numba's disk cache notice edits of any file of a folder.

    It looks only at the file of the outer loop: one that calls a changed helper would keep the old code.
    """
    stored = compiled._cache._cache_file
    stored._source_stamp = (stored._source_stamp, _stamp(_KERNELS), _stamp(folder))


def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile a plain loop at its first call, without fastmath, so that floats keep their written order."""
    if SIMULATED:
        return function
    compiled = numba.njit(nogil=True, cache=True, **options)(function)
    notice_edits(compiled, _KERNELS)
    return compiled


def jit_ieee(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a loop in which x / 0 is infinite or NaN, as it is on a GPU, and no error."""
    return jit(function, error_model="numpy")


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper of CPU loops into every loop that calls it: a call passes seven words for each array."""
    return numba.njit(nogil=True, forceinline=True)(function)


def require(op: str, name: str, tensor: torch.Tensor, dtype: torch.dtype, *shape: int | None) -> torch.Tensor:
    """Return `tensor` contiguous, or raise where its dtype or shape (None = any length) is not what the op takes."""
    if not isinstance(tensor, torch.Tensor) or tensor.dtype != dtype:
        got = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise TypeError(f"{op}: {name} must be a tensor of {dtype}, got {got}; convert it first")
    fits = tensor.dim() == len(shape) and all(
        want in (None, have) for want, have in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        wanted = ["any" if want is None else want for want in shape]
        raise ValueError(f"{op}: {name} must have shape {wanted}, got {list(tensor.shape)}")
    return tensor.contiguous()


def require_one_device(op: str, **tensors: torch.Tensor) -> None:
    """Raise where the tensors of one call do not all lie on the same device."""
    devices = {name: str(tensor.device) for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        raise ValueError(f"{op}: all tensors must be on one device, got {devices}; move them first")


def new_rows(like: Any, *shape: int) -> Any:
    """Allocate an int64 array of `shape` beside `like`: a tensor on its device, or numpy for the simulator."""
    if isinstance(like, torch.Tensor):
        return like.new_empty(shape, dtype=torch.int64)
    # The simulator is for tests: what a kernel forgets to write must show.
    return np.full(shape, POISON, np.int64)


def new_filled(like: Any, value: int) -> Any:
    """Allocate [1] int64 holding `value` beside `like`, for a kernel's atomic minimum."""
    made = new_rows(like, 1)
    made[:] = value
    return made


def launch(kernel: Any, blocks: int, threads: int, *arguments: Any) -> None:
    """Run a numba-cuda kernel on torch's current stream (numpy arguments: in the simulator); no blocks, no launch.

    Arguments are tensors, numpy arrays and integers, in the kernel's order.
    """
    if blocks == 0:
        return
    first = next((item for item in arguments if isinstance(item, torch.Tensor)), None)
    if first is None:
        kernel[blocks, threads](*arguments)
        return
    from numba import cuda
    from numba.cuda import dispatcher

    # Some grids are small on purpose; numba warns of each, and warnings are errors in tests.
    dispatcher.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
    with torch.cuda.device(first.device):
        stream = cuda.external_stream(torch.cuda.current_stream(first.device).cuda_stream)
        seen = [
            cuda.as_cuda_array(item.detach(), sync=False) if isinstance(item, torch.Tensor) else item
            for item in arguments
        ]
        kernel[blocks, threads, stream](*seen)


def in_threads(work: Callable[[int, int], Any], cuts: Sequence[int]) -> None:
    """Call `work(lo, hi)` for every pair of neighbouring cuts, each in its own thread, and wait.

    `work` must release the GIL (a `jit` loop does). Plain threads, because numba's own pool aborts in a forked child.
    """
    spans = [(lo, hi) for lo, hi in pairwise(cuts) if hi > lo]
    if len(spans) <= 1:
        for lo, hi in spans:
            work(lo, hi)
        return
    with ThreadPoolExecutor(len(spans)) as pool:
        for future in [pool.submit(work, lo, hi) for lo, hi in spans]:
            future.result()
