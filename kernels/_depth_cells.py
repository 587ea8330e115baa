"""The cells of a depth tensor, one level or one bin of a side each: what the plain loop and the CUDA kernel share.

Sums are integers: of lots, and of (price - first) x quantity, in 128 bits where 64 could wrap. Their order does not
matter, so threads may share a bin.
"""

from __future__ import annotations

import math

from kernels._blocks import NO_ROW
from kernels._int128 import add, multiply
from kernels._op import jit

EXACT = 1 << 53  # below it float64 holds every integer
HIGHEST = (1 << 63) - 1


@jit
def is_sound(price, quantity):
    """Whether float64 holds a level exactly."""
    return -EXACT < price < EXACT and 0 <= quantity < EXACT


@jit
def add_levels(price, quantity, first, begin, stop, step, most):
    """Return (lots, dot, reach, first unsound row or NO_ROW) of rows begin, begin + step ... below stop.

    Lots are their sum, or `most` where it is more; dot the sum of (price - first) x quantity, modulo 2^64; reach the
    largest |price - first|.
    """
    lots, dot, reach, bad = 0, 0, 0, NO_ROW
    for row in range(begin, stop, step):
        away = price[row] - first
        lots = min(lots + quantity[row], most)
        dot += away * quantity[row]
        reach = max(reach, abs(away))
        if not is_sound(price[row], quantity[row]):
            bad = min(bad, row)
    return lots, dot, reach, bad


@jit
def mean_price(price, quantity, begin, stop, lots, dot, reach):
    """Return the quantity-weighted mean price of rows [begin, stop), of which `add_levels` gave the rest; lots > 0."""
    weighted = float(dot)
    if reach > HIGHEST // lots:
        high, low = 0, 0
        for row in range(begin + 1, stop):
            one_high, one_low = multiply(price[row] - price[begin], quantity[row])
            high, low = add(high, low, one_high, one_low)
        weighted = float(low)
        # Beyond 64 bits the high word times 2^64 is exact, so that a fused multiply-add gives the same bits.
        if high != low >> 63:
            weighted = float(high) * 18446744073709551616.0 + (
                weighted + 18446744073709551616.0 if low < 0 else weighted
            )
    return price[begin] + weighted / lots


@jit
def level_cell(price, quantity, begin, stop, level, depth, time, side):
    """Write one near level of the side of rows [begin, stop); return its row where it is unsound, else NO_ROW."""
    row = begin + level
    if row < stop:
        depth[time, level, 2 * side], depth[time, level, 2 * side + 1] = price[row], quantity[row]
        return NO_ROW if is_sound(price[row], quantity[row]) else row
    depth[time, level, 2 * side] = float(price[stop - 1]) if stop > begin else math.nan
    depth[time, level, 2 * side + 1] = 0
    return NO_ROW


@jit
def bin_cell(price, quantity, begin, stop, low, high, sums, depth, time, cell, side):
    """Write the bin of rows [low, high) of the side of rows [begin, stop), from its lots, dot and reach."""
    lots, dot, reach = sums
    last = math.nan
    if stop > begin:
        last = float(price[(high if high > low else stop) - 1])
    if lots > 0 and high > low + 1:
        last = mean_price(price, quantity, low, high, lots, dot, reach)
    depth[time, cell, 2 * side], depth[time, cell, 2 * side + 1] = last, lots
