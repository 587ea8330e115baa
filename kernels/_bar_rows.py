"""The CPU form of bar_sums: loops that vector units take, over pieces of rows that stay in the first-level cache.

Row numbers are unsigned: numba then neither wraps indices nor makes slices, which it counts, and LLVM vectorises.
Short runs are taken 32 rows at a time, rows beyond the end masked: a count that never changes is never mispredicted.
Bars are gathered in a table of 64 columns before they are written: the rows of the result lie far apart in memory.
"""

from __future__ import annotations

import numpy as np

from kernels._bar_columns import (
    BUYS,
    CLOSE,
    COUNT,
    FIRST_ROW,
    FIRST_TIME,
    HIGH,
    LAST_ROW,
    LAST_TIME,
    LOW,
    NOTIONAL,
    OPEN,
    S1,
    S2,
    S3,
    S4,
    VOLUME,
    K,
    merge,
)
from kernels._bar_moves import ONE, add_moves, fill_signs
from kernels._int128 import add, multiply, scale
from kernels._op import inlined, jit
from kernels._powers import recentred

PIECE = 512
# Power sums fit 64 bits where |d| is below: 512 x 11584^4 < 2^63 for a piece, 32 x 23169^4 < 2^63 for a chunk.
NARROW, NARROW_CHUNK = 11585, 23170
CHUNK, LONG = np.uint64(32), np.uint64(128)
GROUP = 64


@inlined
def extremes(price, low, high):
    """Return the lowest and the highest price of the rows [low, high)."""
    least = most = price[low]
    for row in range(low, high):
        least, most = min(least, price[row]), max(most, price[row])
    return least, most


@inlined
def narrow_powers(price, low, high, origin):
    """Return s1..s4 of d = price - origin modulo 2^64."""
    s1, s2, s3, s4 = 0, 0, 0, 0
    for row in range(low, high):
        d = price[row] - origin
        square = d * d
        s1 += d
        s2 += square
        s3 += square * d
        s4 += square * square
    return s1, s2, s3, s4


@jit
def wide_powers(price, low, high, origin):
    """Return (s1, s2_hi, s2_lo, ..., s4_lo) of d = price - origin, each product in 128 bits."""
    s1, s2h, s2l, s3h, s3l, s4h, s4l = 0, 0, 0, 0, 0, 0, 0
    for row in range(low, high):
        d = price[row] - origin
        h, w = multiply(d, d)
        s1 += d
        s2h, s2l = add(s2h, s2l, h, w)
        h, w = scale(h, w, d)
        s3h, s3l = add(s3h, s3l, h, w)
        h, w = scale(h, w, d)
        s4h, s4l = add(s4h, s4l, h, w)
    return s1, s2h, s2l, s3h, s3l, s4h, s4l


@jit
def wider_powers(price, low, high, origin, least, most):
    """Return what wide_powers does for a piece, in 64 bits about the middle of its prices where that is enough."""
    middle = least + ((most - least) >> 1)
    if 0 <= most - middle < NARROW:
        s1, s2, s3, s4 = narrow_powers(price, low, high, middle)
        return recentred(np.int64(high - low), s1, 0, s2, s3 >> 63, s3, 0, s4, middle - origin)
    return wide_powers(price, low, high, origin)


@inlined
def add_powers(price, low, high, origin, least, most, narrow, s1, s2, s3, s4, table, bar):
    """Add extremes and power sums of the rows [low, high) to table[:, bar]; s1..s4 hold where |d| < narrow."""
    table[LOW, bar], table[HIGH, bar] = min(table[LOW, bar], least), max(table[HIGH, bar], most)
    s2h, s2l, s3h, s3l, s4h, s4l = 0, s2, s3 >> 63, s3, 0, s4
    if least - origin <= -narrow or most - origin >= narrow:
        s1, s2h, s2l, s3h, s3l, s4h, s4l = wider_powers(price, low, high, origin, least, most)
    table[S1, bar] += s1
    table[S2, bar], table[S2 + 1, bar] = add(table[S2, bar], table[S2 + 1, bar], s2h, s2l)
    table[S3, bar], table[S3 + 1, bar] = add(table[S3, bar], table[S3 + 1, bar], s3h, s3l)
    table[S4, bar], table[S4 + 1, bar] = add(table[S4, bar], table[S4 + 1, bar], s4h, s4l)


@inlined
def add_prices(price, low, high, origin, table, bar):
    """Add extremes and power sums of the rows [low, high), one piece at most, to table[:, bar]."""
    least, most = extremes(price, low, high)
    s1, s2, s3, s4 = narrow_powers(price, low, high, origin)
    add_powers(price, low, high, origin, least, most, NARROW, s1, s2, s3, s4, table, bar)


@inlined
def add_amounts(quantity, notional, is_buyer_maker, low, high, table, bar):
    """Add volume, notional and the volume that takers bought to table[:, bar]."""
    volume, value, buys = 0, 0, 0
    for row in range(low, high):
        volume += quantity[row]
        value += notional[row]
        buys += 0 if is_buyer_maker[row] else quantity[row]
    table[VOLUME, bar] += volume
    table[NOTIONAL, bar] += value
    table[BUYS, bar] += buys


