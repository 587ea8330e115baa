"""`python -m bench OP [--tiny]`: first the op's tests, then its figures, appended to bench/results/<machine>.csv.

OP is a benchmark (`bars` with the ops that bars are made of), `all`, `gpu` (everything, on a GPU machine), `gates` and
`networks` (checks on simulated markets), `peers` (makes the environments that bars are compared in), or `compiled`
(registers, spills and shared memory of every numba-cuda kernel, without a GPU).
With `--tiny` sizes are small and no test is run first: it shows that a benchmark runs, not how fast, and nothing is
recorded unless `--out` names a folder.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import torch

from bench._measure import Record
from bench._record import append, list_reasons, show
from bench._rings import run_tests
from bench._suite import COMMANDS, measure_all, ops, tests_of, with_parts


def main(arguments: list[str]) -> int:
    """The command line of the benchmarks: 0, or 1 where a test or a benchmark failed."""
    if arguments[:1] and arguments[0] in COMMANDS:
        return int(importlib.import_module(f"bench.{arguments[0]}").main(arguments[1:]))
    options = _parser().parse_args(arguments)
    device = torch.device(options.device)
    names = ops() if options.op == "all" else with_parts(options.op)
    paths = sorted({path for name in names for path in tests_of(name).split()})
    outcome = None if options.tiny else run_tests(paths, device)
    records: list[Record] = []
    reasons: dict[str, str] = {}
    for name, found, reason in measure_all(names, device, outcome, tiny=options.tiny):
        records += found
        if reason:
            reasons[name] = reason
    show(records)
    list_reasons(reasons)
    failed = any(reason.startswith("FAILED") for reason in reasons.values())
    if failed and outcome:
        sys.stdout.write(outcome.output)
    if records and (options.out or not options.tiny):
        sys.stdout.write(f"appended to {append(records, options.out)}\n")
    return 1 if failed or not records else 0


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=form)
    parser.add_argument("op", choices=[*ops(), "all", *COMMANDS], metavar="OP", help=", ".join([*ops(), "all"]))
    parser.add_argument("--tiny", action="store_true", help="small sizes, no tests first, nothing recorded")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="record there instead of in bench/results")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
