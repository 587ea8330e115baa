"""Peers as cases of a benchmark: those that have an environment, once each was found to do what its file says."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from bench._measure import Case
from bench.peers._check import check
from bench.peers._client import Worker
from bench.peers._contract import RESIDENT, TRADE_BYTES, Call
from bench.peers._environments import names, python_of
from bench.peers._worker import PLAIN


@dataclass(frozen=True)
class Peers:
    """The processes of all peers that can run here, and their modules."""

    running: tuple[tuple[Worker, ModuleType], ...]

    def open(self, path: Path, threshold: int) -> None:
        """Loads a clean file in every process; the cases are of this file."""
        for worker, _ in self.running:
            worker.open(path, threshold)

    def cases(self, op: str, shape: str, rows: int) -> Iterator[Case]:
        """Every call of this op, and beside calls of resident trades our plain loop in the same environment."""
        for worker, module in self.running:
            for name, call in module.CALLS.items():
                if call.op == op:
                    yield _case(worker, name, call, shape, rows)
            if op == RESIDENT:
                numba = f"plain numba loop, 1 thread, numba {worker.versions['numba']} of {worker.name}"
                yield Case(op, numba, shape, rows, "trades", worker.call(PLAIN), rows * TRADE_BYTES)


def _case(worker: Worker, name: str, call: Call, shape: str, rows: int) -> Case:
    items = min(rows, call.rows or rows)
    part = f" (first {items:,} trades)" if items < rows else ""
    title = f"{worker.name} {worker.versions[worker.name]}: {call.gives}{part}"
    return Case(call.op, title, shape, items, "trades", worker.call(name), items * call.row_bytes)


def start(path: Path, threshold: int) -> Peers:
    """Starts each peer that has an environment, checks its calls on a small clean file and says how its bars differ.

    Raises:
        PeerFailed: a peer does not make the bars that its rule gives.
    """
    running = []
    for name in names():
        python = python_of(name)
        if python is None:
            sys.stdout.write(f"{name}: not run: it has no environment; `python -m bench peers {name}` makes it\n")
            continue
        worker = Worker(f"bench.peers.{name}", python, torch.get_num_threads())
        module = importlib.import_module(f"bench.peers.{name}")
        for line in check(worker, module, path, threshold):
            sys.stdout.write(f"{line}\n")
        running.append((worker, module))
    return Peers(tuple(running))
