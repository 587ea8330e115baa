"""Extremes of ever longer runs of rows, so that a search on the GPU can pass over many rows at once.

Level 0 are the rows; a node of level k + 1 covers FANOUT nodes of level k. `nodes` holds the highest and lowest value
of each node above the rows: those of level 1 come first, then those of level 2, and so on.

A search has a cursor (level, base, node): `base` is where the level begins in `nodes`, `node` its place in the level.
It asks the node at the cursor; where the answer lies inside, it goes `down`, else `on` to the next node, which is the
largest that begins there. A search visits at most 2 FANOUT nodes a level.
"""

from __future__ import annotations

from numba import cuda

from kernels._op import SIMULATED, launch, new_rows

HIGH, LOW = range(2)
BITS = 1 if SIMULATED else 4
FANOUT = 1 << BITS
THREADS = 4 if SIMULATED else 128


def launch_levels(values):
    """Return (nodes [2, all above the rows] int64, the number of levels above the rows) of int64 values [N]."""
    sizes = [values.shape[0]]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // FANOUT))
    nodes = new_rows(values, 2, sum(sizes[1:]))
    child_base = base = 0
    for level, size in enumerate(sizes[1:]):
        launch(_lift_kernel, -(-size // THREADS), THREADS, values, nodes, level, child_base, base, size)
        child_base, base = base, base + size
    return nodes, len(sizes) - 1


@cuda.jit(device=True)
def size_at(rows, level):
    """Return how many nodes a level has."""
    return ((rows - 1) >> (BITS * level)) + 1


@cuda.jit(device=True)
def node_at(values, nodes, level, base, node):
    """Return a node's (high, low)."""
    if level == 0:
        return values[node], values[node]
    return nodes[HIGH, base + node], nodes[LOW, base + node]


@cuda.jit(device=True)
def on(level, base, node, rows, top):
    """Return the cursor at the largest node that begins where this one does; beyond a level's end it stays there."""
    while level < top and node & (FANOUT - 1) == 0:
        if level > 0:
            base += size_at(rows, level)
        level += 1
        node >>= BITS
    return level, base, node


@cuda.jit(device=True)
def down(level, base, node, rows):
    """Return the cursor at a node's first child."""
    if level > 1:
        base -= size_at(rows, level - 1)
    return level - 1, base, node << BITS


@cuda.jit
def _lift_kernel(values, nodes, level, child_base, base, size):
    """One thread per node: from its children, which are of this level."""
    node = cuda.grid(1)
    if node >= size:
        return
    first = node << BITS
    high, low = node_at(values, nodes, level, child_base, first)
    for child in range(first + 1, min(first + FANOUT, size_at(values.shape[0], level))):
        child_high, child_low = node_at(values, nodes, level, child_base, child)
        high, low = max(high, child_high), min(low, child_low)
    nodes[HIGH, base + node] = high
    nodes[LOW, base + node] = low
