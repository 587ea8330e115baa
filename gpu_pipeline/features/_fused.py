"""A product and a sum rounded once, for row loops that follow TA-Lib where it uses one: one unit decides at times."""

from __future__ import annotations

from kernels.loops import helper

SPLIT = 134_217_729.0  # 2^27 + 1 halves the 53 bits of a float64


@helper
def _high_part(value):  # type: ignore[no-untyped-def]
    wide = SPLIT * value
    return wide - (wide - value)


@helper
def fused(a, b, c):  # type: ignore[no-untyped-def]
    """Return a * b + c rounded once, by error-free products and sums (T. Dekker, 1971; D. Knuth, 1969)."""
    product = a * b
    high_a, high_b = _high_part(a), _high_part(b)
    low_a, low_b = a - high_a, b - high_b
    rest = low_a * low_b - (((product - high_a * high_b) - low_a * high_b) - high_a * low_b)
    total = product + c
    back = total - product
    lost = (product - (total - back)) + (c - back)
    return total + (lost + rest)
