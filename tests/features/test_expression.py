"""The language of features: names, warm-up, refusals, and what NaN does."""

from __future__ import annotations

import math

import pytest
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.features._evaluate import Group, Program
from gpu_pipeline.features.expression import Columns, Expression, log, loop, maximum, minimum, sqrt, where
from kernels.loops import row_loop

bars = Columns()
CPU = torch.device("cpu")
NAN = math.nan


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def evaluate(node: Expression, **columns: torch.Tensor) -> list[float]:
    program = Program({"x": node})
    columns.setdefault("close", torch.zeros_like(next(iter(columns.values()))))
    return program.step(columns, program.start(CPU))[0][:, 0].tolist()


def same(ours: list[float], wanted: list[float]) -> bool:
    return all(a == b or (a != a and b != b) for a, b in zip(ours, wanted, strict=True))


@row_loop
def itself(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    y[:] = x


@row_loop
def span(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    for row in range(x.shape[1]):
        y[0, row] = x[0, row] - x[1, row]
        y[1, row] = x[0, row] * p[0]


@pytest.mark.parametrize(
    ("node", "rows"),
    [
        (bars.close, 0),
        (bars.close.lag(3), 3),
        (bars.close.rolling(20, "mean"), 19),
        (bars.close.smooth(14, "wilder"), 13),
        ((bars.close - bars.close.lag(1)).smooth(14, "wilder"), 14),
        (maximum(bars.close.lag(5), bars.open.rolling(3, "max")).rolling(2, "sum"), 6),
        (where(bars.close > 1.0, bars.close.lag(2), 0.0), 2),
        (loop(itself, (bars.close.lag(1),), state=0, warmup=4)[0], 5),
    ],
)
def test_warmup_comes_from_the_graph(node: Expression, rows: int) -> None:
    assert node.warmup == rows


def test_equal_expressions_have_equal_names_and_are_computed_once() -> None:
    a = (bars.close - bars.close.lag(1)).rolling(5, "mean")
    b = (bars.close - bars.close.lag(1)).rolling(5, "mean")
    assert a is not b and a.name == b.name == "rolling(sub(column('close'), lag(column('close'), 1)), 5, 'mean', 0)"
    steps = Program({"a": a, "b": b, "c": bars.open.rolling(5, "mean")})._order
    groups = [(step.kind, len(step.inputs)) for step in steps if isinstance(step, Group)]
    assert sorted(groups) == [("lag", 1), ("rolling", 1), ("rolling", 1)]
    assert len([step for step in steps if isinstance(step, Expression)]) == 1


def test_windows_over_several_columns_share_one_call() -> None:
    outputs = {name: getattr(bars, name).rolling(5, "mean") for name in ("open", "high", "low", "close")}
    groups = [step for step in Program(outputs)._order if isinstance(step, Group)]
    assert [len(group.inputs) for group in groups] == [4]


def test_long_names_are_shortened_and_still_tell_apart() -> None:
    def deep(first: Expression) -> Expression:
        for step in range(60):
            first = first + first.lag(step % 3 + 1)
        return first

    a, b = deep(bars.close), deep(bars.open)
    assert len(a.name) < 130 and a.name != b.name and a.name == deep(bars.close).name


def test_arithmetic_and_comparisons() -> None:
    close = column(1.0, 4.0, 9.0)
    assert evaluate(2.0 - bars.close / 2, close=close) == [1.5, 0.0, -2.5]
    assert evaluate(1 / bars.close + 1, close=close) == [2.0, 1.25, 1 / 9 + 1]
    assert evaluate(sqrt(bars.close) * -1, close=close) == [-1.0, -2.0, -3.0]
    assert evaluate(abs(-bars.close), close=close) == [1.0, 4.0, 9.0]
    assert evaluate(bars.close >= 4, close=close) == [0.0, 1.0, 1.0]
    assert evaluate((bars.close == 4) + (bars.close != 4) * 10, close=close) == [10.0, 1.0, 10.0]
    assert evaluate((bars.close < 4) - (bars.close <= 4), close=close) == [0.0, -1.0, 0.0]
    assert evaluate(log(bars.close), close=close) == [math.log(1.0), math.log(4.0), math.log(9.0)]


def test_nan_stays_nan_through_choices() -> None:
    columns = {"open": column(1.0, NAN, 3.0), "high": column(2.0, 2.0, NAN), "close": column(0.0, 0.0, 0.0)}
    assert same(evaluate(maximum(bars.open, bars.high), **columns), [2.0, NAN, NAN])
    assert same(evaluate(minimum(bars.open, bars.high), **columns), [1.0, NAN, NAN])
    assert same(evaluate(bars.open > bars.high, **columns), [0.0, NAN, NAN])
    assert same(evaluate(where(bars.open > 2, 5.0, 6.0), **columns), [6.0, NAN, 5.0])


def test_equal_zeros_have_one_sign_whatever_the_vector_unit_picks() -> None:
    zeros = torch.tensor([-0.0, 0.0] * 9, dtype=torch.float64)
    for choose in (maximum, minimum):
        for a, b in ((zeros, -zeros), (zeros, zeros)):
            made = evaluate(choose(bars.open, bars.high), open=a, high=b)
            assert all(math.copysign(1.0, value) == 1.0 for value in made)


def test_what_looks_ahead_or_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="rows must be 0 or more"):
        bars.close.lag(-2)
    with pytest.raises(InputError, match=r"rolling: no 'median'; there are sum, mean"):
        bars.close.rolling(5, "median")
    with pytest.raises(InputError, match=r"the window of 'std' must be at least 2 rows \(value 1\)"):
        bars.close.rolling(1, "std", ddof=1)
    with pytest.raises(InputError, match="smooth: no 'sma'; there are ema, wilder"):
        bars.close.smooth(5, "sma")
    with pytest.raises(InputError, match=r"loop\(itself\): warmup must be 0 or more"):
        loop(itself, (bars.close,), state=0, warmup=-1)
    with pytest.raises(InputError, match=r"bars\.closs: no such column; did you mean 'close'\?"):
        _ = bars.closs
    with pytest.raises(TypeError, match=r"has a value per row and no single truth"):
        max(bars.open, bars.close)
    with pytest.raises(TypeError, match="combined with expressions and numbers, not with '5'"):
        bars.close + "5"


def test_a_loop_may_read_several_columns_and_give_several() -> None:
    difference, scaled = loop(span, (bars.high, bars.low), 3.0, state=0, outputs=2)
    columns = {"high": column(5.0, 6.0), "low": column(1.0, 4.0)}
    assert evaluate(difference, **columns) == [4.0, 2.0]
    assert evaluate(scaled + difference.lag(0), **columns) == [19.0, 20.0]


def test_an_outputs_own_warmup_is_enforced_in_every_chunk() -> None:
    program = Program({"a": loop(itself, (bars.close,), state=0, warmup=3)[0], "b": bars.close})
    state, parts = program.start(CPU), []
    for value in range(6):
        values, state = program.step({"close": column(float(value))}, state)
        parts.append(values)
    made = torch.cat(parts)
    assert torch.isnan(made[:, 0]).tolist() == [True] * 3 + [False] * 3
    assert not torch.isnan(made[:, 1]).any()
