"""Every instruction of a tape against the ops that define it and against plain Python, bit for bit."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from kernels import elementwise, recurrence, rolling, tape
from kernels._tape_steps import LANES, SMOOTH_STATE, rolling_state
from kernels.loops import row_loop

LENGTHS = (0, 1, 1023, 1024, 1025, 2049)
SPECIAL = (0.0, -0.0, math.nan, math.inf, -math.inf, 1e-310, 1.7e308, -1.0, 1.0)
GUARD = 4711.25
EVERY_LENGTH = pytest.mark.parametrize("rows", LENGTHS)


def numbers(rows: int, seed: int, special: float = 0.0) -> np.ndarray:
    """Random numbers of many sizes; a share of them is not finite, zero, or at the edge of float64."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, rows) * 10.0 ** rng.integers(-3, 4, rows)
    return np.where(rng.random(rows) < special, rng.choice(SPECIAL, rows), values)


def gaps(x: np.ndarray, seed: int, share: float) -> np.ndarray:
    """With NaN and infinity in place of some rows."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(x.size) < share, rng.choice((math.nan, math.inf, -math.inf), x.size), x)


def cuttings(rows: int, seed: int = 0) -> list[list[int]]:
    """No cut, cuts beside the borders of a tile, empty chunks, a few at random, single rows at the start."""
    rng = np.random.default_rng(seed)
    near = [cut for cut in (1, 1023, 1024, 1025) if cut <= rows]
    few = sorted(rng.integers(0, rows + 1, 5).tolist())
    return [[], near, few, [0, *few, *few[-1:], rows], list(range(min(rows, 30)))]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """The same bits; any NaN is any other."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return a.shape == b.shape and bool(((a.view(np.int64) == b.view(np.int64)) | ((a != a) & (b != b))).all())


class Program:
    """Instructions over columns; every call finds garbage in its scratch and output memory."""

    def __init__(self, columns: list[np.ndarray], outputs: int = 1, state: np.ndarray | None = None) -> None:
        self.columns, self.outputs = columns, outputs
        self.state = np.concatenate([[GUARD], np.zeros(0) if state is None else state, [GUARD]])
        self.code = [[tape.LOAD, slot, slot, 0, 0, 0, 0, 0] for slot in range(len(columns))]
        self.lanes: list[int] = [0]
        self.numbers: list[float] = [0.0]

    def add(self, op: int, target: int = 0, a: int = 0, b: int = 0, c: int = 0, offset=0, size=0, extra=0) -> None:
        """Append an instruction; the state begins at offset 1, behind a guard."""
        self.code.append([op, target, a, b, c, offset + 1, size, extra])

    def store(self, slot: int, output: int = 0, warmup: int = 0) -> None:
        self.add(tape.STORE, 0, slot, size=warmup, extra=output)

    def run(self, rows: int, cuts: list[int], slots: int = 16) -> tuple[np.ndarray, np.ndarray]:
        """Outputs [F, rows] and the state after them."""
        state, parts = self.state.copy(), []
        for number, (start, stop) in enumerate(pairwise([0, *cuts, rows])):
            held = [column if column.size == 1 else column[start:stop].copy() for column in self.columns]
            sources = np.array([[x.ctypes.data, x.size] for x in held], np.int64).reshape(-1, 2)
            memory = tape.scratch(slots, 8)
            for array in memory:
                array[:] = (math.nan, 1e300, -3.0)[number % 3]
            out = np.full((self.outputs, stop - start), 99.0)
            program = np.array(self.code, np.int64), np.array(self.lanes), np.array(self.numbers)
            tape.play(*program, sources, *memory, state, start, stop - start, out)
            parts.append(out)
        assert state[0] == state[-1] == GUARD
        return np.concatenate(parts, axis=1), state[1:-1]

    def check(self, rows: int, wanted: np.ndarray, seed: int = 0) -> np.ndarray:
        """Any cutting gives `wanted` [F, rows] and the same state, which is returned."""
        out, state = self.run(rows, [])
        assert same(out, wanted)
        for cuts in cuttings(rows, seed):
            got, after = self.run(rows, cuts)
            assert same(got, wanted), cuts
            assert same(after, state), cuts
        return state


