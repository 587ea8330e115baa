"""Tests run before figures are taken."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import torch

from bench._measure import ROOT

PLAIN = "not sim and not interpret and not compile and not gpu and not slow"


def gate(tests: str, device: torch.device) -> bool:
    """Whether an op's tests pass on the device it is about to be timed on."""
    marker = "gpu" if device.type == "cuda" else PLAIN
    return pytest_counts(["-m", marker, *tests.split()])[1] == 0


def pytest_counts(arguments: list[str]) -> tuple[int, int, int, str]:
    """Runs pytest in a process of its own; returns passed, failed, skipped and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NUMBA_ENABLE_CUDASIM", "TRITON_INTERPRET")
        }
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        if not report.is_file():
            return 0, 1, 0, output
        suites = list(ET.parse(report).getroot().iter("testsuite"))
    total = sum(int(suite.get("tests", 0)) for suite in suites)
    failed = sum(int(suite.get("failures", 0)) + int(suite.get("errors", 0)) for suite in suites)
    skipped = sum(int(suite.get("skipped", 0)) for suite in suites)
    return total - failed - skipped, failed, skipped, output
