"""Price changes on the CPU: the signs of 64 of them are two words of bits, so that no branch depends on a price.

Row numbers and words are unsigned, as in `_bar_rows`.
"""

from __future__ import annotations

import numpy as np

from kernels._bar_columns import CHANGES, FIRST_MOVE, LAST_MOVE, TURNS
from kernels._op import inlined

WORD = np.uint64(64)
ZERO, ONE = np.uint64(0), np.uint64(1)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@inlined
def signs(price, low, high):
    """Return two words: bit i is set where price[low + i] is above, and where it is below, the price before it."""
    up, down = ZERO, ZERO
    for row in range(low, high):
        up |= np.uint64(price[row] > price[row - ONE]) << (row - low)
        down |= np.uint64(price[row] < price[row - ONE]) << (row - low)
    return up, down


@inlined
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


@inlined
def bits_set(word):
    """Return the number of set bits of an unsigned 64-bit word (Warren, Hacker's Delight, section 5-1)."""
    word -= (word >> ONE) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@inlined
def turns_of(up, down, rising):
    """Return the moves that go against the last one before them; `rising` says how it went before bit 0.

    In ~down + up the carry into a bit is set by the nearest move below it: one that goes up makes a carry, one that
    goes down stops it, and where there is none it passes.
    """
    free = ~down
    carries = (free + up + np.uint64(rising)) ^ free ^ up
    return (down & carries) | (up & ~carries)


@inlined
def window(words, begin, bits):
    """Return 1 to 64 bits of a row of words, from bit `begin` on; one word more must follow."""
    word, shift = begin // WORD, begin % WORD
    found = (words[word] >> shift) | ((words[word + ONE] << ONE) << (WORD - ONE - shift))
    return found & (ALL >> (WORD - bits))


@inlined
def add_moves(ups, downs, low, high, table, bar):
    """Add the price changes of the rows [low, high) of a piece to table[:, bar]."""
    for begin in range(low, high, WORD):
        bits = min(WORD, high - begin)
        up, down = window(ups, begin, bits), window(downs, begin, bits)
        moves = up | down
        if moves == ZERO:
            continue
        last = table[LAST_MOVE, bar]
        if last == 0:
            last = 1 if up & moves & (~moves + ONE) != ZERO else -1
            table[FIRST_MOVE, bar] = last
        table[CHANGES, bar] += bits_set(moves)
        table[TURNS, bar] += bits_set(turns_of(up, down, last > 0))
        table[LAST_MOVE, bar] = 1 if up > down else -1
