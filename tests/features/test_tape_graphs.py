"""Any graph of expressions, cut anywhere, in any number of threads: the tape has the bits of the grouped evaluation."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.features import _audit, _tape
from gpu_pipeline.features._evaluate import Program
from gpu_pipeline.features.expression import (
    Columns,
    Expression,
    cos,
    exp,
    log,
    loop,
    maximum,
    minimum,
    sin,
    sqrt,
    where,
)
from kernels.loops import row_loop
from kernels.recurrence import KINDS
from kernels.rolling import OPS

ROWS = 1100
NAMES = ("close", "open", "high")
bars = Columns()


@row_loop
def spread(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    for row in range(x.shape[1]):
        if x[0, row] == x[0, row]:
            state[0] = 0.5 * state[0] + x[0, row]
        y[0, row] = state[0]
        y[1, row] = x[1, row] + p[0] * (seen + row)


def columns() -> dict[str, torch.Tensor]:
    """Prices with NaN, infinity, zeros of both signs and repeated values."""
    rng = np.random.default_rng(2)
    made = {}
    for name in NAMES:
        values = np.round(rng.normal(5, 3, ROWS), 1)
        odd = rng.random(ROWS) < 0.01
        made[name] = torch.from_numpy(np.where(odd, rng.choice([math.nan, math.inf, -math.inf, -0.0], ROWS), values))
    return {**made, "price_tick": torch.tensor(0.01, dtype=torch.float64)}


COLUMNS = columns()
BINARY = (
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / b,
    maximum,
    minimum,
    lambda a, b: a > b,
    lambda a, b: a <= b,
    lambda a, b: a == b,
    lambda a, b: where(a > b, b, a),
    lambda a, b: loop(spread, (a, b), 0.25, state=1, outputs=2)[0],
    lambda a, b: loop(spread, (a, b), 0.25, state=1, outputs=2)[1],
    lambda a, b: sum(loop(spread, (b, a), 0.5, state=[2.0], outputs=2), 1.0),
)
UNARY = (abs, sqrt, log, exp, sin, cos, lambda a: -a, lambda a: 2.0 / a)


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Expression]:
    """Expressions that share parts; some of them are outputs, some twice."""
    nodes = [*(getattr(bars, name) for name in NAMES), bars.price_tick]
    pick = st.integers(0, 1 << 20)
    for _ in range(draw(st.integers(1, 14))):
        a, b = (nodes[draw(pick) % len(nodes)] for _ in range(2))
        window = draw(st.sampled_from([1, 2, 3, 14, 700, 1023]))
        made = draw(
            st.one_of(
                st.sampled_from(BINARY).map(lambda op, a=a, b=b: op(a, b)),
                st.sampled_from(UNARY).map(lambda op, a=a: op(a)),
                st.sampled_from(OPS).map(lambda op, a=a, w=window: a.rolling(w, op)),
                st.sampled_from(KINDS).map(lambda kind, a=a, w=window: a.smooth(w, kind)),
                st.just(a.lag(window)),
            )
        )
        nodes.append(made)
    chosen = draw(st.lists(pick, min_size=1, max_size=6))
    return {f"o{index}": nodes[place % len(nodes)] for index, place in enumerate([*chosen, -1])}


def piece(start: int, stop: int) -> dict[str, torch.Tensor]:
    return {name: column[start:stop] if column.dim() else column for name, column in COLUMNS.items()}


@settings(max_examples=60, deadline=None)
@given(
    outputs=graphs(), cuts=st.lists(st.integers(0, ROWS), max_size=4), threads=st.lists(st.integers(1, 4), min_size=1)
)
def test_any_graph_cut_anywhere_in_any_threads(
    outputs: dict[str, Expression], cuts: list[int], threads: list[int]
) -> None:
    tape, grouped = Program(outputs), Program(outputs, grouped=True)
    wanted = grouped.step(COLUMNS, grouped.start(torch.device("cpu")))[0]
    state, parts = tape.start(torch.device("cpu")), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tape, "ROWS_PER_THREAD", 1)
        for number, (start, stop) in enumerate(pairwise([0, *sorted(cuts), ROWS])):
            count = threads[number % len(threads)]
            patch.setattr(torch, "get_num_threads", lambda count=count: count)
            values, state = tape.step(piece(start, stop), state)
            parts.append(values)
    same = _audit.same_bits(torch.cat(parts).contiguous(), wanted.contiguous())
    assert same.all(), {name: outputs[name].name for name, good in zip(outputs, same.all(0), strict=True) if not good}