def plain_division(a: float, b: float) -> float:
    if b != 0.0:
        return a / b
    return math.nan if a == 0.0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)


def compared(op):
    return lambda a, b: math.nan if a != a or b != b else float(op(a, b))


PLAIN = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": plain_division,
    "max": lambda a, b: math.nan if a != a or b != b else (a if a > b else b) + 0.0,
    "min": lambda a, b: math.nan if a != a or b != b else (a if a < b else b) + 0.0,
    "gt": compared(lambda a, b: a > b),
    "ge": compared(lambda a, b: a >= b),
    "lt": compared(lambda a, b: a < b),
    "le": compared(lambda a, b: a <= b),
    "eq": compared(lambda a, b: a == b),
    "ne": compared(lambda a, b: a != b),
    "where": lambda a, b, c: math.nan if a != a else (b if a != 0.0 else c),
    "neg": lambda a: -a,
    "abs": abs,
    "sqrt": lambda a: math.sqrt(a) if a >= 0.0 else math.nan,
}
OPS = {"sqrt": elementwise.sqrt, "log": elementwise.log, "exp": elementwise.exp}
OPS |= {"sin": elementwise.sin, "cos": elementwise.cos}


def test_the_names_are_those_of_the_codes():
    assert set(PLAIN) | set(OPS) == set(tape.POINTWISE) and len(tape.POINTWISE) == 20
    assert [tape.POINTWISE.index(name) for name in ("add", "where", "sqrt", "cos")] == [0, 12, 15, 19]
    assert (tape.WHERE, tape.SQRT, tape.COS, tape.LOAD, tape.LOOP) == (12, 15, 19, 20, 26)


