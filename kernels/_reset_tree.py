"""Searches in the tree of sums that the reset rule has on the GPU, and steps from node to node (`_reset_levels`).

Of a tree `marks` [blocks, GROUPS] holds the sum of a block before each of its groups of rows, `totals` [levels,
blocks] the sum of each node, `before` [levels, blocks] that of the siblings that precede it, and `exits` [levels, N]
the sum open at a node's end where its first bar closes at that row.
"""

from __future__ import annotations

from numba import cuda

from kernels._op import SIMULATED

THREADS = 4 if SIMULATED else 256
ROWS_EACH = 2 if SIMULATED else 8
BITS = 3 if SIMULATED else 11
BLOCK_ROWS = THREADS * ROWS_EACH
# Rows whose sum is kept, so that a search reads those of one group.
GROUP = 2 if SIMULATED else 32
GROUPS = BLOCK_ROWS // GROUP
CHILD_BITS = 2 if SIMULATED else 6
CHILDREN = 1 << CHILD_BITS
PROBES = 3 if SIMULATED else 8
# An exit of a block holds bars closed after the first one << OPEN_BITS | the sum left open.
OPEN_BITS = 63 - BITS
OPEN_MASK = (1 << OPEN_BITS) - 1


@cuda.jit(device=True)
def part_of(amount, row, threshold):
    """Return min(amount, threshold) of a row: 0 past the end, and where the amount is refused."""
    return max(0, min(amount[row], threshold)) if row < amount.shape[0] else 0


@cuda.jit(device=True)
def width_at(blocks, level):
    """Return how many nodes a level has."""
    shift = CHILD_BITS * (level - 1)
    return (blocks + (1 << shift) - 1) >> shift


@cuda.jit(device=True)
def last_below(values, low, high, wanted):
    """Return the last index in [low, high) whose value is below `wanted`, `low` where none is; the values rise."""
    while high - low > 1:
        step = (high - low + PROBES - 1) // PROBES
        below = 0
        # Independent reads: a search of 64 values waits for memory twice.
        for probe in range(1, PROBES):
            at = low + probe * step
            below += 1 if values[min(at, high - 1)] < wanted and at < high else 0
        low, high = low + below * step, min(high, low + (below + 1) * step)
    return low


@cuda.jit(device=True)
def closing_row(amount, threshold, marks, before, level, node, left):
    """Return (the row of a node at which its sum reaches `left`, what is left after it, 0 or less)."""
    for lower in range(level - 1, 0, -1):
        begin = node << CHILD_BITS
        end = min(begin + CHILDREN, width_at(marks.shape[0], lower))
        node = last_below(before[lower - 1], begin, end, left)
        left -= before[lower - 1, node]
    group = last_below(marks[node], 0, GROUPS, left)
    left -= marks[node, group]
    begin = node * BLOCK_ROWS + group * GROUP
    row, over = begin, 1
    for at in range(begin, begin + GROUP):
        left -= part_of(amount, at, threshold)
        if over > 0 and left <= 0:
            row, over = at, left
    return row, over


@cuda.jit(device=True)
def leave(threshold, totals, exits, level, node, row, inside):
    """Return (the sum open at a node's end, bars closed in it if it is a block) where the first one closes at `row`.

    `inside` is the node's sum up to that row and with it.
    """
    total = totals[level - 1, node]
    if level == 1 and total - inside >= threshold:
        return exits[0, row] & OPEN_MASK, 1 + (exits[0, row] >> OPEN_BITS)
    if level > 1 and total >= threshold:
        return exits[level - 1, row], 0
    return total - inside, 1


@cuda.jit(device=True)
def enter(amount, threshold, marks, totals, before, exits, level, node, opened):
    """Return (the sum open at a node's end, bars closed in it if it is a block), given the sum open at its begin."""
    if opened + totals[level - 1, node] < threshold:
        return opened + totals[level - 1, node], 0
    row, over = closing_row(amount, threshold, marks, before, level, node, threshold - opened)
    return leave(threshold, totals, exits, level, node, row, threshold - opened - over)


@cuda.jit(device=True)
def walk(amount, threshold, marks, totals, before, exits, level, at, stop, opened):
    """Return the sum open at the begin of the sibling `stop`, given that at the begin of `at`."""
    while at < stop:
        here = before[level - 1, at]
        child = last_below(before[level - 1], at, stop, threshold - opened + here)
        opened += before[level - 1, child] - here
        opened, _ = enter(amount, threshold, marks, totals, before, exits, level, child, opened)
        at = child + 1
    return opened


@cuda.jit(device=True)
def sum_before(amount, threshold, marks, before, level, row):
    """Return the sum of the rows before `row` in its node of that level."""
    block, group = row // BLOCK_ROWS, row % BLOCK_ROWS // GROUP
    total = marks[block, group]
    for lower in range(1, level):
        total += before[lower - 1, block >> (CHILD_BITS * (lower - 1))]
    for earlier in range(row - row % GROUP, row):
        total += part_of(amount, earlier, threshold)
    return total
