"""How a figure is taken: percentiles over repeats, peak memory, bytes per second and their share of a ceiling."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = (
    "op",
    "implementation",
    "shape",
    "unit",
    "p20",
    "p50",
    "p80",
    "seconds_p50",
    "bytes_per_s",
    "share_of_copy",
    "peak_mib",
    "device",
    "machine",
    "torch",
    "commit",
)


@dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
        op: what is measured.
        implementation: whose (ours, or a peer's name).
        shape: sizes in words, for example `10M trades`.
        items: how many units one call handles; figures are items per second.
        unit: what an item is.
        call: runs it once; its inputs are made beforehand.
        moved: the fewest bytes that one call must move, 0 where that says nothing.
    """

    op: str
    implementation: str
    shape: str
    items: int
    unit: str
    call: Callable[[], object]
    moved: int = 0


@dataclass(frozen=True)
class Record:
    """One line of bench/results."""

    op: str
    implementation: str
    shape: str
    unit: str
    p20: float
    p50: float
    p80: float
    seconds_p50: float
    bytes_per_s: float
    share_of_copy: float
    peak_mib: float
    device: str
    machine: str
    torch: str
    commit: str


def seconds_of(call: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Wall seconds of each repeat after one warm-up; on CUDA between events on the stream."""
    call()
    return [_cuda_seconds(call) if device.type == "cuda" else _cpu_seconds(call) for _ in range(repeats)]


def _cpu_seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _cuda_seconds(call: Callable[[], object]) -> float:
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    call()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) / 1e3


def interleaved(cases: list[Case], device: torch.device, repeats: int) -> Iterator[Record]:
    """Times several cases in turn, so that a drifting machine moves them alike; one record each."""
    taken: list[list[float]] = [[] for _ in cases]
    peaks = [_peak_of(case.call, device) for case in cases]
    for _ in range(repeats):
        for times, case in zip(taken, cases, strict=True):
            times += seconds_of_once(case.call, device)
    for case, times, peak in zip(cases, taken, peaks, strict=True):
        yield record_of(case, times, peak, device)


def seconds_of_once(call: Callable[[], object], device: torch.device) -> list[float]:
    """One timed call, warm already."""
    return [_cuda_seconds(call) if device.type == "cuda" else _cpu_seconds(call)]


def _peak_of(call: Callable[[], object], device: torch.device) -> float:
    """The warm-up call; on CUDA with the peak memory that it allocated beyond what stood before."""
    if device.type != "cuda":
        call()
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return float(torch.cuda.max_memory_allocated() - before) / 2**20


def record_of(case: Case, times: list[float], peak: float, device: torch.device) -> Record:
    """Rates from times: p20 is the slow end, p80 the fast one."""
    cuts = statistics.quantiles(times, n=5, method="inclusive") if len(times) > 1 else [times[0]] * 4
    slow, fast, middle = cuts[3], cuts[0], statistics.median(times)
    rate = case.moved / middle
    return Record(
        case.op,
        case.implementation,
        case.shape,
        f"{case.unit}/s",
        case.items / slow,
        case.items / middle,
        case.items / fast,
        middle,
        rate,
        rate / copy_bandwidth(device.type) if case.moved else 0.0,
        peak,
        device.type,
        machine(device),
        torch.__version__,
        commit(),
    )


@cache
def copy_bandwidth(device: str) -> float:
    """Bytes read plus written per second by torch's own copy of a large buffer: the ceiling of memory-bound work."""
    size = 1 << 31 if device == "cuda" else 1 << 28
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = seconds_of(lambda: target.copy_(source), torch.device(device), 7)
    return 2 * size / statistics.median(times)


@cache
def machine(device: torch.device) -> str:
    """The device's name; for a CPU its model and the number of threads that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {torch.get_num_threads()} threads"


@cache
def commit() -> str:
    """The commit measured, marked where the tree differs from it; `unknown` outside a checkout."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
