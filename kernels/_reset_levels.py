"""The reset rule on the GPU: a tree of blocks that know where a bar that closes at a row leaves them.

Level 1 are blocks of rows, a node of level k + 1 holds CHILDREN nodes of level k. Of a node only the sum open at its
end matters, given the sum open at its begin. Either no bar closes in it; or the first does so at some row, and that row
decides the rest. This row lies before the node's own sum passes the threshold, so `exits[k - 1, row]`, the sum open at
the end of the node of level k in which the first bar closes at `row`, is filled for those rows alone:
in blocks by pointer doubling over all beginnings; in nodes by walking from child to child, a thread for some
neighbouring rows, whose chains mostly meet after a few bars: where they have met, the known exit is taken over.
Then the tree is entered from above: entries of the top nodes by one thread, entries of children by one per node; then
every block writes its ends. Sums are of min(amount, threshold), which moves no end, and restart with every node.

Of a chain that goes from child to child a step waits for memory five to seven times: two probes for the child, two for
the group, its rows, the exit, the next total. Every level takes 64 such steps in each direction, whatever the rows.
"""

from __future__ import annotations

from numba import cuda, int32, int64

from kernels._blocks import NO_MODULUS
from kernels._op import SIMULATED, launch, new_rows
from kernels._reset_tree import (
    BLOCK_ROWS,
    CHILD_BITS,
    CHILDREN,
    GROUP,
    GROUPS,
    OPEN_BITS,
    ROWS_EACH,
    THREADS,
    closing_row,
    enter,
    leave,
    part_of,
    sum_before,
    walk,
    width_at,
)
from kernels._warp import WARP, last, running_sum

SLOTS = BLOCK_ROWS + 1
STEPS = CHILD_BITS + 1
# The top is at most so many nodes wide; one thread walks it.
TOP = 2 if SIMULATED else 256
NODE_THREADS = 2 if SIMULATED else 64
REPLAY_THREADS = 2 if SIMULATED else 128
THRESHOLD_LIMIT = (1 << 63) // SLOTS


