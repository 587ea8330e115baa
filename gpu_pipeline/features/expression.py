"""What a feature is written in: expressions over bar columns, each of which knows its name and its warm-up.

A feature is a pure function of `Columns` and its parameters that returns named expressions. Nothing is computed here:
the same graph is evaluated over a whole history, over chunks and over the next bar. An expression can look back
(`lag`, `smooth`, `rolling`, `loop`) and never forward.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeAlias

from gpu_pipeline.core.errors import InputError, nearest
from gpu_pipeline.core.schema import BAR_COLUMNS
from kernels.loops import RowLoop
from kernels.recurrence import KINDS
from kernels.rolling import OPS

LONGEST_NAME = 120
CLOCK = ("day_number", "seconds_of_day", "day_of_week", "month", "seconds_since_open")
LOCAL_CLOCK = ("seconds_of_day_local", "day_of_week_local", "month_local", "asia_open", "europe_open", "us_open")
DERIVED = ("duration_seconds", "quantity_lot", "price_tick", *CLOCK, *LOCAL_CLOCK)
COLUMNS = (*(name for name in BAR_COLUMNS if name != "is_partial"), *DERIVED)
Operand: TypeAlias = "Expression | float"


class Expression:
    """A node of the graph.

    Attributes:
        kind: what it does: column, constant, item, a pointwise operation, or one with memory.
        parameters: plain values (and the function of a loop).
        inputs: the expressions it is computed from.
        own_warmup: rows without a value that it adds to those of its inputs.
    """

    def __init__(
        self, kind: str, inputs: tuple[Expression, ...] = (), parameters: tuple[Any, ...] = (), own_warmup: int = 0
    ) -> None:
        self.kind, self.inputs, self.parameters, self.own_warmup = kind, inputs, parameters, own_warmup

    @cached_property
    def name(self) -> str:
        """The canonical name: equal expressions have equal names, in every process."""
        parts = ", ".join([node.name for node in self.inputs] + [_show(value) for value in self.parameters])
        name = f"{self.kind}({parts})"
        return name if len(name) <= LONGEST_NAME else f"{self.kind}#{hashlib.sha256(name.encode()).hexdigest()[:24]}"

    @cached_property
    def warmup(self) -> int:
        """Rows at the start of a resolution that have no value."""
        return self.own_warmup + max((node.warmup for node in self.inputs), default=0)

    def lag(self, rows: int = 1) -> Expression:
        """The value `rows` rows ago; rows >= 0, so that nothing sees the future."""
        if rows < 0:
            raise InputError(
                f"lag({rows}): a feature cannot look ahead; rows must be 0 or more, and what lies ahead is a label"
            )
        return Expression("lag", (self,), (rows,), rows) if rows else self

    def smooth(self, window: int, kind: str) -> Expression:
        """Exponential (`ema`) or Wilder smoothing (`wilder`), seeded by the mean of the first `window` values."""
        _check("smooth", kind, KINDS, window, 1)
        return Expression("smooth", (self,), (window, kind), window - 1)

    def rolling(self, window: int, op: str, ddof: int = 0) -> Expression:
        """`op` (one of kernels.rolling.OPS) over the last `window` rows, this one included."""
        _check("rolling", op, OPS, window, ddof + 1)
        return Expression("rolling", (self,), (window, op, ddof), window - 1)

    def __add__(self, other: Operand) -> Expression:
        return _apply("add", self, other)

    def __radd__(self, other: Operand) -> Expression:
        return _apply("add", other, self)

    def __sub__(self, other: Operand) -> Expression:
        return _apply("sub", self, other)

    def __rsub__(self, other: Operand) -> Expression:
        return _apply("sub", other, self)

    def __mul__(self, other: Operand) -> Expression:
        return _apply("mul", self, other)

    def __rmul__(self, other: Operand) -> Expression:
        return _apply("mul", other, self)

    def __truediv__(self, other: Operand) -> Expression:
        return _apply("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expression:
        return _apply("div", other, self)

    def __neg__(self) -> Expression:
        return _apply("neg", self)

    def __abs__(self) -> Expression:
        return _apply("abs", self)

    def __gt__(self, other: Operand) -> Expression:
        return _apply("gt", self, other)

    def __ge__(self, other: Operand) -> Expression:
        return _apply("ge", self, other)

    def __lt__(self, other: Operand) -> Expression:
        return _apply("lt", self, other)

    def __le__(self, other: Operand) -> Expression:
        return _apply("le", self, other)

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return _apply("eq", self, other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return _apply("ne", self, other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError(f"{self.name} has a value per row and no single truth; use where(), maximum() or minimum()")

    def __repr__(self) -> str:
        return self.name


class Columns:
    """The columns of one resolution's bars, as expressions: `bars.close`, `bars.quantity_lot` (see COLUMNS)."""

    def __getattr__(self, name: str) -> Expression:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in COLUMNS:
            hint = nearest(name, COLUMNS)
            raise InputError(
                f"bars.{name}: no such column" + (f"; did you mean '{hint}'?" if hint else f"; {', '.join(COLUMNS)}")
            )
        return Expression("column", (), (name,))


