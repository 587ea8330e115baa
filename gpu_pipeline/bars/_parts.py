"""What one file of trades gives to its symbol's bars, made apart from the files before it; and how parts join.

A file's bars depend on the files before it by two things: the state of the rules, which `chase` carries over the file
from the few columns that rules read, and the sums of the bar that stands open, which `join` merges with the first bar
that the file closes. Both are integers, so bars made in parts have the bits of bars made in one pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from gpu_pipeline.bars import _fold
from gpu_pipeline.bars._account import Totals
from gpu_pipeline.core.config import BarsSection
from gpu_pipeline.core.schema import Symbol, Tensor, Trades
from kernels import bar_sums
from kernels.pool_sums import pool_sums

BLOCK = 1 << 20
Entry = dict[str, list[int]]


class TradeFile(Protocol):
    """A file of trades as the stage before names it: the unit of `at_file_end`, read chunk by chunk."""

    @property
    def first_row(self) -> int:
        """Rows of the symbol's trades before it."""

    @property
    def rows(self) -> int:
        """Its trades."""

    @property
    def month(self) -> tuple[int, int]:
        """The UTC year and month that all of them lie in."""


class Read(Protocol):
    """How the trades of a file are read, in chunks; `columns` other than those named (and the times) are empty."""

    def __call__(
        self, file: Any, symbol: Symbol, device: torch.device, columns: Sequence[str] | None = None
    ) -> Iterable[Trades]:
        """The chunks."""


@dataclass(frozen=True)
class Task:
    """One file of trades and all that a worker needs to make its part.

    Attributes:
        read: gives the trades of `file`.
        section: the run file's `bars`.
        scratch: where the columns that rules read may be kept as plain arrays, under the name `number`.
    """

    read: Read
    section: BarsSection
    symbol: Symbol
    file: TradeFile
    device: torch.device
    scratch: Path
    number: int

    def chains(self) -> tuple[_fold.Chain, ...]:
        """The plan of the run."""
        return _fold.plan(self.section)

    def column(self, name: str) -> Path:
        """The scratch file of a column."""
        return self.scratch / f"{self.number}.{name}"


@dataclass(frozen=True)
class FilePart:
    """What a file gives: integers on the host.

    Attributes:
        totals: of its trades.
        has_side: as the trades have it.
        sums: resolution -> [K, B] of the bars that close in the file; the first lacks what was carried in.
        next_ns: resolution -> [B], as in `_fold.Closed`.
        state: the fold's state after the file; open sums lack what was carried in where no bar closed.
    """

    totals: Totals
    has_side: bool
    sums: dict[str, np.ndarray]
    next_ns: dict[str, np.ndarray | None]
    state: Entry


def rule_columns(chains: Iterable[_fold.Chain]) -> tuple[str, ...]:
    """The columns of Trades that the rules of some chains read: what their types declare, and the times."""
    modules = [chain.plugin.module for chain in chains if chain.of is None]
    wanted = {"time_ns"}.union(*(getattr(module, "COLUMNS", Trades.COLUMNS) for module in modules))
    return tuple(name for name in Trades.COLUMNS if name in wanted)


def extract(task: Task) -> bool:
    """Decodes the columns that rules read into scratch files, so that `chase` has nothing to decode; has it a side?"""
    names, has_side = rule_columns(task.chains()), True
    drafts = {name: task.column(f"{name}.{os.getpid()}") for name in names}
    with ExitStack() as stack:
        files = {name: stack.enter_context(draft.open("wb")) for name, draft in drafts.items()}
        for chunk in task.read(task.file, task.symbol, torch.device("cpu"), names):
            has_side = chunk.has_side
            for name, file in files.items():
                file.write(memoryview(getattr(chunk, name).numpy()).cast("B"))
    for name, draft in drafts.items():
        draft.replace(task.column(name))
    return has_side


def chase(task: Task, entry: Entry, has_side: bool | None = None) -> Entry:
    """The state of the rules after the file, from that before it: the only work that files must do in order.

    It reads what `extract` left, which said `has_side`; where that is None, the file itself.
    """
    chains = task.chains()
    names = rule_columns(chains)
    if has_side is None:
        chunks = task.read(task.file, task.symbol, task.device, names)
    else:
        chunks = _extracted(task, names, has_side)
    state = _fold.state_from_json(entry, task.device)
    for chunk in chunks:
        if len(chunk):
            _, state = _fold.rules(chunk, chains, state)
    return _fold.state_to_json(state)


def _extracted(task: Task, names: Sequence[str], has_side: bool) -> Iterator[Trades]:
    for begin in range(0, task.file.rows, BLOCK):
        count = min(BLOCK, task.file.rows - begin)
        whole: dict[str, Any] = {name: torch.zeros(0, dtype=torch.int64) for name in Trades.COLUMNS}
        for name in names:
            kind = np.dtype(np.bool_ if name == "is_buyer_maker" else np.int64)
            values = np.fromfile(task.column(name), kind, count, offset=begin * kind.itemsize)
            whole[name] = torch.from_numpy(values)
        yield Trades(task.symbol, first_row=task.file.first_row + begin, has_side=has_side, **whole)


def forget(task: Task) -> None:
    """Removes the scratch files of a task."""
    for name in rule_columns(task.chains()):
        task.column(name).unlink(missing_ok=True)


def make(task: Task, entry: Entry) -> FilePart:
    """The part of a file, given the state of the rules before it."""
    chains, state = task.chains(), _fold.state_from_json(entry, task.device)
    totals, has_side = Totals(), True
    found: list[dict[str, _fold.Closed]] = []
    for chunk in task.read(task.file, task.symbol, task.device):
        if len(chunk):
            totals.add_trades(chunk)
            has_side = chunk.has_side
            closed, state = _fold.fold(chunk, chains, state)
            found.append(closed)
    names = [chain.resolution for chain in chains]
    none = np.zeros((bar_sums.K, 0), np.int64)
    return FilePart(
        totals,
        has_side,
        {name: np.concatenate([none, *(_array(closed[name].sums) for closed in found)], axis=1) for name in names},
        {name: _joined([closed[name].next_ns for closed in found]) for name in names},
        _fold.state_to_json(state),
    )


def _array(values: Tensor) -> np.ndarray:
    array: np.ndarray = values.cpu().numpy()
    return array


def _joined(parts: Sequence[Tensor | None]) -> np.ndarray | None:
    known = [_array(part) for part in parts if part is not None]
    return np.concatenate(known) if known else None


def join(
    chains: Sequence[_fold.Chain], state: _fold.State, part: FilePart
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What `_fold.step` gives for all trades of a file: (sums, state), from the state before it and the file's part."""
    after, sums = _fold.state_from_json(part.state), {}
    for chain in chains:
        name = chain.resolution
        opened = f"{name}.open_sums"
        found, next_ns = torch.tensor(part.sums[name]), part.next_ns[name]
        if opened in state and found.shape[1]:
            found[:, 0] = _one_bar(state[opened], found[:, 0])
        elif opened in state and opened in after:
            after[opened] = _one_bar(state[opened], after[opened])
        closed = _fold.Closed(found, None if next_ns is None else torch.tensor(next_ns))
        sums[name] = closed.finished(chain)
    return sums, after


def _one_bar(before: Tensor, after: Tensor) -> Tensor:
    return pool_sums(torch.stack((before, after), 1), torch.tensor([2]))[:, 0]
