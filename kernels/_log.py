"""The logarithm of a price in units of 1e-9, by integers alone: the same on every device.

A price p is 2^e m with 1 <= m < 2. With c the reciprocal of the middle of m's 256th of [1, 2) and r = m c - 1,

    ln p = e ln 2 - ln c + ln(1 + r),    |r| <= 1/512,    ln(1 + r) = r - r^2/2 + r^3/3 - r^4/4 + r^5/5.

Numbers are fixed-point, Qn being in units of 2^-n, and none overflows: compilers take for granted that signed integers
do not wrap. The result is off by at most 0.5 + 3e-8 units: constants 2 x 2^-28, roundings down 2^-27
and 3 x 2^-31, the terms left out of the series 1e-8. It never falls as the price rises.
"""

from __future__ import annotations

from decimal import Context, Decimal

import numpy as np

from kernels._op import jit

UNITS = 1_000_000_000
CELLS = 256
_SHIFT = 27
_DIGITS = Context(prec=40)


def _fixed(value: Decimal, bits: int) -> int:
    return int(_DIGITS.multiply(value, Decimal(2**bits)).to_integral_value())


def _units_of_log(value: Decimal) -> int:
    return _fixed(_DIGITS.multiply(_DIGITS.ln(value), Decimal(UNITS)), _SHIFT)


def _cells() -> tuple[np.ndarray, np.ndarray]:
    """Per 256th of [1, 2): the reciprocal of its middle in Q62, and -ln of that reciprocal in units, Q27."""
    whole = Decimal(2**62)
    middles = [_DIGITS.divide(Decimal(2 * (CELLS + cell) + 1), Decimal(2 * CELLS)) for cell in range(CELLS)]
    reciprocals = [_fixed(_DIGITS.divide(Decimal(1), middle), 62) for middle in middles]
    logs = [-_units_of_log(_DIGITS.divide(Decimal(each), whole)) for each in reciprocals]
    return np.array(reciprocals, np.int64), np.array(logs, np.int64)


_RECIPROCAL, _LOG_OF_CELL = _cells()
_LOG_OF_POWER = np.array([_units_of_log(Decimal(2**power)) for power in range(63)], np.int64)
_ONE = 1 << 61
_FIFTH, _FOURTH, _THIRD, _HALF = ((1 << 62) // each for each in (5, 4, 3, 2))
_UNITS_Q27 = UNITS << _SHIFT


@jit
def times(a, b):
    """Return floor(a b / 2^62) of a, b within +-2^62: of two Q62 numbers their product; no step needs 64 bits."""
    a1, a0 = a >> 31, a & 0x7FFFFFFF
    b1, b0 = b >> 31, b & 0x7FFFFFFF
    return a1 * b1 + ((a1 * b0 + a0 * b1 + (a0 * b0 >> 31)) >> 31)


@jit
def log_price(ticks):
    """Return the integer nearest to 1e9 ln(ticks), for ticks in [1, 2^63)."""
    mantissa = int(ticks)
    power = 61
    if mantissa >= 1 << 62:
        mantissa >>= 1
        power = 62
    step = 32
    while step > 0:
        if mantissa < 1 << (62 - step):
            mantissa <<= step
            power -= step
        step >>= 1
    cell = (mantissa >> 53) & (CELLS - 1)
    rest = (times(mantissa, int(_RECIPROCAL[cell])) - _ONE) << 1
    series = _FOURTH - times(rest, _FIFTH)
    series = _THIRD - times(rest, series)
    series = _HALF - times(rest, series)
    series = rest - times(rest, times(rest, series))
    whole = int(_LOG_OF_POWER[power]) + int(_LOG_OF_CELL[cell]) + times(series, _UNITS_Q27)
    return (whole + (1 << (_SHIFT - 1))) >> _SHIFT
