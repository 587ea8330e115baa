"""Tests run before figures are taken."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bench._measure import ROOT

PLAIN = "not sim and not interpret and not compile and not gpu and not slow"
OURS = ("kernels", "gpu_pipeline", "train", "bench", "tests")
FOREIGN = ("NUMBA_ENABLE_CUDASIM", "TRITON_INTERPRET")


@dataclass(frozen=True)
class Outcome:
    """What one run of the tests gave.

    Attributes:
        files: test file -> how many passed, failed, skipped.
        absent: test file -> the package that it cannot be imported without.
        output: what pytest printed.
        crashed: pytest itself ended early, or is not installed.
    """

    files: dict[str, Counter[str]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    output: str = ""
    crashed: bool = False

    def total(self, kind: str) -> int:
        """Tests that `passed`, `failed` or were `skipped`."""
        return sum(counts[kind] for counts in self.files.values())

    def refusal(self, tests: str) -> str | None:
        """Why no figure may be taken of what these files (or folders) test; None where their tests passed."""
        chosen = [counts for name, counts in self.files.items() if _covers(tests, name)]
        missing = sorted({package for name, package in self.absent.items() if _covers(tests, name)})
        if self.crashed:
            return f"FAILED: the tests did not run to their end ({tests})"
        if failed := sum(counts["failed"] for counts in chosen):
            return f"FAILED: {failed} of its tests fail ({tests}); no figure is taken"
        if not sum(counts["passed"] for counts in chosen):
            reason = f"no module named {', '.join(missing)}" if missing else "none of its tests could run here"
            return f"not run: {reason} ({tests})"
        return None


def _covers(tests: str, name: str) -> bool:
    return any(name == path or name.startswith(path.rstrip("/") + "/") for path in tests.split())


def run_tests(paths: Sequence[str], device: torch.device) -> Outcome:
    """Runs test files or folders in a process of its own: the GPU ring on CUDA, else the unmarked tests."""
    marker = "gpu" if device.type == "cuda" else PLAIN
    # What other versions of other packages warn of is theirs; here results count.
    options = ["-q", "-rs", "-W", "default", "--continue-on-collection-errors", "-m", marker]
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", *paths]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        if not report.is_file() or done.returncode not in (0, 1, 2, 5):
            return Outcome(output=output, crashed=True)
        return _read(report, output)


def _read(report: Path, output: str) -> Outcome:
    outcome = Outcome(output=output)
    for test in ET.parse(report).getroot().iter("testcase"):
        name = _file_of(test)
        counts = outcome.files.setdefault(name, Counter())
        problem = next((part for part in test if part.tag in ("error", "failure")), None)
        if problem is not None and (package := _missing_package(problem)):
            outcome.absent[name] = package
        elif problem is not None:
            counts["failed"] += 1
        else:
            counts["skipped" if test.find("skipped") is not None else "passed"] += 1
    return outcome


def _file_of(test: ET.Element) -> str:
    """The path of a test's file; a file that cannot be imported is named by its dotted name alone."""
    parts = (test.get("classname") or test.get("name") or "").split(".")
    while parts and not (ROOT / "/".join(parts)).with_suffix(".py").is_file():
        parts.pop()
    return "/".join(parts) + ".py" if parts else "tests"


def _missing_package(problem: ET.Element) -> str | None:
    """The package that a test file could not be imported without, unless it is one of ours."""
    if problem.get("message") != "collection failure":
        return None
    found = re.findall(r"ModuleNotFoundError: No module named '([\w.]+)'", problem.text or "")
    return found[-1] if found and found[-1].split(".")[0] not in OURS else None