def widths_of(blocks: int) -> list[int]:
    """How many nodes every level has, blocks first."""
    widths = [blocks]
    while widths[-1] > TOP:
        widths.append(-(-widths[-1] // CHILDREN))
    return widths


def launch_levels(amount, threshold: int, bad):
    """Return (marks [blocks, GROUPS], totals, before [levels, blocks], exits [levels, N]) of the tree."""
    widths = widths_of(-(-amount.shape[0] // BLOCK_ROWS))
    blocks, levels = widths[0], len(widths)
    marks, exits = new_rows(amount, blocks, GROUPS), new_rows(amount, levels, amount.shape[0])
    totals, before = new_rows(amount, levels, blocks), new_rows(amount, levels, blocks)
    tree = (marks, totals, before, exits)
    launch(_block_kernel, blocks, THREADS, amount, threshold, *tree, bad)
    for level in range(2, levels + 1):
        width = widths[level - 1]
        launch(_lift_kernel, -(-width // NODE_THREADS), NODE_THREADS, threshold, totals, before, level, width)
        launch(_node_kernel, width, NODE_THREADS, amount, threshold, *tree, level, widths[level - 2])
    return tree


def launch_entries(amount, threshold: int, tree, state):
    """Return (entries [blocks], offsets [blocks], counts [P], blocks of a count, state [1]).

    An entry is the sum open at a block's first row, an offset the bars closed before it in the count it belongs to.
    """
    widths = widths_of(tree[0].shape[0])
    levels, blocks = len(widths), widths[0]
    entries, offsets, after = new_rows(amount, levels + 1, blocks), new_rows(amount, blocks), new_rows(amount, 1)
    entries[levels, :1] = state
    fan, parents = widths[-1], 1
    for level in range(levels + 1, 1, -1):
        counts = new_rows(amount, parents)
        sizes = (level, parents, fan)
        grid = -(-parents // NODE_THREADS)
        launch(_enter_kernel, grid, NODE_THREADS, amount, threshold, *tree, entries, offsets, counts, after, *sizes)
        fan, parents = CHILDREN if level > 2 else fan, widths[level - 2]
    return entries[0], offsets, counts, fan, after


def launch_replay(amount, threshold: int, tree, entries, offsets, bases, fan: int, ends) -> None:
    """Write the ends of every block to their places."""
    marks, totals, _, _ = tree
    grid = -(-marks.shape[0] // REPLAY_THREADS)
    launch(_replay_kernel, grid, REPLAY_THREADS, amount, threshold, marks, totals, entries, offsets, bases, fan, ends)


@cuda.jit(device=True)
def fill_sums(amount, threshold, sums, scratch, bad):
    """Fill sums[0:SLOTS] with the running sums of the block's rows: each warp scans its own, then adds those before."""
    thread = cuda.threadIdx.x
    warp, lane = thread // WARP, thread % WARP
    first, negative, carried = warp * WARP * ROWS_EACH, amount.shape[0], 0
    for slot in range(first + lane, first + lane + WARP * ROWS_EACH, WARP):
        row = cuda.blockIdx.x * BLOCK_ROWS + slot
        if row < amount.shape[0] and amount[row] < 0:
            negative = min(negative, row)
        total = carried + running_sum(part_of(amount, row, threshold), NO_MODULUS, scratch)
        sums[slot + 1] = total
        carried = last(total, scratch)
    if negative < amount.shape[0]:
        cuda.atomic.min(bad, 0, negative)
    if lane == 0:
        scratch[warp] = carried
    cuda.syncthreads()
    before = 0
    for earlier in range(warp):
        before += scratch[earlier]
    for slot in range(first + lane, first + lane + WARP * ROWS_EACH, WARP):
        sums[slot + 1] += before
    if thread == 0:
        sums[0] = 0
    cuda.syncthreads()


@cuda.jit(device=True)
def first_reaching(sums, after, wanted):
    """Return the first index above `after` at which the rising sums reach `wanted`, which the last one does."""
    low, high = after + 1, BLOCK_ROWS
    while low < high:
        middle = (low + high) >> 1
        if sums[middle] >= wanted:
            high = middle
        else:
            low = middle + 1
    return low


@cuda.jit(device=True)
def resolve(sums, threshold, links):
    """Fill links[h] with bars << 16 | last stop for a bar that begins at each slot, and return h.

    A bar that does not close in the block stops where it begins: a fixed point of the jumps.
    """
    for slot in range(cuda.threadIdx.x, SLOTS, THREADS):
        wanted = sums[slot] + threshold
        links[0, slot] = ((1 << 16) | first_reaching(sums, slot, wanted)) if wanted <= sums[BLOCK_ROWS] else slot
    cuda.syncthreads()
    here, more = 0, 1
    while more != 0:
        more = 0
        for slot in range(cuda.threadIdx.x, SLOTS, THREADS):
            link = links[here, slot]
            further = links[here, link & 0xFFFF]
            links[1 - here, slot] = (link >> 16 << 16) + further
            more |= further >> 16
        here = 1 - here
        more = cuda.syncthreads_or(more)
    return here


@cuda.jit
def _block_kernel(amount, threshold, marks, totals, before, exits, bad):
    """Per block: sums of its groups, its total, exits of the rows where a bar may close, the first but not the last."""
    # The simulator tells shared arrays apart by their line.
    sums = cuda.shared.array(SLOTS, int64)
    links = cuda.shared.array((2, SLOTS), int32)
    scratch = cuda.shared.array(THREADS, int64)
    block, thread = cuda.blockIdx.x, cuda.threadIdx.x
    fill_sums(amount, threshold, sums, scratch, bad)
    total = sums[BLOCK_ROWS]
    for group in range(thread, GROUPS, THREADS):
        marks[block, group] = sums[group * GROUP]
    if thread == 0:
        totals[0, block] = total
    if total < threshold:
        return
    here = resolve(sums, threshold, links)
    for slot in range(thread + 1, SLOTS, THREADS):
        if sums[slot - 1] < threshold and total - sums[slot] >= threshold:
            link = int64(links[here, slot])
            opened = total - sums[link & 0xFFFF]
            exits[0, block * BLOCK_ROWS + slot - 1] = (link >> 16 << OPEN_BITS) | opened


@cuda.jit
def _lift_kernel(threshold, totals, before, level, width):
    """One thread per node: its total, and before each of its children the sum of those that precede it.

    Each child counts for no more than the threshold: enough to know that a bar closes, and no sum overflows.
    """
    node = cuda.grid(1)
    if node >= width:
        return
    total = 0
    for child in range(node << CHILD_BITS, min((node + 1) << CHILD_BITS, width_at(totals.shape[1], level - 1))):
        before[level - 2, child] = total
        total += min(totals[level - 2, child], threshold)
    totals[level - 1, node] = total


@cuda.jit
def _node_kernel(amount, threshold, marks, totals, before, exits, level, width):
    """One block per node, each thread some of the rows at which its first bar may close: their exits.

    `trail` is what the chain before had open after 1, 2, 4 ... children: where this one has as much, it has met it.
    """
    node, lower = cuda.blockIdx.x, level - 1
    if totals[lower, node] < threshold:
        return
    trail = cuda.local.array(STEPS, int64)
    child_shift, begin = CHILD_BITS * (lower - 1), node << (CHILD_BITS * lower)
    end, inside, known, exit_before = min((node + 1) << CHILD_BITS, width), 0, False, 0
    latest, _ = closing_row(amount, threshold, marks, before, level, node, threshold)
    after = ((latest // BLOCK_ROWS) >> child_shift) + 1
    first_row, rows = begin * BLOCK_ROWS, latest + 1 - begin * BLOCK_ROWS
    first = first_row + rows * cuda.threadIdx.x // NODE_THREADS
    for row in range(first, first_row + rows * (cuda.threadIdx.x + 1) // NODE_THREADS):
        child = (row // BLOCK_ROWS) >> child_shift
        if row == first or row % GROUP == 0:
            inside = sum_before(amount, threshold, marks, before, lower, row)
        inside += part_of(amount, row, threshold)
        opened, _ = leave(threshold, totals, exits, lower, child, row, inside)
        at = child + 1
        for step in range(STEPS):
            stop = min(after + (1 << step) - 1, end)
            opened = walk(amount, threshold, marks, totals, before, exits, lower, at, stop, opened)
            at = stop
            if known and trail[step] == opened:
                opened, at = exit_before, end
            else:
                trail[step] = opened
            if at == end:
                break
        exits[lower, row] = exit_before = opened
        known = True


@cuda.jit
def _enter_kernel(
    amount, threshold, marks, totals, before, exits, entries, offsets, counts, after, level, parents, fan
):
    """One thread per parent: the sum open at the begin of each child, and before each block the bars closed."""
    parent, lower = cuda.grid(1), level - 1
    if parent >= parents:
        return
    opened, bars = min(entries[lower, parent], threshold), 0
    for child in range(parent * fan, min((parent + 1) * fan, width_at(marks.shape[0], lower))):
        entries[lower - 1, child] = opened
        if lower == 1:
            offsets[child] = bars
        opened, more = enter(amount, threshold, marks, totals, before, exits, lower, child, opened)
        bars += more
    counts[parent] = bars
    if lower == totals.shape[0]:
        after[0] = opened


@cuda.jit
def _replay_kernel(amount, threshold, marks, totals, entries, offsets, bases, fan, ends):
    """One thread per block: its ends, from the true entry; a group in which no bar closes is passed over."""
    block = cuda.grid(1)
    if block >= marks.shape[0]:
        return
    bar, left = bases[block // fan] + offsets[block], threshold - entries[block]
    for group in range(GROUPS):
        following = marks[block, group + 1] if group + 1 < GROUPS else totals[0, block]
        if following - marks[block, group] < left:
            left -= following - marks[block, group]
            continue
        begin = block * BLOCK_ROWS + group * GROUP
        for row in range(begin, min(begin + GROUP, amount.shape[0])):
            left -= part_of(amount, row, threshold)
            if left <= 0:
                ends[bar] = row + 1
                bar += 1
                left = threshold
