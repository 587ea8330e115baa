"""A whole program of column operations over tiles of rows that stay in the cache: the CPU form of a feature set.

Called one after the other, ops write every intermediate column to memory and read it again. A tape runs all operations
on one tile of rows, then on the next; each has the state that the tile before it left, so that tiles, chunks and single
rows are the same thing and give the same bits. What the operations are is defined by kernels/elementwise.py,
recurrence.py, rolling.py and loops.py: their results are equal bit for bit.

Code is int64 [I, 8], a row per instruction: operation, output slot, first operand, second, third, state offset, size,
extra. Lists of operands lie in `lanes`, float parameters in `numbers`. A slot is a row of a thread's scratch memory.

Axes: I instructions, B rows, F outputs, S slots.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels._op import jit_ieee
from kernels._tape_steps import lag, roll, rolling_state, smooth
from kernels.loops import SIGNATURE

BINARY = ("add", "sub", "mul", "div", "max", "min", "gt", "ge", "lt", "le", "eq", "ne")
POINTWISE = (*BINARY, "where", "neg", "abs", "sqrt", "log", "exp", "sin", "cos")
ADD, SUB, MUL, DIV, LARGER, SMALLER, GT, GE, LT, LE, EQ, NE, WHERE, NEG, ABS, SQRT, LOG, EXP, SIN, COS = range(20)
LOAD, FILL, STORE, LAG, SMOOTH, ROLL, LOOP = range(20, 27)
WORDS = 8
TILE = 1024
_NAN = math.nan


@intrinsic
def _pointer(context, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@intrinsic
def _call(context, address, x, y, state, seen, p):
    """Calls the row loop at an address."""

    def generate(context, builder, signature, arguments):
        kinds = [context.get_value_type(kind) for kind in SIGNATURE.args]
        function = ir.FunctionType(context.get_value_type(types.none), kinds)
        builder.call(builder.inttoptr(arguments[0], function.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *SIGNATURE.args), generate


@jit_ieee
def _two(op, a, b, out):
    if op == ADD:
        for i in range(out.size):
            out[i] = a[i] + b[i]
    elif op == SUB:
        for i in range(out.size):
            out[i] = a[i] - b[i]
    elif op == MUL:
        for i in range(out.size):
            out[i] = a[i] * b[i]
    elif op == DIV:
        for i in range(out.size):
            out[i] = a[i] / b[i]
    elif op == LARGER:
        for i in range(out.size):
            out[i] = (a[i] if a[i] > b[i] or a[i] != a[i] else b[i]) + 0.0
    else:
        for i in range(out.size):
            out[i] = (a[i] if a[i] < b[i] or a[i] != a[i] else b[i]) + 0.0


@jit_ieee
def _compare(op, a, b, out):
    if op == GT:
        for i in range(out.size):
            holds = 1.0 if a[i] > b[i] else 0.0
            out[i] = holds if (a[i] == a[i]) & (b[i] == b[i]) else _NAN
    elif op == GE:
        for i in range(out.size):
            holds = 1.0 if a[i] >= b[i] else 0.0
            out[i] = holds if (a[i] == a[i]) & (b[i] == b[i]) else _NAN
    elif op == LT:
        for i in range(out.size):
            holds = 1.0 if a[i] < b[i] else 0.0
            out[i] = holds if (a[i] == a[i]) & (b[i] == b[i]) else _NAN
    elif op == LE:
        for i in range(out.size):
            holds = 1.0 if a[i] <= b[i] else 0.0
            out[i] = holds if (a[i] == a[i]) & (b[i] == b[i]) else _NAN
    else:
        for i in range(out.size):
            holds = 1.0 if (a[i] == b[i]) == (op == EQ) else 0.0
            out[i] = holds if (a[i] == a[i]) & (b[i] == b[i]) else _NAN


@jit_ieee
def _one(op, a, out):
    if op == NEG:
        for i in range(out.size):
            out[i] = -a[i]
    elif op == ABS:
        for i in range(out.size):
            out[i] = abs(a[i])
    else:
        for i in range(out.size):
            out[i] = math.sqrt(a[i]) if a[i] >= 0.0 else _NAN


@jit_ieee
def _scalar(op, a, out):
    for i in range(out.size):
        if op == LOG:
            out[i] = math.log(a[i])
        elif op == EXP:
            out[i] = math.exp(a[i])
        elif op == SIN:
            out[i] = math.sin(a[i])
        else:
            out[i] = math.cos(a[i])


@jit_ieee
def _choose(a, b, c, out):
    for i in range(out.size):
        chosen = b[i] if a[i] != 0.0 else c[i]
        out[i] = chosen if a[i] == a[i] else a[i]


@jit_ieee
def _loop(address, lanes, inputs, slots, state, seen, p, rows, x, y):
    outputs = lanes.size - inputs
    for k in range(inputs):
        x[k * rows : (k + 1) * rows] = slots[lanes[k], :rows]
    given, made = x[: inputs * rows].reshape((inputs, rows)), y[: outputs * rows].reshape((outputs, rows))
    _call(address, given, made, state, seen, p)
    for k in range(outputs):
        slots[lanes[inputs + k], :rows] = made[k]


@jit_ieee
def _load(address, count, start, stop, out):
    column = numba.carray(_pointer(address), (count,), np.float64)
    if count == 1:
        out[:] = column[0]
    else:
        out[:] = column[start:stop]


@jit_ieee
def _execute(code, lanes, numbers, sources, slots, x, y, state, seen, start, rows, out):
    """All instructions on the tile of `rows` rows from `start` on, before which `seen` rows were seen."""
    for at in range(code.shape[0]):
        op, target, a, b, c = code[at, 0], code[at, 1], code[at, 2], code[at, 3], code[at, 4]
        offset, size, extra = code[at, 5], code[at, 6], code[at, 7]
        result = slots[target, :rows]
        if op < WHERE and op >= GT:
            _compare(op, slots[a, :rows], slots[b, :rows], result)
        elif op < WHERE:
            _two(op, slots[a, :rows], slots[b, :rows], result)
        elif op == WHERE:
            _choose(slots[a, :rows], slots[b, :rows], slots[c, :rows], result)
        elif op <= SQRT:
            _one(op, slots[a, :rows], result)
        elif op <= COS:
            _scalar(op, slots[a, :rows], result)
        elif op == LOAD:
            _load(sources[a, 0], sources[a, 1], start, start + rows, result)
        elif op == FILL:
            result[:] = numbers[a]
        elif op == STORE:
            out[extra, start : start + rows] = slots[a, :rows]
            out[extra, start : start + max(0, min(rows, size - seen))] = _NAN
        elif op == LAG:
            lag(slots[a, :rows], state[offset : offset + size], result)
        elif op == SMOOTH:
            smooth(extra == 1, lanes[b : b + 4 * c].reshape((c, 4)), slots, state, rows, y)
        elif op == ROLL:
            roll(b, size, c, slots[a, :rows], state[offset : offset + rolling_state(size)], seen, result)
        else:
            p = numbers[c : c + lanes[b + 1]]
            part = state[offset : offset + size]
            _loop(extra, lanes[b + 2 : b + 2 + a], lanes[b], slots, part, seen, p, rows, x, y)


@jit_ieee
def play(code, lanes, numbers, sources, slots, x, y, state, seen, rows, out):
    """Run a tape over `rows` rows; moves `state` on in place and writes out [F, rows]."""
    for start in range(0, rows, TILE):
        count = min(TILE, rows - start)
        _execute(code, lanes, numbers, sources, slots, x, y, state, seen + start, start, count, out)


def scratch(slots: int, widest: int) -> tuple[Any, Any, Any]:
    """Memory of one thread: slots [S, TILE], and two buffers for `widest` columns of a tile."""
    size = max(1, widest) * TILE
    return np.empty((max(slots, 1), TILE + 40)), np.empty(size), np.empty(size)
