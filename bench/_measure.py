"""How a figure is taken: percentiles over repeats, peak memory, bytes per second and their share of a ceiling."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from bench._memory import peak_mib

ROOT = Path(__file__).resolve().parent.parent
GROUP_SECONDS = 4.0
MOST_REPEATS, FEWEST_REPEATS = 15, 7
# A GPU's clocks rise with load; below this many seconds between two events their own cost shows.
WARM_SECONDS, EVENT_SECONDS = 0.2, 2e-3
MOST_CALLS = 200


class NotRun(Exception):
    """A benchmark that has nothing to measure here; the message says why."""


@runtime_checkable
class Elsewhere(Protocol):
    """A call in another process, measured there: what passes between the processes is in no figure."""

    def seconds(self) -> float:
        """Runs it once; seconds by that process's own clock around the work alone."""

    def peak_mib(self) -> float:
        """Runs it once; MiB that it held beyond what stood before."""


@dataclass(frozen=True)
class Case:
    """One thing to time; cases of the same op and shape are timed in turn.

    Attributes:
        op: what is measured.
        implementation: whose (ours, or a peer's name).
        shape: sizes in words, for example `10M trades`.
        items: how many units one call handles; figures are items per second.
        unit: what an item is.
        call: runs it once; its inputs are made beforehand.
        moved: the fewest bytes that one call must move (inputs read once, outputs written once); 0 where that says
            nothing.
    """

    op: str
    implementation: str
    shape: str
    items: int
    unit: str
    call: Callable[[], object] | Elsewhere
    moved: int = 0


@dataclass(frozen=True)
class Record:
    """One line of bench/results: rates in items per second, p20 the slow end of the repeats, p80 the fast one."""

    op: str
    implementation: str
    shape: str
    unit: str
    p20: float
    p50: float
    p80: float
    seconds_p50: float
    repeats: int
    bytes_per_s: float
    share_of_copy: float
    peak_mib: float
    device: str
    machine: str
    torch: str
    commit: str


COLUMNS = tuple(field.name for field in dataclasses.fields(Record))


def interleaved(cases: Sequence[Case], device: torch.device, *, tiny: bool = False) -> list[Record]:
    """Times several cases in turn, so that a drifting machine moves them alike; one record each."""
    peaks = [peak_of(case.call, device) for case in cases]
    counts = [_calls(case.call, device) for case in cases]
    once = sum(_seconds(case.call, device, count) * count for case, count in zip(cases, counts, strict=True))
    repeats = 2 if tiny else min(MOST_REPEATS, max(FEWEST_REPEATS, int(GROUP_SECONDS / once)))
    taken: list[list[float]] = [[] for _ in cases]
    for _ in range(repeats):
        for times, case, count in zip(taken, cases, counts, strict=True):
            times.append(_seconds(case.call, device, count))
    return [record_of(case, times, peak, device) for case, times, peak in zip(cases, taken, peaks, strict=True)]


def _seconds(call: Callable[[], object] | Elsewhere, device: torch.device, calls: int) -> float:
    """Seconds of one call: by the clock, on CUDA between two events around `calls` of them."""
    if isinstance(call, Elsewhere):
        return call.seconds()
    if device.type != "cuda":
        started = time.perf_counter()
        call()
        return time.perf_counter() - started
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        call()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) / 1e3 / calls


def _calls(call: Callable[[], object] | Elsewhere, device: torch.device) -> int:
    """How many calls one timing covers; on CUDA it warms up besides."""
    if device.type != "cuda":
        return 1
    started = time.perf_counter()
    while time.perf_counter() - started < WARM_SECONDS:
        seconds = _seconds(call, device, 1)
    return min(MOST_CALLS, math.ceil(EVENT_SECONDS / seconds))


def peak_of(call: Callable[[], object] | Elsewhere, device: torch.device) -> float:
    """MiB that a call held beyond what stood before: allocated on CUDA, resident on a Linux CPU, else 0.

    It is the second call: the first compiles.
    """
    if isinstance(call, Elsewhere):
        call.seconds()
        return call.peak_mib()
    call()
    if device.type != "cuda":
        return peak_mib(call)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def record_of(case: Case, times: Sequence[float], peak: float, device: torch.device) -> Record:
    """Rates from the seconds of each repeat."""
    cuts = statistics.quantiles(times, n=5, method="inclusive") if len(times) > 1 else [times[0]] * 4
    middle = statistics.median(times)
    moved = case.moved / middle
    return Record(
        op=case.op,
        implementation=case.implementation,
        shape=case.shape,
        unit=f"{case.unit}/s",
        p20=case.items / cuts[3],
        p50=case.items / middle,
        p80=case.items / cuts[0],
        seconds_p50=middle,
        repeats=len(times),
        bytes_per_s=moved,
        share_of_copy=moved / copy_bandwidth(device.type) if moved else 0.0,
        peak_mib=peak,
        device=device.type,
        machine=machine(device.type),
        torch=torch.__version__,
        commit=commit(),
    )


@cache
def copy_bandwidth(device: str) -> float:
    """Bytes read plus written per second by torch's own copy of a large buffer: the ceiling of memory-bound work."""
    size = 1 << 31 if device == "cuda" else 1 << 28
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    place = torch.device(device)
    target.copy_(source)
    calls = _calls(lambda: target.copy_(source), place)
    return 2 * size / statistics.median(_seconds(lambda: target.copy_(source), place, calls) for _ in range(7))


@cache
def machine(device: str) -> str:
    """The device's name; for a CPU its model and the number of threads that torch uses."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {torch.get_num_threads()} threads"


@cache
def commit() -> str:
    """The commit measured, `-dirty` where the tree differs from it.

    A copy without its history takes it from GPU_PIPELINE_COMMIT, else it is `unknown`.
    """
    given = os.environ.get("GPU_PIPELINE_COMMIT")
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    if given or not (ROOT / ".git").exists():
        return given or "unknown"
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
