"""`python -m bench gpu --out DIR`: the GPU ring of the tests and every benchmark, under any torch with CUDA.

Nothing is installed and no network is used. A part whose package is missing is listed as not run, never as passed.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
import traceback
from pathlib import Path

import torch

from bench._measure import Record, commit, copy_bandwidth, machine
from bench._record import append, show
from bench._rings import pytest_counts

PARTS = {
    "cudf": "Parquet straight to device memory",
    "nvidia.dali": "the DALI loader",
    "numba_cuda": "numba-cuda kernels",
}


def missing() -> dict[str, str]:
    """Optional packages that this interpreter lacks, and what cannot run without them."""
    return {name: part for name, part in PARTS.items() if not _importable(name)}


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def benchmarks(*, tiny: bool) -> tuple[list[Record], dict[str, str]]:
    """Records of every op, and why others did not run."""
    from bench.__main__ import ops, run

    records: list[Record] = []
    absent: dict[str, str] = {}
    for name in ops():
        try:
            records += run(name, torch.device("cuda"), tiny=tiny)
        except ImportError as error:
            absent[name] = f"not run: {error}"
        except SystemExit as error:
            absent[name] = f"FAILED: {error}"
        except Exception as error:
            absent[name] = f"FAILED: {type(error).__name__}: {error}"
            traceback.print_exc()
    return records, absent


def main(arguments: list[str]) -> int:
    """Runs everything; 1 where a test or a benchmark failed, 3 where there is no CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m bench gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for CSV and JSON")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        sys.stdout.write("no CUDA device: nothing was run and no GPU figure is claimed\n")
        return 3
    options.out.mkdir(parents=True, exist_ok=True)
    passed, failed, skipped, output = pytest_counts(["-m", "gpu", "-rs", "tests"])
    (options.out / "tests.log").write_text(output)
    records, absent = benchmarks(tiny=options.tiny)
    if records:
        append(records, options.out)
    device = torch.device("cuda")
    summary = {
        "machine": machine(device),
        "commit": commit(),
        "torch": torch.__version__,
        "copy_bytes_per_s": copy_bandwidth("cuda"),
        "tests": {"passed": passed, "failed": failed, "skipped": skipped},
        "missing": missing(),
        "not_run": absent,
        "records": [dataclasses.asdict(record) for record in records],
    }
    (options.out / "gpu.json").write_text(json.dumps(summary, indent=1) + "\n")
    _close(summary, records)
    return 1 if failed or any(reason.startswith("FAILED") for reason in absent.values()) else 0


def _close(summary: dict[str, object], records: list[Record]) -> None:
    show(records)
    for name, reason in {**summary["missing"], **summary["not_run"]}.items():  # type: ignore[dict-item]
        sys.stdout.write(f"{name}: {reason if 'run' in reason or 'FAILED' in reason else f'not run: {reason}'}\n")
    tests = summary["tests"]
    sys.stdout.write(f"{summary['machine']}, commit {summary['commit']}, gpu ring: {tests}\n")
