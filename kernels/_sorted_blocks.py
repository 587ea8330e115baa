"""One side of an order book: sorted levels in one array, or in blocks so that a new level moves few others.

A level is a key (rising from the best level on) and a quantity. Blocks hold at most BLOCK levels and are split in the
middle when full, so finding a level costs two binary searches and setting it moves at most BLOCK levels, whatever the
keys are and however many there are.

The blocks of a side, P of them, are three arrays. levels [2, P, BLOCK]: keys and quantities. index [3, P]: SIZE, the
levels in a block; ORDER, the blocks in use, best first; REACH, the highest key that may lie in the block of that place,
HIGHEST for the last one. count [3]: blocks in use (USED), blocks used at any time (TAKEN), LEVELS in all blocks.
"""

from __future__ import annotations

import numpy as np

from kernels._op import jit

HIGHEST = (1 << 63) - 1
BLOCK = 64
HALF = BLOCK // 2
SIZE, ORDER, REACH = range(3)
USED, TAKEN, LEVELS = range(3)


@jit
def first_at_least(keys, low, high, key):
    """Return the first index in [low, high) whose key is >= `key`, else `high`; keys rise."""
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@jit
def put_in(values, at, size, value):
    """Insert `value` before index `at` of `size` values; there is room."""
    tail = values[at:]
    for index in range(size - at + 1):
        tail[index], value = value, tail[index]


@jit
def take_out(values, at, size):
    """Remove index `at` of `size` values."""
    tail = values[at:]
    for index in range(size - at - 1):
        tail[index] = tail[index + 1]


@jit
def set_level(keys, lots, size, key, quantity):
    """Set one level among `size` sorted ones; return how many there are then."""
    at = first_at_least(keys, 0, size, key)
    found = at < size and keys[at] == key
    if found and quantity > 0:
        lots[at] = quantity
    elif found:
        take_out(keys, at, size)
        take_out(lots, at, size)
        return size - 1
    elif quantity > 0:
        put_in(keys, at, size, key)
        put_in(lots, at, size, quantity)
        return size + 1
    return size


@jit
def load(ticks, lots, flip, events):
    """Return (levels, index, count) of a side with keys ticks ^ flip and room for so many events."""
    used = max(1, -(-ticks.shape[0] // HALF))
    # Half full or less to begin with, a block is split only after HALF levels have come to it: no block is used twice.
    most = used + events // HALF
    levels, index = np.empty((2, most, BLOCK), np.int64), np.zeros((3, most), np.int64)
    for level in range(ticks.shape[0]):
        block, key = level // HALF, ticks[level] ^ flip
        levels[0, block, index[SIZE, block]], levels[1, block, index[SIZE, block]] = key, lots[level]
        index[SIZE, block] += 1
        index[ORDER, block], index[REACH, block] = block, key
    index[REACH, used - 1] = HIGHEST
    return levels, index, np.array([used, used, ticks.shape[0]])


@jit
def clear(index, count):
    """Leave one block, without levels."""
    count[USED], count[LEVELS] = 1, 0
    index[REACH, 0], index[SIZE, index[ORDER, 0]] = HIGHEST, 0


@jit
def split(levels, index, count, place):
    """Move the upper half of a full block to a block of its own behind it."""
    old, new = index[ORDER, place], count[TAKEN]
    levels[:, new, :HALF] = levels[:, old, HALF:]
    index[SIZE, old], index[SIZE, new] = HALF, HALF
    put_in(index[ORDER], place + 1, count[USED], new)
    put_in(index[REACH], place, count[USED], levels[0, old, HALF - 1])
    count[USED] += 1
    count[TAKEN] += 1


@jit
def drop(index, count, place):
    """Leave out a block without levels, unless it is the only one."""
    if count[USED] > 1:
        take_out(index[ORDER], place, count[USED])
        take_out(index[REACH], place, count[USED])
        count[USED] -= 1
        index[REACH, count[USED] - 1] = HIGHEST


@jit
def update(levels, index, count, key, quantity):
    """Set one level."""
    place = first_at_least(index[REACH], 0, count[USED], key)
    if index[SIZE, index[ORDER, place]] == BLOCK:
        split(levels, index, count, place)
        place += 1 if key > index[REACH, place] else 0
    block = index[ORDER, place]
    before = index[SIZE, block]
    after = set_level(levels[0, block], levels[1, block], before, key, quantity)
    index[SIZE, block] = after
    count[LEVELS] += after - before
    if after == 0:
        drop(index, count, place)


@jit
def best(levels, index, most, flip, ticks, lots):
    """Write the best `most` levels, of those there are."""
    at = 0
    for place in range(index.shape[1]):
        if at == most:
            break
        block = index[ORDER, place]
        size = min(most - at, index[SIZE, block])
        keys, out = levels[0, block], ticks[at : at + size]
        for level in range(size):
            out[level] = keys[level] ^ flip
        lots[at : at + size] = levels[1, block, :size]
        at += size
