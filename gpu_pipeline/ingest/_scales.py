"""Decimal steps: the finest one that a column needs, and values as whole numbers of it.

A float stands for the decimal nearest to it: x is on the step p/q where (rint(x q / p) p) / q == x, compared in the
column's own precision. That names one decimal only while the steps are wider than the gaps between floats, which is
checked at the largest value.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import torch

from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest._raw import Units, Values

MAX_PLACES = 18
MAX_UNITS = 1 << 53


class OffStepError(ValueError):
    """A value that the step does not hold: its position in the column, the rule it breaks, and the value."""

    def __init__(self, values: Values, position: int, rule: str) -> None:
        super().__init__(rule)
        self.position, self.rule = position, rule
        self.value: object
        if isinstance(values, Units):
            self.value = f"{values.step * int(values.units[position]):f}"
        else:
            self.value = values[position].item()


def finest(values: Values, places: int = 0) -> int:
    """Decimal places (at least `places`) that represent every value exactly; NaN and infinities are left out.

    Args:
        values: [N] float64, float32 or Units.
        places: what earlier values needed.

    Raises:
        OffStepError: no decimal of up to 18 places, or more digits than the column's type holds.
    """
    if isinstance(values, Units):
        return _finest_units(values, places)
    rest = _finite(values)
    for count in range(places, MAX_PLACES + 1):
        finer = rest[~_on_step(rest, _rounded(rest, 1, 10**count), 1, 10**count)]
        if not len(finer):
            _check_gap(values, Fraction(1, 10**count), None if count == places else rest[0])
            return count
        rest = finer
    raise OffStepError(values, _position(values, rest[0]), f"has more than {MAX_PLACES} decimal places")


def _finite(values: Tensor) -> Tensor:
    # NaN and infinities show in the extremes: one pass instead of two, and no copy.
    low, high = torch.aminmax(values) if len(values) else (0.0, 0.0)
    return values if math.isfinite(low) and math.isfinite(high) else values[torch.isfinite(values)]


def _finest_units(values: Units, places: int) -> int:
    step = Fraction(values.step)
    for count in range(places, MAX_PLACES + 1):
        ratio = step * 10**count
        if ratio.denominator == 1 or bool(
            (values.units % (ratio.denominator // math.gcd(ratio.numerator, ratio.denominator)) == 0).all()
        ):
            return count
    position = int((values.units % (step * 10**MAX_PLACES).denominator != 0).nonzero()[0])
    raise OffStepError(values, position, f"has more than {MAX_PLACES} decimal places")


def merged(first: Decimal | None, second: Decimal) -> Decimal:
    """The largest step of which both are multiples."""
    if first is None or first == second:
        return second
    a, b = Fraction(first), Fraction(second)
    common = Fraction(math.gcd(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator)
    return (Decimal(common.numerator) / Decimal(common.denominator)).normalize()


def step_of(places: int) -> Decimal:
    """10^-places."""
    return Decimal(1).scaleb(-places)


def to_units(values: Values, step: Decimal) -> Tensor:
    """Values as whole numbers of `step`.

    Args:
        values: [N] finite float64, float32 or Units.
        step: the symbol's tick or lot.

    Returns:
        [N] int64, each below 2^53 in size.

    Raises:
        OffStepError: a value is no multiple of the step, or too large for it.
    """
    wanted = Fraction(step)
    units = _exact_units(values, wanted) if isinstance(values, Units) else _float_units(values, wanted)
    low, high = torch.aminmax(units) if len(units) else (0, 0)
    if max(-int(low), int(high)) >= MAX_UNITS:
        large = units.abs() >= MAX_UNITS
        rule = f"is 2^53 steps of {step:f} or more, which float64 output cannot hold"
        raise OffStepError(values, int(large.nonzero()[0]), rule)
    return units


def _exact_units(values: Units, step: Fraction) -> Tensor:
    ratio = Fraction(values.step) / step
    if ratio == 1:
        return values.units
    off = values.units % ratio.denominator != 0
    if bool(off.any()):
        raise OffStepError(values, int(off.nonzero()[0]), _finer(step))
    whole = values.units // ratio.denominator
    large = whole.abs() > (2**63 - 1) // ratio.numerator
    if bool(large.any()):
        raise OffStepError(values, int(large.nonzero()[0]), "does not fit 64 bits at this step")
    return whole * ratio.numerator


def _float_units(values: Tensor, step: Fraction) -> Tensor:
    whole = _rounded(values, step.numerator, step.denominator)
    on = _on_step(values, whole, step.numerator, step.denominator)
    if not bool(on.all()):
        raise OffStepError(values, int((~on).nonzero()[0]), _finer(step))
    _check_gap(values, step)
    return whole.to(torch.int64)


def _finer(step: Fraction) -> str:
    return f"is no multiple of the step {_decimal(step):f}"


def _decimal(step: Fraction) -> Decimal:
    return Decimal(step.numerator) / Decimal(step.denominator)


def _rounded(values: Tensor, numerator: int, denominator: int) -> Tensor:
    scaled = values.to(torch.float64) * float(denominator)
    return torch.round(scaled if numerator == 1 else scaled / float(numerator))


def _on_step(values: Tensor, whole: Tensor, numerator: int, denominator: int) -> Tensor:
    back = (whole if numerator == 1 else whole * float(numerator)) / float(denominator)
    return back.to(values.dtype) == values


def _check_gap(values: Tensor, step: Fraction, culprit: Tensor | None = None) -> None:
    """Half a gap of the column's floats plus half a gap of the product must stay below half a step.

    The error names `culprit`, the value that asked for this step, else the largest one.
    """
    finite = _finite(values)
    if not len(finite):
        return
    low, high = torch.aminmax(finite)
    top = max(-float(low), float(high))
    _, exponent = math.frexp(top)
    gap = math.ldexp(1.0, exponent - (24 if values.dtype == torch.float32 else 53))
    steps = top / float(step)
    if gap / float(step) + math.ulp(steps) >= 1.0:
        dtype = str(values.dtype).removeprefix("torch.")
        rule = f"has more digits than {dtype} holds at the step {_decimal(step):f}"
        raise OffStepError(
            values,
            _position(values.abs(), values.new_tensor(top)) if culprit is None else _position(values, culprit),
            rule,
        )


def _position(values: Tensor, value: Tensor) -> int:
    return int((values == value).nonzero()[0])
