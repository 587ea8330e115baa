"""A resolution's expressions as tapes: instructions, slots and state, one tape per thread (see kernels/tape.py).

Every expression with memory owns a stretch of one flat state, wherever it runs; an expression that several threads need
is computed by each of them. Axes: B rows, F outputs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu_pipeline.features.expression import Expression
from kernels import tape
from kernels._tape_steps import LANES, SMOOTH_STATE, rolling_state
from kernels.recurrence import KINDS
from kernels.rolling import OPS

# Below this many rows a second thread costs more than it saves.
ROWS_PER_THREAD = 1 << 14
# What an expression costs beside one pointwise operation, for dividing the work.
COSTS = {"smooth": 8, "rolling": 6, "loop": 20, "log": 10, "exp": 10, "sin": 15, "cos": 15, "div": 3, "sqrt": 4}
# The last two results up to this size are kept for reuse once nobody holds them.
KEPT_BYTES = 1 << 28
_KEPT: list[np.ndarray] = []
# References to an array that only the list, the loop over it and the question itself hold.
FREE = 3


def state_size(node: Expression) -> int:
    """Numbers of state that an expression keeps."""
    if node.kind == "lag":
        return int(node.parameters[0])
    if node.kind == "smooth":
        return SMOOTH_STATE
    if node.kind == "rolling":
        return int(rolling_state(node.parameters[0]))
    return len(node.parameters[1]) if node.kind == "loop" else 0


def initial_state(nodes: Iterable[Expression]) -> np.ndarray:
    """The state before the first row, of all expressions in their order."""
    parts: list[Any] = []
    for node in nodes:
        if node.kind == "lag":
            parts.append(np.full(state_size(node), np.nan))
        elif node.kind == "loop":
            parts.append(np.array(node.parameters[1], np.float64))
        else:
            parts.append(np.zeros(state_size(node)))
    return np.concatenate(parts) if parts else np.zeros(0)


@dataclass
class Tape:
    """Instructions of one thread, and where its own copies of shared state lie.

    Attributes:
        owned: (offset in the whole state, length) of the states that this tape hands on.
    """

    code: np.ndarray
    lanes: np.ndarray
    numbers: np.ndarray
    slots: int
    widest: int
    owned: list[tuple[int, int]] = field(default_factory=list)


class Tapes:
    """The outputs of one resolution, for any number of threads."""

    def __init__(self, nodes: Mapping[str, Expression], outputs: Sequence[str], warmup: Sequence[int]) -> None:
        self._nodes, self._outputs, self._warmup = nodes, tuple(outputs), tuple(warmup)
        self.columns = tuple(node.parameters[0] for node in nodes.values() if node.kind == "column")
        self._offsets: dict[str, int] = {}
        total = 0
        for name, node in nodes.items():
            self._offsets[name] = total
            total += state_size(node)
        self._start = initial_state(nodes.values())
        self._made: dict[int, list[Tape]] = {}
        self._scratch: dict[tuple[int, int, int], tuple[Any, ...]] = {}

    def start(self) -> Tensor:
        """The flat state before the first row."""
        return torch.from_numpy(self._start.copy())

    def step(
        self, columns: Mapping[str, Tensor], rows: int, state: Tensor, seen: int, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Outputs [B, F] (a view of [F, B]) of columns [B] or [], and the state after them."""
        threads = max(1, min(torch.get_num_threads(), rows // ROWS_PER_THREAD, len(self._outputs)))
        tapes = self._tapes(threads)
        held = [columns[name].contiguous() for name in self.columns]
        sources = np.array([[column.data_ptr(), column.numel()] for column in held], np.int64).reshape(-1, 2)
        made = empty_columns(len(self._outputs), rows, state.device) if out is None else out
        target, before = made.numpy(), state.numpy()
        states = [before.copy() for _ in tapes]

        def play(number: int) -> None:
            made = tapes[number]
            memory = self._memory(number, made)
            tape.play(made.code, made.lanes, made.numbers, sources, *memory, states[number], seen, rows, target)

        _all(play, len(tapes))
        return made.t(), torch.from_numpy(_joined(tapes, states))

    def _memory(self, number: int, made: Tape) -> tuple[Any, ...]:
        key = number, made.slots, made.widest
        if key not in self._scratch:
            self._scratch[key] = tape.scratch(made.slots, made.widest)
        return self._scratch[key]

    def _tapes(self, threads: int) -> list[Tape]:
        if threads not in self._made:
            taken: set[str] = set()
            self._made[threads] = []
            for part in divide(self._nodes, self._outputs, threads):
                made = _Writer(self._nodes, self._offsets).write(part, self._outputs, self._warmup)
                for name in needed(self._nodes, [self._outputs[index] for index in part]):
                    size = state_size(self._nodes[name])
                    if size and name not in taken:
                        made.owned.append((self._offsets[name], size))
                        taken.add(name)
                self._made[threads].append(made)
        return self._made[threads]


def empty_columns(columns: int, rows: int, device: torch.device) -> Tensor:
    """[F, B] float64 to be written."""
    if device.type != "cpu":
        return torch.empty(columns, rows, dtype=torch.float64, device=device)
    return torch.from_numpy(_memory(columns * rows).reshape(columns, rows))


def _memory(size: int) -> np.ndarray:
    """Memory of a result that nobody holds any more, or new one.

    The system clears every page before its first use, which takes a quarter of the time of a set of indicators; torch
    keeps freed memory for reuse on CUDA, but not on the CPU.
    """
    for kept in _KEPT:
        if kept.size == size and sys.getrefcount(kept) == FREE:
            return kept
    # numpy asks for huge pages, torch does not.
    made = np.empty(size)
    if made.nbytes <= KEPT_BYTES:
        _KEPT[:] = [*_KEPT[-1:], made]
    return made


def _all(work: Any, count: int) -> None:
    if count == 1:
        work(0)
        return
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def _joined(tapes: Sequence[Tape], states: Sequence[np.ndarray]) -> np.ndarray:
    """The first tape's state, with what the others own."""
    after = states[0]
    for made, state in zip(tapes[1:], states[1:], strict=True):
        for offset, size in made.owned:
            after[offset : offset + size] = state[offset : offset + size]
    return after


def needed(nodes: Mapping[str, Expression], outputs: Iterable[str]) -> list[str]:
    """The expressions that some outputs are computed from, inputs first."""
    wanted: set[str] = set()
    visit = list(outputs)
    while visit:
        name = visit.pop()
        if name not in wanted:
            wanted.add(name)
            visit += [part.name for part in nodes[name].inputs]
    return [name for name in nodes if name in wanted]


def divide(nodes: Mapping[str, Expression], outputs: Sequence[str], parts: int) -> list[list[int]]:
    """Positions of outputs for each thread: the dearest first, each to where it adds the least to the longest."""
    closures = [needed(nodes, [name]) for name in outputs]
    cost = {name: COSTS.get(node.kind, 1) for name, node in nodes.items()}
    order = sorted(range(len(outputs)), key=lambda index: -sum(cost[name] for name in closures[index]))
    held: list[set[str]] = [set() for _ in range(parts)]
    load, found = [0] * parts, [[] for _ in range(parts)]  # type: tuple[list[int], list[list[int]]]
    for index in order:
        more = [
            load[part] + sum(cost[name] for name in closures[index] if name not in held[part]) for part in range(parts)
        ]
        best = more.index(min(more))
        load[best] = more[best] + 1
        held[best].update(closures[index])
        found[best].append(index)
    return [sorted(part) for part in found if part]


class _Writer:
    """Writes the instructions of some outputs; a slot is free again once nothing later reads it."""

    def __init__(self, nodes: Mapping[str, Expression], offsets: Mapping[str, int]) -> None:
        self._nodes, self._offsets = nodes, offsets
        self._code: list[list[int]] = []
        self._lanes: list[int] = []
        self._numbers: list[float] = []
        self._slot: dict[str, int] = {}
        self._free: list[int] = []
        self._slots = self._widest = 0

    def write(self, part: Sequence[int], outputs: Sequence[str], warmup: Sequence[int]) -> Tape:
        """The tape of the outputs at the positions `part`."""
        names = needed(self._nodes, [outputs[index] for index in part])
        self._columns = {
            node.parameters[0]: index
            for index, node in enumerate(node for node in self._nodes.values() if node.kind == "column")
        }
        self._left = _uses(self._nodes, names)
        stores: dict[str, list[int]] = {}
        for index in part:
            stores.setdefault(outputs[index], []).append(index)
            self._left[outputs[index]] += 1
        for batch in _batches(self._nodes, names):
            self._compute(batch)
            for name in batch:
                for index in stores.get(name, ()):
                    self._emit(tape.STORE, 0, self._slot[name], size=warmup[index], extra=index)
                    self._used(name)
        code = np.array(self._code, np.int64).reshape(-1, tape.WORDS)
        lanes, numbers = np.array(self._lanes or [0], np.int64), np.array(self._numbers or [0.0])
        return Tape(code, lanes, numbers, self._slots, self._widest)

    def _compute(self, batch: Sequence[str]) -> None:
        node = self._nodes[batch[0]]
        if node.kind == "item":
            return
        if node.kind == "smooth":
            self._smooth(batch)
        elif node.kind == "loop":
            self._loop(node)
        else:
            self._plain(node)
        for name in batch:
            for part in self._nodes[name].inputs:
                self._used(part.name)

    def _plain(self, node: Expression) -> None:
        inputs = [self._slot[part.name] for part in node.inputs] + [0, 0, 0]
        target, offset = self._take(node.name), self._offsets[node.name]
        if node.kind == "column":
            self._emit(tape.LOAD, target, self._columns[node.parameters[0]])
        elif node.kind == "constant":
            self._numbers.append(node.parameters[0])
            self._emit(tape.FILL, target, len(self._numbers) - 1)
        elif node.kind == "lag":
            self._emit(tape.LAG, target, inputs[0], offset=offset, size=node.parameters[0])
        elif node.kind == "rolling":
            window, op, ddof = node.parameters
            self._emit(tape.ROLL, target, inputs[0], OPS.index(op), ddof, offset, window)
        else:
            self._emit(tape.POINTWISE.index(node.kind), target, *inputs[:3])

    def _smooth(self, batch: Sequence[str]) -> None:
        first = len(self._lanes)
        for name in batch:
            node = self._nodes[name]
            source = self._slot[node.inputs[0].name]
            self._lanes += [source, self._take(name), self._offsets[name], node.parameters[0]]
        wilder = self._nodes[batch[0]].parameters[1] == "wilder"
        self._emit(tape.SMOOTH, 0, 0, first, len(batch), extra=int(wilder))

    def _loop(self, node: Expression) -> None:
        function, state, outputs, *parameters = node.parameters
        first, inputs = len(self._lanes), [self._slot[part.name] for part in node.inputs]
        items = [Expression("item", (node,), (index,)).name for index in range(outputs)]
        made = [self._take(name) for name in items]
        self._slot[node.name] = made[0]
        self._lanes += [len(inputs), len(parameters), *inputs, *made]
        begin = len(self._numbers)
        self._numbers += [float(value) for value in parameters]
        count, offset = len(inputs) + outputs, self._offsets[node.name]
        self._emit(tape.LOOP, 0, count, first, begin, offset, len(state), function.address)
        self._widest = max(self._widest, len(inputs), outputs)
        for name in items:
            if not self._left.get(name):
                self._free.append(self._slot.pop(name))

    def _emit(self, *words: int, offset: int = 0, size: int = 0, extra: int = 0) -> None:
        row = [*words, *[0] * (tape.WORDS - len(words))]
        if len(words) <= 5:
            row[5:] = [offset, size, extra]
        elif len(words) == 7:
            row[7] = extra
        self._code.append([int(word) for word in row])

    def _take(self, name: str) -> int:
        if not self._free:
            self._free.append(self._slots)
            self._slots += 1
        self._slot[name] = self._free.pop()
        return self._slot[name]

    def _used(self, name: str) -> None:
        self._left[name] -= 1
        if self._left[name] == 0 and self._nodes[name].kind != "loop":
            self._free.append(self._slot.pop(name))


def _uses(nodes: Mapping[str, Expression], names: Sequence[str]) -> dict[str, int]:
    left = dict.fromkeys(names, 0)
    for name in names:
        for part in nodes[name].inputs:
            left[part.name] += 1
    return left


def _batches(nodes: Mapping[str, Expression], names: Sequence[str]) -> Iterable[list[str]]:
    """Expressions in an order in which they can be computed; smoothings of one kind that are ready stand together."""
    level: dict[str, int] = {}
    for name in names:
        own = nodes[name].kind == "smooth"
        level[name] = max((level[part.name] for part in nodes[name].inputs), default=0) + own
    for height in range(max(level.values(), default=0) + 1):
        here = [name for name in names if level[name] == height]
        smooth = [name for name in here if nodes[name].kind == "smooth"]
        for kind in KINDS:
            same = [name for name in smooth if nodes[name].parameters[1] == kind]
            yield from (same[first : first + LANES] for first in range(0, len(same), LANES))
        yield from ([name] for name in here if nodes[name].kind != "smooth")
