"""Shared fixtures, and the closing count of which ring ran."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RINGS = ("sim", "interpret", "compile", "gpu", "slow")


def data_folder() -> Path:
    """The folder of real market data: GPU_PIPELINE_TEST_DATA, else ../shared/data beside the project."""
    return Path(os.environ.get("GPU_PIPELINE_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def market_data() -> Path:
    folder = data_folder()
    if not folder.is_dir():
        pytest.skip(f"no real market data: set GPU_PIPELINE_TEST_DATA (looked in {folder})")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran, skipped = Counter(), Counter()
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, ()):
            if getattr(report, "when", "call") == "call":
                ran[_ring(report)] += 1
    for report in terminalreporter.stats.get("skipped", ()):
        skipped[_ring(report)] += 1
    terminalreporter.write_line(f"rings: ran {dict(ran) or 'none'}, skipped {dict(skipped) or 'none'}")


def _ring(report: pytest.TestReport) -> str:
    return next((ring for ring in RINGS if ring in report.keywords), "cpu")
