"""`python -m bench OP [--tiny]`: first the op's tests, then its figures, appended to bench/results/<machine>.csv."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

import torch

import bench
from bench._measure import Case, Record, interleaved
from bench._record import append, show
from bench._rings import gate

REPEATS, TINY_REPEATS = 9, 2
COMMANDS = ("gpu", "gates")


def ops() -> list[str]:
    """Every benchmark of the folder."""
    names = (info.name for info in pkgutil.iter_modules(bench.__path__))
    return sorted(name for name in names if not name.startswith("_") and name not in COMMANDS)


def run(name: str, device: torch.device, *, tiny: bool, gated: bool = True) -> list[Record]:
    """Tests, then times one op's cases.

    Raises:
        SystemExit: its tests fail; a wrong result has no speed.
    """
    module = importlib.import_module(f"bench.{name}")
    if gated and not gate(module.TESTS, device):
        raise SystemExit(f"bench {name}: its tests fail on {device.type} ({module.TESTS}); no figure is taken")
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in module.cases(device, tiny):
        groups.setdefault((case.op, case.shape), []).append(case)
    repeats = TINY_REPEATS if tiny else REPEATS
    return [record for group in groups.values() for record in interleaved(group, device, repeats)]


def main(arguments: list[str]) -> int:
    """The command line of the benchmarks."""
    if arguments[:1] and arguments[0] in COMMANDS:
        return int(importlib.import_module(f"bench.{arguments[0]}").main(arguments[1:]))
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("op", choices=[*ops(), "all", *COMMANDS])
    parser.add_argument("--tiny", action="store_true", help="small sizes: does it run, not how fast")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="another folder than bench/results")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    records: list[Record] = []
    for name in ops() if options.op == "all" else [options.op]:
        records += run(name, device, tiny=options.tiny)
    show(records)
    if not options.tiny or options.out:
        sys.stdout.write(f"appended to {append(records, options.out)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
