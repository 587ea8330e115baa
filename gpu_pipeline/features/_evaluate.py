"""Evaluates one resolution's expressions over a chunk of its rows, state in and out.

Equal expressions are computed once. On the CPU they run as tapes (`_tape.py`): all operations on a tile of rows, then
the next tile. On CUDA operation after operation: those with memory that differ only in their input share one kernel
call over stacked columns. `grouped=True` asks for that on the CPU too; the bits are the same. Every pointwise operation
is exact (IEEE) or computed element by element, so that no bit depends on the chunk.

Axes: B rows, C columns, F outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpu_pipeline.core.store import digest_of
from gpu_pipeline.features._tape import Tapes
from gpu_pipeline.features.expression import Expression
from kernels import elementwise, loops, recurrence, rolling
from kernels.loops import RowLoop

State = dict[str, tuple[Tensor, ...]]


def _compare(op: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def compared(a: Tensor, b: Tensor) -> Tensor:
        return torch.where((a != a) | (b != b), math.nan, op(a, b).to(torch.float64))

    return compared


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition != condition, condition, torch.where(condition != 0, a, b))


# Adding 0.0 turns -0.0 into 0.0: which of the two equal zeros comes out depends on the vector unit.
POINTWISE: Mapping[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "abs": torch.abs,
    "sqrt": elementwise.sqrt,
    "exp": elementwise.exp,
    "max": lambda a, b: torch.maximum(a, b) + 0.0,
    "min": lambda a, b: torch.minimum(a, b) + 0.0,
    "gt": _compare(torch.gt),
    "ge": _compare(torch.ge),
    "lt": _compare(torch.lt),
    "le": _compare(torch.le),
    "eq": _compare(torch.eq),
    "ne": _compare(torch.ne),
    "where": _where,
    "log": elementwise.log,
    "sin": elementwise.sin,
    "cos": elementwise.cos,
}


@dataclass(frozen=True)
class Memory:
    """A kind of expression with memory: its state before the first row, and its step over a chunk [B, C]."""

    start: Callable[..., tuple[Tensor, ...]]
    step: Callable[..., tuple[Tensor, tuple[Tensor, ...]]]


def _lag_start(columns: int, device: torch.device, rows: int) -> tuple[Tensor, ...]:
    return (torch.full((rows, columns), math.nan, dtype=torch.float64, device=device),)


def _lag(x: Tensor, state: tuple[Tensor, ...], rows: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    joined = torch.cat((state[0], x))
    return joined[: len(x)], (joined[len(x) :].clone(),)


def _smooth_start(columns: int, device: torch.device, window: int, kind: str) -> tuple[Tensor, ...]:
    return (recurrence.initial_state(columns, device),)


def _smooth(x: Tensor, state: tuple[Tensor, ...], window: int, kind: str) -> tuple[Tensor, tuple[Tensor, ...]]:
    y, after = recurrence.smooth(x, window, kind, *state)
    return y, (after,)


def _rolling_start(columns: int, device: torch.device, window: int, op: str, ddof: int) -> tuple[Tensor, ...]:
    return tuple(rolling.initial_state(window, columns, device))


def _rolling(
    x: Tensor, state: tuple[Tensor, ...], window: int, op: str, ddof: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    y, *after = rolling.rolling(x, window, op, *state, ddof=ddof)
    return y, tuple(after)


def _loop_start(
    columns: int, device: torch.device, function: RowLoop, state: tuple[float, ...], *_: Any
) -> tuple[Tensor, ...]:
    return torch.tensor(state, dtype=torch.float64, device=device), torch.zeros(1, dtype=torch.int64)


def _loop(
    x: Tensor, state: tuple[Tensor, ...], function: RowLoop, start: Any, outputs: int, *parameters: float
) -> tuple[Tensor, tuple[Tensor, ...]]:
    p = torch.tensor(parameters, dtype=torch.float64, device=x.device)
    y, after = loops.run(function, x.t().contiguous(), outputs, state[0], int(state[1]), p)
    return y.t(), (after, state[1] + len(x))


MEMORY: Mapping[str, Memory] = {
    "lag": Memory(_lag_start, _lag),
    "smooth": Memory(_smooth_start, _smooth),
    "rolling": Memory(_rolling_start, _rolling),
    "loop": Memory(_loop_start, _loop),
}


@dataclass(frozen=True)
class Group:
    """Expressions that one call computes: `names` are its outputs, `inputs` the columns stacked for it."""

    key: str
    kind: str
    parameters: tuple[Any, ...]
    names: tuple[str, ...]
    inputs: tuple[str, ...]


class Program:
    """The compiled outputs of one resolution.

    Attributes:
        names: F output names.
        columns: columns that are read; always the anchor, whose length is that of the chunk.
        warmup: F numbers of rows that are NaN.
        fingerprint: changes with whatever makes an older state useless.
    """

    def __init__(self, outputs: Mapping[str, Expression], *, anchor: str = "close", grouped: bool = False) -> None:
        nodes = collect(outputs.values())
        levels = _levels(nodes)
        self.names = tuple(outputs)
        self.warmup = tuple(node.warmup for node in outputs.values())
        self.columns = tuple(sorted({*columns_of(nodes), anchor}))
        self._anchor = anchor
        self._outputs = tuple(node.name for node in outputs.values())
        self._constants = {name: node.parameters[0] for name, node in nodes.items() if node.kind == "constant"}
        self._made: dict[torch.device, dict[str, Tensor]] = {}
        self._order = tuple(_schedule(nodes, levels))
        self._groups = tuple(step for step in self._order if isinstance(step, Group))
        self._tapes = Tapes(nodes, self._outputs, self.warmup)
        self._grouped = grouped
        groups = [[group.key, group.names, group.inputs] for group in self._groups]
        self.fingerprint = digest_of([self.names, self._outputs, groups])

    def start(self, device: torch.device) -> State:
        """The state before the first row."""
        state: State = {"rows": (torch.zeros(1, dtype=torch.int64, device=device),)}
        if self._on_tape(device):
            return state | {"tape": (self._tapes.start(),)}
        for group in self._groups:
            state[group.key] = MEMORY[group.kind].start(len(group.inputs), device, *group.parameters)
        return state

    def step(self, columns: Mapping[str, Tensor], state: State, out: Tensor | None = None) -> tuple[Tensor, State]:
        """Outputs [B, F] of a chunk of columns [B] (or [] where the same for all rows), and the state after it."""
        rows, device = len(columns[self._anchor]), columns[self._anchor].device
        if self._on_tape(device):
            made, tape = self._tapes.step(columns, rows, state["tape"][0], int(state["rows"][0]), out)
            return made, {"rows": (state["rows"][0] + rows,), "tape": (tape,)}
        made, after = self._step_grouped(columns, rows, device, state)
        return (made, after) if out is None else (out.copy_(made.t()).t(), after)

    def _on_tape(self, device: torch.device) -> bool:
        return device.type == "cpu" and not self._grouped

    def _step_grouped(
        self, columns: Mapping[str, Tensor], rows: int, device: torch.device, state: State
    ) -> tuple[Tensor, State]:
        values = {f"column({name!r})": column for name, column in columns.items()} | self._constants_on(device)
        after: State = {"rows": (state["rows"][0] + rows,)}
        for step in self._order:
            if isinstance(step, Group):
                x = _stack([values[name] for name in step.inputs], rows)
                y, after[step.key] = MEMORY[step.kind].step(x, state[step.key], *step.parameters)
                values.update(_spread(step, y))
            else:
                values[step.name] = _point(step, values)
        out = _stack([values[name] for name in self._outputs], rows)
        return _blank_warmup(out, self.warmup, state["rows"][0]), after

    def _constants_on(self, device: torch.device) -> dict[str, Tensor]:
        if device not in self._made:
            # On the device: CUDA divides by a number of the host through its reciprocal.
            self._made[device] = {
                name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in self._constants.items()
            }
        return self._made[device]


def _point(node: Expression, values: Mapping[str, Tensor]) -> Tensor:
    if node.kind == "item":
        return values[node.inputs[0].name][:, node.parameters[0]]
    return POINTWISE[node.kind](*(values[part.name] for part in node.inputs))


def _stack(parts: list[Tensor], rows: int) -> Tensor:
    return torch.stack([part if part.dim() else part.expand(rows) for part in parts], dim=1)


def _spread(group: Group, y: Tensor) -> Iterator[tuple[str, Tensor]]:
    if group.kind == "loop":
        return iter([(group.names[0], y)])
    return zip(group.names, y.t().contiguous().unbind(), strict=True)


def _blank_warmup(values: Tensor, warmup: tuple[int, ...], rows: Tensor) -> Tensor:
    head = values[: max(warmup, default=0)]
    until = torch.tensor(warmup, device=values.device)
    row = torch.arange(len(head), device=values.device) + rows
    head.masked_fill_(row[:, None] < until, math.nan)
    return values


def columns_of(nodes: Mapping[str, Expression]) -> set[str]:
    """The columns that expressions read."""
    return {node.parameters[0] for node in nodes.values() if node.kind == "column"}


def collect(outputs: Any) -> dict[str, Expression]:
    """Every node once by name, inputs before what is computed from them."""
    found: dict[str, Expression] = {}
    visit = list(outputs)[::-1]
    while visit:
        node = visit[-1]
        missing = [part for part in node.inputs if part.name not in found]
        if node.name in found or not missing:
            found.setdefault(visit.pop().name, node)
        else:
            visit += missing
    return found


def _levels(nodes: Mapping[str, Expression]) -> dict[str, int]:
    """How many expressions with memory lie on the way to a node, itself included."""
    levels: dict[str, int] = {}
    for name, node in nodes.items():
        levels[name] = max((levels[part.name] for part in node.inputs), default=0) + (node.kind in MEMORY)
    return levels


def _schedule(nodes: Mapping[str, Expression], levels: Mapping[str, int]) -> Iterator[Group | Expression]:
    """Level by level: the groups with memory, then the pointwise nodes that use them."""
    for level in range(max(levels.values(), default=0) + 1):
        here = [node for name, node in nodes.items() if levels[name] == level]
        yield from _groups([node for node in here if node.kind in MEMORY], level)
        yield from (node for node in here if node.kind not in (*MEMORY, "column", "constant"))


def _groups(nodes: list[Expression], level: int) -> Iterator[Group]:
    together: dict[str, list[Expression]] = {}
    for node in nodes:
        own = node.name if node.kind == "loop" else ",".join(map(str, node.parameters))
        together.setdefault(f"{level}.{node.kind}({own})", []).append(node)
    for key, members in together.items():
        inputs = tuple(part.name for node in members for part in node.inputs)
        yield Group(key, members[0].kind, members[0].parameters, tuple(node.name for node in members), inputs)
