"""Before a peer is timed: its bars of a small file are what its stated rule gives, and how many of them are ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from bench.peers._client import PeerFailed, Worker
from bench.peers._contract import FileTrades, read
from bench.peers._definition import columns_of
from bench.peers._worker import PLAIN
from kernels.carry_ends import carry_ends
from kernels.reset_ends import reset_ends

# float32 columns agree to 6e-8; sums of floats in another order and powers of prices to less than this.
RELATIVE, ABSOLUTE = 1e-6, 1e-9
RULES = {"reset": reset_ends, "carry": carry_ends}


def check(worker: Worker, module: ModuleType, path: Path, threshold: int) -> list[str]:
    """Asserts every call of a peer on a clean file, and returns one line for each: its bars, and how many differ.

    Raises:
        PeerFailed: a column is not what the rule gives.
    """
    trades = read(path)
    worker.open(path, threshold)
    closes, _ = _rows(trades, threshold, "reset")
    compare(f"{worker.name}, plain loop", worker.table(PLAIN), columns_of(trades, *closes))
    lines = []
    for call, described in module.CALLS.items():
        given = trades.head(described.rows)
        expected = module.definition(given, threshold, call)
        compare(f"{worker.name}, {call}", worker.table(call), expected)
        bars = len(expected["last_trade_row"])
        reset, carry = (_others(given, threshold, rule, expected) for rule in RULES)
        lines.append(
            f"{worker.name}, {call}: {bars} bars of {len(given):,} trades, all as its rule says; "
            f"{reset} differ from ours under reset and {carry} under carry: {described.why}"
        )
    return lines


def compare(what: str, found: Mapping[str, Sequence[Any]], expected: Mapping[str, np.ndarray]) -> None:
    """Asserts every column found against the expected one; bars without any, or a column unknown, are failures.

    Raises:
        PeerFailed: where they differ, with the first such bar.
    """
    if not found or not len(next(iter(found.values()))):
        raise PeerFailed(f"{what}: it made no bars, so nothing is known of its rule")
    for name, values in found.items():
        mine, theirs = np.asarray(expected[name]), np.asarray(values)
        if len(mine) != len(theirs):
            raise PeerFailed(f"{what}: it makes {len(theirs)} bars, its rule {len(mine)}")
        near = np.isclose(theirs, mine, RELATIVE, ABSOLUTE, equal_nan=True)
        same = theirs == mine if mine.dtype.kind == "i" else near
        if not same.all():
            bar = int(np.argmin(same))
            raise PeerFailed(f"{what}: {name} of bar {bar} is {theirs[bar]}, its rule says {mine[bar]}")


def _rows(trades: FileTrades, threshold: int, rule: str) -> tuple[tuple[np.ndarray, np.ndarray], set[tuple[int, int]]]:
    """First and last rows of our complete bars, and the same as pairs."""
    ends, _ = RULES[rule](torch.from_numpy(trades.notional), threshold, torch.zeros(1, dtype=torch.int64))
    last = ends.numpy() - 1
    first = np.append(0, ends.numpy()[:-1])[: len(last)]
    return (first, last), set(zip(first.tolist(), last.tolist(), strict=True))


def _others(trades: FileTrades, threshold: int, rule: str, expected: Mapping[str, np.ndarray]) -> int:
    """How many of the peer's bars are none of ours."""
    _, ours = _rows(trades, threshold, rule)
    theirs = zip(expected["first_trade_row"].tolist(), expected["last_trade_row"].tolist(), strict=True)
    return len(set(theirs) - ours)
