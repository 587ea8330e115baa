"""Runs every ring of the tests in a process of its own and says last how many ran of which ring."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Ring:
    """One process of tests: which marker, in which environment, and pytest's own arguments."""

    name: str
    marker: str
    environment: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """Counts of one ring."""

    ring: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    note: str = ""


PLAIN = "not sim and not interpret and not compile and not gpu and not slow"
# The ring on the CPU is by far the longest: these folders run beside the others, in a process of their own.
APART = ("tests/bars", "tests/features", "tests/ingest", "tests/kernels", "tests/labels")
RINGS = (
    Ring("cpu, stages' parts", PLAIN, arguments=APART),
    Ring("cpu, all others", PLAIN, arguments=tuple(f"--ignore={folder}" for folder in APART)),
    Ring("simulator", "sim and not slow", (("NUMBA_ENABLE_CUDASIM", "1"),)),
    Ring("triton interpreter", "interpret and not slow", (("TRITON_INTERPRET", "1"),)),
    Ring("compile gates", "compile and not slow"),
    Ring("gpu", "gpu and not slow"),
)
SLOW = (
    Ring("slow cpu", f"slow and {PLAIN.removesuffix(' and not slow')}"),
    Ring("slow simulator", "slow and sim", (("NUMBA_ENABLE_CUDASIM", "1"),)),
)


def run(ring: Ring, more: list[str]) -> tuple[Result, str]:
    """Runs one ring; returns its counts and what it printed."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            ring.marker,
            f"--junitxml={report}",
            "--durations=5",
            *ring.arguments,
            *more,
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={"PYTEST_TIMEOUT": "900", **os.environ, **dict(ring.environment)},
            capture_output=True,
            text=True,
            check=False,
        )
        counts = _counts(report) if report.is_file() else (0, 1, 0)
    passed, failed, skipped = counts
    crashed = done.returncode not in (0, 1, 5) and not failed
    seconds = time.perf_counter() - started
    return Result(ring.name, passed, failed + crashed, skipped, seconds), done.stdout + done.stderr


def _counts(report: Path) -> tuple[int, int, int]:
    suites = list(ET.parse(report).getroot().iter("testsuite"))
    total, failed, skipped = 0, 0, 0
    for suite in suites:
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return total - failed - skipped, failed, skipped


def has_gpu() -> bool:
    """Whether torch sees a CUDA device, asked in a process of its own."""
    probe = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
    return subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def collected(ring: Ring) -> int:
    """How many tests of a ring exist."""
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-m", ring.marker, *ring.arguments]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return sum("::" in line for line in listed.stdout.splitlines())


def write(text: str) -> None:
    """Writes at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Runs the rings, two at a time, and returns 1 where a test failed or none ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slow", action="store_true", help="the soak and random tests instead")
    parser.add_argument("rest", nargs="*", help="passed on to pytest")
    options = parser.parse_args(arguments)
    rings = SLOW if options.slow else RINGS
    gpu = has_gpu()
    runnable = [ring for ring in rings if "gpu" not in ring.name or gpu]
    results = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        for result, output in pool.map(lambda ring: run(ring, options.rest), runnable):
            write(f"--- {result.ring}\n{output}")
            results.append(result)
    missing = [
        Result(ring.name, 0, 0, collected(ring), 0.0, "not run: no CUDA device")
        for ring in rings
        if ring not in runnable
    ]
    return close([*results, *missing])


def close(results: list[Result]) -> int:
    """Prints one line per ring and the sum; the exit code follows from it."""
    for result in results:
        counts = f"{result.passed} passed, {result.failed} failed, {result.skipped} skipped"
        write(f"ring {result.ring:<20} {counts:<42} {result.seconds:6.0f} s {result.note}")
    passed, failed = sum(result.passed for result in results), sum(result.failed for result in results)
    write(f"{passed} passed, {failed} failed, {sum(result.skipped for result in results)} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