@pytest.mark.parametrize("name", PLAIN)
def test_pointwise_is_plain_python(name):
    operands = 3 if name == "where" else 2 if name in tape.BINARY else 1
    for rows in LENGTHS:
        columns = [numbers(rows, seed, special=0.4) for seed in range(operands)]
        if operands > 1 and rows:
            columns[1] = np.where(np.random.default_rng(9).random(rows) < 0.3, columns[0], columns[1])
        program = Program(columns)
        program.add(tape.POINTWISE.index(name), operands, *range(operands))
        program.store(operands)
        wanted = [PLAIN[name](*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        program.check(rows, np.array([wanted]).reshape(1, rows))


@pytest.mark.parametrize("name", OPS)
def test_functions_are_the_ops(name):
    for rows in LENGTHS:
        x = numbers(rows, 1, special=0.3)
        program = Program([x])
        program.add(tape.POINTWISE.index(name), 1, 0)
        program.store(1)
        program.check(rows, OPS[name](torch.from_numpy(x)).numpy()[None])


def test_a_slot_may_be_written_over_by_what_is_made_of_it():
    x, y = numbers(2049, 1), numbers(2049, 2)
    program = Program([x, y])
    program.add(tape.ADD, 0, 0, 1)
    program.add(tape.MUL, 0, 0, 0)
    program.add(tape.NEG, 0, 0)
    program.store(0)
    program.check(2049, -((x + y) * (x + y))[None])


@EVERY_LENGTH
def test_load_fill_and_store(rows):
    """A column of one number is that number on every row, also where one row is left for the last tile."""
    x, one = numbers(rows, 1, special=0.2), np.array([2.5])
    program = Program([x, one], outputs=4)
    program.numbers = [0.0, -7.5]
    program.add(tape.FILL, 2, 1)
    program.store(2, output=0)
    program.store(0, output=1, warmup=3)
    program.store(0, output=2, warmup=1030)
    program.store(1, output=3)
    late = [np.where(np.arange(rows) < warmup, math.nan, x) for warmup in (3, 1030)]
    program.check(rows, np.array([np.full(rows, -7.5), *late, np.full(rows, 2.5)]))


@EVERY_LENGTH
@pytest.mark.parametrize("back", [1, 2, 1023, 1024, 1025, 1500])
def test_lag(rows, back):
    x = numbers(rows, 1, special=0.2)
    program = Program([x], state=np.full(back, math.nan))
    program.add(tape.LAG, 1, 0, size=back)
    program.store(1)
    whole = np.concatenate([np.full(back, math.nan), x])
    assert same(program.check(rows, whole[None, :rows]), whole[rows:])


def plain_smooth(x: np.ndarray, window: int, wilder: bool) -> list[float]:
    k, count, total, value, out = 1.0 / window if wilder else 2.0 / (window + 1), 0, 0.0, 0.0, []
    for new in x.tolist():
        if not math.isfinite(new):
            out.append(math.nan)
            continue
        if count < window:
            count, total = count + 1, total + new
            value = total / window
            out.append(value if count == window else math.nan)
            continue
        value = (value * (window - 1.0) + new) * k if wilder else (new - value) * k + value
        out.append(value)
    return out


SEEDS = {
    "equal": ([14, 14, 14, 14, 14], 0.0),
    "different": ([1, 2, 12, 26, 1500], 0.0),
    "broken": ([14, 14, 9, 14, 2], 0.05),
}


@pytest.mark.parametrize("lanes", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("kind", recurrence.KINDS)
def test_smoothing_side_by_side(kind, seeds, lanes):
    windows, special = SEEDS[seeds]
    for rows in LENGTHS:
        columns = [gaps(np.abs(numbers(rows, seed)), seed, special) for seed in range(lanes)]
        program = Program(columns, outputs=lanes, state=np.zeros(SMOOTH_STATE * lanes))
        program.lanes = []
        for lane in range(lanes):
            program.lanes += [lane, lanes + lane, 1 + SMOOTH_STATE * lane, windows[lane]]
        for first in range(0, lanes, LANES):
            count = min(LANES, lanes - first)
            program.add(tape.SMOOTH, 0, 0, 4 * first, count, extra=int(kind == "wilder"))
        for lane in range(lanes):
            program.store(lanes + lane, output=lane)
        made = [
            recurrence.smooth(torch.from_numpy(x)[:, None], window, kind, recurrence.initial_state(1))
            for x, window in zip(columns, windows, strict=False)
        ]
        state = program.check(rows, np.array([y[:, 0].numpy() for y, _ in made]).reshape(lanes, rows))
        assert same(state, np.concatenate([after[:, 0].numpy() for _, after in made]))
        for (y, _), x, window in zip(made, columns, windows, strict=False):
            plain = np.array(plain_smooth(x, window, kind == "wilder"))
            # Wilder's step is TA-Lib's within rounding.
            np.testing.assert_allclose(y[:, 0].numpy(), plain, rtol=1e-12 * (kind == "wilder"), atol=0)


@pytest.mark.parametrize("window", [1, 2, 3, 20, 1023, 1024, 1025])
@pytest.mark.parametrize("op", rolling.OPS)
def test_rolling_windows(op, window):
    for rows, special, ddof in zip(LENGTHS * 2, [0.0] * 6 + [0.02] * 6, [0, 1] * 6, strict=True):
        x = numbers(rows, 1, special)
        if rows > 900:
            x[700:760] = x[700]
        ddof = min(ddof, window - 1)
        program = Program([x], state=np.zeros(rolling_state(window)))
        program.add(tape.ROLL, 1, 0, rolling.OPS.index(op), ddof, size=window)
        program.store(1)
        tail, seen = rolling.initial_state(window, 1)
        y = rolling.rolling(torch.from_numpy(x)[:, None], window, op, tail, seen, ddof)[0]
        out, _ = program.run(rows, [])
        assert same(out, y.numpy().T)
        for cuts in cuttings(rows):
            assert same(program.run(rows, cuts)[0], out), cuts


def blocks(x: list[float], window: int, merge) -> list[float]:
    """The definition: the suffix of the last block of `window` rows merged with the prefix of this one."""
    out = [math.nan] * min(window - 1, len(x))
    for row in range(window - 1, len(x)):
        base, start = row // window * window, merge()
        prefix = suffix = start
        for value in x[base : row + 1]:
            prefix = merge(prefix, value)
        for value in x[row - window + 1 : base][::-1]:
            suffix = merge(suffix, value)
        out.append(merge(suffix, prefix))
    return out


@pytest.mark.parametrize("window", [1, 2, 7, 50])
def test_rolling_sums_and_extremes_are_plain_python(window):
    x = numbers(1100, 3)
    plain = {
        "sum": blocks(x.tolist(), window, lambda a=0.0, b=0.0: a + b),
        "min": blocks(x.tolist(), window, lambda a=math.inf, b=math.inf: min(a, b)),
        "max": blocks(x.tolist(), window, lambda a=-math.inf, b=-math.inf: max(a, b)),
    }
    plain["mean"] = [value / window for value in plain["sum"]]
    for op, wanted in plain.items():
        program = Program([x], state=np.zeros(rolling_state(window)))
        program.add(tape.ROLL, 1, 0, rolling.OPS.index(op), 0, size=window)
        program.store(1)
        assert same(program.run(1100, [400])[0], np.array([wanted]))


def test_a_value_of_the_past_leaves_a_window_with_its_rows():
    x = numbers(1500, 4)
    wanted = {}
    for poison in (1.0, math.nan, math.inf):
        x[100] = poison
        for op in rolling.OPS:
            program = Program([x], state=np.zeros(rolling_state(16)))
            program.add(tape.ROLL, 1, 0, rolling.OPS.index(op), 0, size=16)
            program.store(1)
            out = program.run(1500, [110, 1100])[0][0]
            # The first row of a block is what var and std measure from: two blocks at most know it.
            wanted.setdefault(op, out[132:])
            assert same(out[132:], wanted[op]), (op, poison)


@row_loop
def two_of_three(x, y, state, seen, p):
    for row in range(x.shape[1]):
        state[0] = state[0] * p[0] + x[0, row] / x[1, row]
        state[1] += 1.0
        y[0, row] = state[0]
        y[1, row] = state[1] * 1000.0 + (seen + row) + x[2, row] * p[1]


@EVERY_LENGTH
def test_row_loops(rows):
    columns = [numbers(rows, seed) for seed in range(3)]
    if rows > 5:
        columns[1][5] = 0.0
    program = Program(columns, outputs=2, state=np.array([3.0, 4.0]))
    program.lanes = [3, 2, 2, 0, 1, 7, 8]
    program.numbers = [0.0, 0.5, -2.0]
    program.add(tape.LOOP, 0, 5, 0, 1, size=2, extra=two_of_three.address)
    program.store(7, output=1)
    program.store(8, output=0)
    x, y, state = np.array([columns[2], columns[0], columns[1]]), np.empty((2, rows)), np.array([3.0, 4.0])
    with np.errstate(all="ignore"):
        two_of_three.plain(x, y, state, 0, np.array([0.5, -2.0]))
    assert same(program.check(rows, y[::-1]), state)


def test_scratch_is_large_enough_for_every_tile():
    slots, x, y = tape.scratch(0, 0)
    assert slots.shape[0] == 1 and slots.shape[1] >= tape.TILE and x.size == y.size == tape.TILE
    slots, x, y = tape.scratch(5, 3)
    assert slots.shape[0] == 5 and x.size == y.size == 3 * tape.TILE
