"""The CPU form of bar_sums: loops that vector units take, over pieces of rows that stay in the first-level cache.

Row numbers are unsigned: numba then neither wraps indices nor makes slices, which it counts, and LLVM vectorises.
The signs of 64 price changes are two words of bits, so that their turns are counted by a carry and not by branches.
Bars are gathered in a table of 64 columns before they are written: the rows of the result lie far apart in memory.
"""

from __future__ import annotations

import numpy as np

from kernels._bar_columns import (
    BUYS,
    CHANGES,
    CLOSE,
    COUNT,
    FIRST_MOVE,
    FIRST_ROW,
    FIRST_TIME,
    HIGH,
    LAST_MOVE,
    LAST_ROW,
    LAST_TIME,
    LOW,
    NOTIONAL,
    OPEN,
    S1,
    S2,
    S3,
    S4,
    TURNS,
    VOLUME,
    K,
    merge,
)
from kernels._int128 import add, multiply, scale
from kernels._op import jit
from kernels._powers import recentred

PIECE = 512
# The power sums of a piece fit 64 bits where |d| < NARROW: 512 x 11584^4 < 2^63.
NARROW = 11585
GROUP = 64
WORD = np.uint64(64)
ZERO, ONE = np.uint64(0), np.uint64(1)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@jit
def extremes(price, low, high):
    """Return the lowest and the highest price of the rows [low, high)."""
    least = most = price[low]
    for row in range(low, high):
        least, most = min(least, price[row]), max(most, price[row])
    return least, most


@jit
def narrow_powers(price, low, high, origin):
    """Return s1..s4 of d = price - origin, for at most PIECE rows with |d| < NARROW."""
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
def powers(price, low, high, origin, least, most):
    """Return what wide_powers does, in 64 bits about the open or about the middle where that is enough."""
    if least - origin > -NARROW and most - origin < NARROW:
        s1, s2, s3, s4 = narrow_powers(price, low, high, origin)
        return s1, 0, s2, s3 >> 63, s3, 0, s4
    middle = least + ((most - least) >> 1)
    if 0 <= most - middle < NARROW:
        s1, s2, s3, s4 = narrow_powers(price, low, high, middle)
        return recentred(np.int64(high - low), s1, 0, s2, s3 >> 63, s3, 0, s4, middle - origin)
    return wide_powers(price, low, high, origin)


@jit
def add_prices(price, low, high, origin, table, bar):
    """Add extremes and power sums of the rows [low, high) to table[:, bar]."""
    least, most = extremes(price, low, high)
    table[LOW, bar], table[HIGH, bar] = min(table[LOW, bar], least), max(table[HIGH, bar], most)
    s1, s2h, s2l, s3h, s3l, s4h, s4l = powers(price, low, high, origin, least, most)
    table[S1, bar] += s1
    table[S2, bar], table[S2 + 1, bar] = add(table[S2, bar], table[S2 + 1, bar], s2h, s2l)
    table[S3, bar], table[S3 + 1, bar] = add(table[S3, bar], table[S3 + 1, bar], s3h, s3l)
    table[S4, bar], table[S4 + 1, bar] = add(table[S4, bar], table[S4 + 1, bar], s4h, s4l)


@jit
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


@jit
def signs(price, low, high):
    """Return two words: bit i is set where price[low + i] is above, and where it is below, the price before it."""
    up, down = ZERO, ZERO
    for row in range(low, high):
        up |= np.uint64(price[row] > price[row - ONE]) << (row - low)
        down |= np.uint64(price[row] < price[row - ONE]) << (row - low)
    return up, down


@jit
def fill_signs(price, low, high, previous, ups, downs):
    """Write the words of the rows [low, high); `previous` is the price before row 0 of the chunk."""
    word = ZERO
    for begin in range(low, high, WORD):
        end = min(begin + WORD, high)
        if begin == ZERO:
            up, down = signs(price, ONE, end)
            ups[word] = (up << ONE) | np.uint64(price[begin] > previous)
            downs[word] = (down << ONE) | np.uint64(price[begin] < previous)
        else:
            ups[word], downs[word] = signs(price, begin, end)
        word += ONE


@jit
def bits_set(word):
    """Return the number of set bits of an unsigned 64-bit word (Warren, Hacker's Delight, section 5-1)."""
    word -= (word >> ONE) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@jit
def turns_of(up, down, rising):
    """Return the moves that go against the last one before them; `rising` says how it went before bit 0.

    In ~down + up the carry into a bit is set by the nearest move below it: one that goes up makes a carry, one that
    goes down stops it, and where there is none it passes.
    """
    free = ~down
    carries = (free + up + np.uint64(rising)) ^ free ^ up
    return (down & carries) | (up & ~carries)


@jit
def add_moves(ups, downs, low, high, table, bar):
    """Add the price changes of the rows [low, high) of a piece to table[:, bar]."""
    first, last = table[FIRST_MOVE, bar], table[LAST_MOVE, bar]
    for word in range(low // WORD, (high + WORD - ONE) // WORD):
        base, mask = word * WORD, ALL
        mask &= ALL << (max(low, base) - base)
        mask &= ALL >> (base + WORD - min(high, base + WORD))
        up, down = ups[word] & mask, downs[word] & mask
        moves = up | down
        if moves == ZERO:
            continue
        if last == 0:
            lowest = moves & (~moves + ONE)
            first = last = 1 if up & lowest != ZERO else -1
        table[CHANGES, bar] += bits_set(moves)
        table[TURNS, bar] += bits_set(turns_of(up, down, last > 0))
        last = 1 if up > down else -1
    table[FIRST_MOVE, bar], table[LAST_MOVE, bar] = first, last


@jit
def finish(time, first_row, table, bars):
    """Give the first `bars` columns their times and absolute rows: all at once, since each is a far read."""
    for bar in range(bars):
        if table[COUNT, bar] > 0:
            table[FIRST_TIME, bar] = time[table[FIRST_ROW, bar]]
            table[LAST_TIME, bar] = time[table[LAST_ROW, bar]]
            table[FIRST_ROW, bar] += first_row
            table[LAST_ROW, bar] += first_row


@jit
def flush(table, bars, out, begin):
    """Move the first `bars` columns to out[:, begin:], and clear the table."""
    for column in range(K):
        target = out[column, begin : begin + bars]
        for bar in range(bars):
            target[bar] = table[column, bar]
    table[:] = 0


@jit
def add_segment(price, quantity, notional, is_buyer_maker, low, high, piece, origin, fresh, ups, downs, table, bar):
    """Add the rows [low, high) of one bar, all in the piece that begins at row `piece`, to table[:, bar]."""
    if table[COUNT, bar] == 0:
        table[FIRST_ROW, bar] = np.int64(low)
        table[OPEN, bar] = table[HIGH, bar] = table[LOW, bar] = price[low]
    add_prices(price, low, high, origin, table, bar)
    add_amounts(quantity, notional, is_buyer_maker, low, high, table, bar)
    add_moves(ups, downs, low - piece + np.uint64(fresh), high - piece, table, bar)
    table[LAST_ROW, bar] = np.int64(high - ONE)
    table[CLOSE, bar] = price[high - ONE]
    table[COUNT, bar] += np.int64(high - low)


@jit
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
    ups, downs = np.empty(PIECE // 64, np.uint64), np.empty(PIECE // 64, np.uint64)
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
            add_segment(
                price, quantity, notional, is_buyer_maker, row, stop, piece, origin, fresh, ups, downs, table, slot
            )
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