class Book:
    """The levels of a depth tensor, as expressions; level 1 is the best. Base units and quote currency."""

    def bid_price(self, level: int = 1) -> Expression:
        """Price of a bid level; of an empty one that of the last there is."""
        return _level("bid_price", level)

    def bid_quantity(self, level: int = 1) -> Expression:
        """Quantity of a bid level, 0 where there is none."""
        return _level("bid_quantity", level)

    def ask_price(self, level: int = 1) -> Expression:
        """Price of an ask level; of an empty one that of the last there is."""
        return _level("ask_price", level)

    def ask_quantity(self, level: int = 1) -> Expression:
        """Quantity of an ask level, 0 where there is none."""
        return _level("ask_quantity", level)


def _level(channel: str, level: int) -> Expression:
    if level < 1:
        raise InputError(f"book.{channel}({level}): levels are counted from 1, the best")
    return Expression("column", (), (f"{channel}_{level}",))


def maximum(a: Operand, b: Operand) -> Expression:
    """The larger of two; NaN where one is NaN."""
    return _apply("max", a, b)


def minimum(a: Operand, b: Operand) -> Expression:
    """The smaller of two; NaN where one is NaN."""
    return _apply("min", a, b)


def where(condition: Expression, a: Operand, b: Operand) -> Expression:
    """`a` where the condition holds, else `b`; NaN where the condition compares a NaN."""
    return _apply("where", condition, a, b)


def sqrt(x: Expression) -> Expression:
    """Square root."""
    return _apply("sqrt", x)


def log(x: Expression) -> Expression:
    """Natural logarithm."""
    return _apply("log", x)


def exp(x: Expression) -> Expression:
    """Exponential."""
    return _apply("exp", x)


def sin(x: Expression) -> Expression:
    """Sine of radians."""
    return _apply("sin", x)


def cos(x: Expression) -> Expression:
    """Cosine of radians."""
    return _apply("cos", x)


def loop(
    function: RowLoop,
    inputs: tuple[Expression, ...],
    *parameters: float,
    state: int | Sequence[float],
    outputs: int = 1,
    warmup: int = 0,
) -> tuple[Expression, ...]:
    """A recurrence of one's own: a row loop `function(x [K, n], y [outputs, n], state [S], seen, p)`.

    See kernels/loops.py. `state` holds the numbers before the first row, or says how many zeros there are; `parameters`
    are what the loop gets as `p`; `warmup` rows without a value are added to those of the inputs. The loop sees every
    row, those of its inputs' warm-up (NaN) too, and `seen` counts them.
    """
    if warmup < 0:
        raise InputError(f"loop({function.plain.__qualname__}): warmup must be 0 or more (value {warmup})")
    begin = (0.0,) * state if isinstance(state, int) else tuple(float(value) for value in state)
    node = Expression("loop", inputs, (function, begin, outputs, *map(float, parameters)), warmup)
    return tuple(Expression("item", (node,), (index,)) for index in range(outputs))


def _apply(kind: str, *operands: Any) -> Expression:
    return Expression(kind, tuple(_lift(operand) for operand in operands))


def _lift(value: Any) -> Expression:
    if isinstance(value, Expression):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"an expression is combined with expressions and numbers, not with {value!r}")
    return Expression("constant", (), (float(value),))


def _check(kind: str, op: str, allowed: tuple[str, ...], window: int, least: int) -> None:
    if op not in allowed:
        raise InputError(f"{kind}: no '{op}'; there are {', '.join(allowed)}")
    if window < least:
        raise InputError(f"{kind}: the window of '{op}' must be at least {least} rows (value {window})")


def _show(value: Any) -> str:
    return value.name if isinstance(value, RowLoop) else repr(value)