@inlined
def add_chunk_prices(price, low, rows, origin, table, bar):
    """Do what add_prices does for `rows` rows of a chunk, all of whose rows can be read."""
    least = most = origin
    s1, s2, s3, s4 = 0, 0, 0, 0
    for row in range(CHUNK):
        now = price[low + row] if row < rows else origin
        least, most = min(least, now), max(most, now)
        d = now - origin
        square = d * d
        s1 += d
        s2 += square
        s3 += square * d
        s4 += square * square
    add_powers(price, low, low + rows, origin, least, most, NARROW_CHUNK, s1, s2, s3, s4, table, bar)


@inlined
def add_chunk_amounts(quantity, notional, is_buyer_maker, low, rows, table, bar):
    """Do what add_amounts does for `rows` rows of a chunk, all of whose rows can be read."""
    volume, value, buys = 0, 0, 0
    for row in range(CHUNK):
        mask = -np.int64(row < rows)
        lots = quantity[low + row] & mask
        volume += lots
        value += notional[low + row] & mask
        buys += lots & (np.int64(is_buyer_maker[low + row]) - 1)
    table[VOLUME, bar] += volume
    table[NOTIONAL, bar] += value
    table[BUYS, bar] += buys


@inlined
def add_segment(price, quantity, notional, is_buyer_maker, low, high, origin, table, bar):
    """Add the rows [low, high) of one bar, one piece at most, to table[:, bar]; all but their moves."""
    if table[COUNT, bar] == 0:
        table[FIRST_ROW, bar] = np.int64(low)
        table[OPEN, bar] = table[HIGH, bar] = table[LOW, bar] = price[low]
    if high - low < LONG and low + LONG + CHUNK <= np.uint64(price.shape[0]):
        for begin in range(low, high, CHUNK):
            rows = min(CHUNK, high - begin)
            add_chunk_prices(price, begin, rows, origin, table, bar)
            add_chunk_amounts(quantity, notional, is_buyer_maker, begin, rows, table, bar)
    else:
        add_prices(price, low, high, origin, table, bar)
        add_amounts(quantity, notional, is_buyer_maker, low, high, table, bar)
    table[LAST_ROW, bar] = np.int64(high - ONE)
    table[CLOSE, bar] = price[high - ONE]
    table[COUNT, bar] += np.int64(high - low)


@inlined
def finish(time, first_row, table, bars):
    """Give the first `bars` columns their times and absolute rows: all at once, since each is a far read."""
    for bar in range(bars):
        if table[COUNT, bar] > 0:
            table[FIRST_TIME, bar] = time[table[FIRST_ROW, bar]]
            table[LAST_TIME, bar] = time[table[LAST_ROW, bar]]
            table[FIRST_ROW, bar] += first_row
            table[LAST_ROW, bar] += first_row


@inlined
def flush(table, bars, out, begin):
    """Move the first `bars` columns to out[:, begin:], and clear the table."""
    for column in range(K):
        target = out[column, begin : begin + bars]
        for bar in range(bars):
            target[bar] = table[column, bar]
    table[:] = 0


@inlined
def close(time, first_row, table, slot, out, bar):
    """Leave table[:, slot] to the closed `bar`, write the table when it is full, and return the next column."""
    if slot + 1 < GROUP:
        return slot + 1
    finish(time, first_row, table, GROUP)
    flush(table, GROUP, out, bar + 1 - GROUP)
    return 0


@jit
def sum_part(
    time, price, quantity, notional, is_buyer_maker, ends, begin, end, bar, bars, origin, previous, first_row, out, tail
):
    """Write to out the sums of the bars [bar, bars), which end in the rows [begin, end], and to tail those of the rest.

    Of the first of them (of the rest, where there is none) only the rows from `begin` on are here: `origin` is its
    open, and `previous` the price before row 0 of the chunk.
    """
    ups, downs = np.zeros(PIECE // 64 + 1, np.uint64), np.zeros(PIECE // 64 + 1, np.uint64)
    table, slot = np.zeros((K, GROUP), np.int64), 0
    fresh = begin > 0 and bar > 0 and ends[bar - 1] == begin
    for piece in range(np.uint64(begin), np.uint64(end), np.uint64(PIECE)):
        row, high = piece, min(piece + np.uint64(PIECE), np.uint64(end))
        fill_signs(price, piece, high, previous, ups, downs)
        while row < high:
            while bar < bars and np.uint64(ends[bar]) == row:
                slot, bar = close(time, first_row, table, slot, out, bar), bar + 1
                origin, fresh = price[row], True
            stop = high if bar == bars else min(high, np.uint64(ends[bar]))
            add_segment(price, quantity, notional, is_buyer_maker, row, stop, origin, table, slot)
            add_moves(ups, downs, row - piece + np.uint64(fresh), stop - piece, table, slot)
            row, fresh = stop, False
    for closing in range(bar, bars):
        slot = close(time, first_row, table, slot, out, closing)
    finish(time, first_row, table, slot + 1)
    for column in range(K):
        tail[column] = table[column, slot]
    flush(table, slot, out, bars - slot)


@jit
def stitch(state, firsts, out, tails):
    """Join the parts: part p closes the bars [firsts[p], firsts[p + 1]); return the sums of the bar left open."""
    pair = np.empty((K, 2), np.int64)
    pair[:, 0] = state
    for part in range(tails.shape[0]):
        bar = firsts[part]
        closes = firsts[part + 1] > bar
        pair[:, 1] = out[:, bar] if closes else tails[part]
        merge(pair, 0, 1)
        if closes:
            out[:, bar] = pair[:, 0]
            pair[:, 0] = tails[part]
    return pair[:, 0].copy()
