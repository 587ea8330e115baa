"""Histories longer than memory: from trades to bars in one process, the peak does not grow with the history."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_pipeline.core.runfile import write_yaml

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
TRADE_BYTES = 41

# Runs a file at several lengths, one after the other in one process, and prints the peak of each:
# the kernel sets the peak back where 5 is written to clear_refs.
WATCH = """
import gc, json, sys
from pathlib import Path
from gpu_pipeline import pipeline
from gpu_pipeline.core import store
from gpu_pipeline.core.config import load_config
from gpu_pipeline.core.trace import Trace

def of(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024

store.ROW_GROUP = int(sys.argv[2])
peaks = []
for number, trades in enumerate(sys.argv[3:]):
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    changes = [f"ingest.trades.trades={trades}", f"name=run{number}"]
    pipeline.run(load_config(sys.argv[1], changes), Trace(), last="bars")
    peaks.append(of("VmHWM"))
print(json.dumps(peaks))
"""


def run_file(folder: Path, trades: int = 1_000) -> Path:
    values: dict[str, Any] = {
        "name": "long",
        "device": "cpu",
        "symbols": ["BTCUSDT"],
        "ingest": {"trades": {"source": "simulated", "trades": trades}},
        "bars": {"type": "dollar", "threshold": 2_000_000, "time": ["1min"]},
    }
    (folder / "run.yaml").write_text(write_yaml(values))
    return folder / "run.yaml"


def python(
    folder: Path, *arguments: object, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *(str(argument) for argument in arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=before,
    )


def peaks(folder: Path, row_group: int, *lengths: int) -> list[int]:
    """Peak memory of runs of so many trades, the first of them only to warm up."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this kernel does not set peak memory back (no /proc/self/clear_refs)")
    done = python(folder, "-c", WATCH, run_file(folder), row_group, *lengths)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))[1:]


def test_peak_memory_does_not_grow_with_the_history(tmp_path: Path) -> None:
    """Small row groups, so that a million trades are many of them. Held, four million more cost twice their columns."""
    short, long = peaks(tmp_path, 1 << 16, 1_000_000, 1_000_000, 5_000_000)
    assert long - short < TRADE_BYTES * 4_000_000, f"{short / MIB:.0f} MiB, then {long / MIB:.0f} MiB"


@pytest.mark.slow
def test_peak_memory_of_a_long_history(tmp_path: Path) -> None:
    short, long = peaks(tmp_path, 1 << 20, 1_000_000, 5_000_000, 20_000_000)
    assert long < 1.15 * short, f"{short / MIB:.0f} MiB, then {long / MIB:.0f} MiB"
    assert long < 2048 * MIB


def files_of_at_most(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_disk_that_fills_in_the_middle_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """A file may hold 1 MB: the clean trades of a month need four times as much."""
    name = run_file(tmp_path, 1_000_000).name
    done = python(tmp_path, "-m", "gpu_pipeline", "run", name, "--to", "bars", before=files_of_at_most(1_000_000))
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line[:8].replace(":", "").isdigit()]
    assert done.returncode == 3 and len(lines) == 1, done.stderr
    assert "BTCUSDT_2024_01.parquet: cannot write (File too large); free space or choose another folder" in lines[0]
    left = [path for path in (tmp_path / "runs" / ".store").rglob("*") if path.parent.name not in ("digests", "locks")]
    assert not [path for path in left if path.is_file()]
