"""`python -m bench gpu --out DIR`: the GPU ring of the tests and every benchmark, under any Python that has torch.

Nothing is installed and no network is used. What cannot run because a package is missing is listed as not run, never as
passed, and no figure is taken of what has no passing test on the GPU. Records are written as they come, so that a run
that is stopped leaves what it measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import torch

from bench._measure import Record, commit, copy_bandwidth, machine
from bench._record import append, list_reasons, show
from bench._rings import Outcome, run_tests
from bench._suite import measure_all, ops

DEVICE = "cuda"
PARTS = {
    "pytest": "all tests, and so all figures",
    "numba_cuda": "kernels of bars, book and barriers",
    "triton": "kernels of smoothing, rolling windows and window gather",
    "pydantic": "every stage but bars",
    "pylibcudf": "Parquet straight to device memory",
    "cudf": "GPU frames",
    "nvidia.dali": "the DALI loader",
    "webdataset": "shards",
    "hypothesis": "random tests on the CPU; the GPU ring does not need it",
}


def missing() -> dict[str, str]:
    """Packages that this interpreter lacks -> what cannot run without them."""
    return {name: part for name, part in PARTS.items() if not _found(name)}


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def main(arguments: list[str]) -> int:
    """Runs everything; 1 where a test or a benchmark failed, 3 where there is no CUDA device."""
    options = _parser().parse_args(arguments)
    if not torch.cuda.is_available():
        sys.stdout.write("no CUDA device: nothing was run and no GPU figure is claimed\n")
        return 3
    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(DEVICE)
    outcome = run_tests(["tests"], device)
    (options.out / "tests.log").write_text(outcome.output)
    sys.stdout.write(f"gpu ring: {_counts(outcome)}\n")
    summary = _summary(outcome)
    for name, records, reason in measure_all(options.ops or ops(), device, outcome, tiny=options.tiny):
        sys.stdout.write(f"{name}: {reason or f'{len(records)} figures'}\n")
        sys.stdout.flush()
        if records:
            append(records, options.out)
        summary["records"] += [dataclasses.asdict(record) for record in records]
        summary["not_run"] |= {name: reason} if reason else {}
        (options.out / "gpu.json").write_text(json.dumps(summary, indent=1) + "\n")
    _close(summary, outcome)
    problems = [reason for reason in summary["not_run"].values() if reason.startswith("FAILED")]
    return 1 if problems or outcome.crashed or outcome.total("failed") or not outcome.total("passed") else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for CSV, JSON and the log of the tests")
    parser.add_argument("--tiny", action="store_true", help="small sizes: does it run")
    parser.add_argument("ops", nargs="*", metavar="OP", help="only these benchmarks, by default all")
    return parser


def _counts(outcome: Outcome) -> dict[str, Any]:
    kinds = ("passed", "failed", "skipped")
    return {**{kind: outcome.total(kind) for kind in kinds}, "crashed": outcome.crashed}


def _summary(outcome: Outcome) -> dict[str, Any]:
    return {
        "machine": machine(DEVICE),
        "commit": commit(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "copy_bytes_per_s": copy_bandwidth(DEVICE),
        "tests": _counts(outcome),
        "tests_not_run": outcome.absent,
        "missing": missing(),
        "not_run": {},
        "records": [],
    }


def _close(summary: dict[str, Any], outcome: Outcome) -> None:
    """What a person reads first comes last."""
    if outcome.crashed or outcome.total("failed"):
        sys.stdout.write(outcome.output[-3000:] + "\n")
    list_reasons({f"package {name}": f"missing: {part}: not run" for name, part in summary["missing"].items()})
    list_reasons({name: f"not run: no module named {package}" for name, package in outcome.absent.items()})
    list_reasons(summary["not_run"])
    show([Record(**record) for record in summary["records"]])
    copy = summary["copy_bytes_per_s"] / 1e12
    sys.stdout.write(
        f"{summary['machine']}, copy {copy:.2f} TB/s, commit {summary['commit']}, torch {summary['torch']}, "
        f"gpu ring {summary['tests']}\n"
    )
