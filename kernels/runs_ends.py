"""Where runs bars close: the amount bought, or the amount sold, in a bar is more than expected.

De Prado, Advances in Financial Machine Learning, sections 2.3.2.3 and 2.3.2.4, where a run may be interrupted (sums
over buys and over sells are not offset), with bounds on the length of a bar. B and S are the amounts bought and sold
in the open bar, n its trades. It closes at the first trade with n >= min_ticks and max(B, S) >= threshold, or with
n >= max_ticks. A closed bar moves the expectations, in float64:

    E_T <- E_T + a (n - E_T)                  a = 2 / (span_bars + 1)
    e_buy <- w e_buy + (1 - w) (B / n)        w = (1 - 2 / (span_ticks + 1)) ^ n
    e_sell <- w e_sell + (1 - w) (S / n)
    threshold <- E_T max(e_buy, e_sell), rounded to the nearest integer (halves up) and kept in [1, 2^62)

Without e_buy and e_sell to begin with, the first bar closes by count at E_T trades and sets them to its B / n and
S / n. B and S stop at 2^62 - 1, where every threshold is reached, instead of wrapping. On CUDA one block walks the
trades, a tile at a time.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import cuda, int64

from kernels._expectations import (
    HALF,
    ROOM,
    THREADS,
    TILE_ROWS,
    capped,
    check_rule,
    check_trades,
    first_state,
    moved_mean,
    moved_ticks,
    product,
    rows_unchecked,
    running_sums,
    signed_amount,
    threshold_near,
    tick_limit,
)
from kernels._op import jit, launch, new_rows, require, require_one_device

TICKS, THRESHOLD, BUYS, SELLS, WORDS = 0, 1, 2, 3, 7
MEANS = 4
SLOTS = TILE_ROWS + 1


def runs_ends(
    amount: torch.Tensor,  # [N] int64, lots or notional; or [1]: the same for every trade
    sign: torch.Tensor,  # [N] int8, 1 bought, -1 sold, 0 unknown
    min_ticks: int,
    max_ticks: int,
    span_bars: int,
    span_ticks: int,
    state: torch.Tensor,  # [7] int64, from `initial_state` at the beginning
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (ends [B], state [7]): a bar is the rows [previous end, end), counted from the start of this chunk.

    The state is: trades of the open bar, threshold, B, S, and the float64 bits of E_T, e_buy and e_sell. Any chunking
    gives the same bars and the same state, on every device. On CUDA it waits for the device once, for B.

    Raises:
        ValueError: not 1 <= min_ticks <= max_ticks <= 2^53; a span below 1; not as many amounts as signs, nor one.
    """
    amount, sign = check_trades("runs_ends", amount, sign)
    state = require("runs_ends", "state", state, torch.int64, WORDS)
    require_one_device("runs_ends", amount=amount, sign=sign, state=state)
    bar_weight, decay = check_rule("runs_ends", min_ticks, max_ticks, span_bars, span_ticks)
    return _runs_ends(amount, sign, min_ticks, max_ticks, bar_weight, decay, state)


def initial_state(expected_ticks: int, expected_run: float | None, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the state [7] before the first trade, from E_T and e_buy = e_sell in units of `amount` (None: unknown).

    Raises:
        ValueError: expected_ticks outside [1, 2^53]; an expectation that is not finite.
    """
    return first_state("runs_ends", expected_ticks, expected_run, totals=2, means=2, device=device)


@jit
def close(rule, state, means):
    """Move the expectations (E_T, e_buy, e_sell) and the threshold on by the bar in `state`, and open the next one."""
    _, _, bar_weight, decay = rule
    ticks, threshold = state[TICKS], state[THRESHOLD]
    means[0] = moved_ticks(means[0], ticks, bar_weight)
    means[1] = moved_mean(means[1], state[BUYS], ticks, decay, threshold)
    means[2] = moved_mean(means[2], state[SELLS], ticks, decay, threshold)
    state[THRESHOLD] = threshold_near(product(means[0], max(means[1], means[2])))
    state[TICKS] = 0
    state[BUYS] = 0
    state[SELLS] = 0


@jit
def closes(ticks, buys, sells, threshold, min_ticks, limit):
    """Return whether the open bar ends with the trade that made it `ticks` long."""
    return ticks >= limit or (ticks >= min_ticks and (buys >= threshold or sells >= threshold))


@jit
def added(amount, sign, buys, sells):
    """Return (buys, sells) after trades that cannot close the bar."""
    for row in range(sign.shape[0]):
        signed = signed_amount(amount, sign, row)
        buys = capped(buys + max(signed, 0))
        sells = capped(sells + max(-signed, 0))
    return buys, sells


@jit
def reached(amount, sign, buys, sells, threshold):
    """Return (trades taken, buys, sells): up to the trade that reaches the threshold, or all; nothing wraps before."""
    for row in range(sign.shape[0]):
        signed = signed_amount(amount, sign, row)
        buys += max(signed, 0)
        sells += max(-signed, 0)
        if buys >= threshold or sells >= threshold:
            return row + 1, capped(buys), capped(sells)
    return sign.shape[0], capped(buys), capped(sells)


@jit
def spec(amount, sign, base, rule, state, means, ends, bars):
    """Take trades, the first of them row `base`: write ends from place `bars` on, move state and means on.

    Return the next place in ends.
    """
    min_ticks, max_ticks, _, _ = rule
    ticks, threshold, buys, sells = state[TICKS], state[THRESHOLD], state[BUYS], state[SELLS]
    limit = tick_limit(threshold, means[0], max_ticks)
    row, each = 0, amount.shape[0] > 1
    while row < sign.shape[0]:
        stop = min(sign.shape[0], row + max(1, limit - ticks))
        waits = row + rows_unchecked(ticks, threshold, min_ticks, limit, stop - row)
        buys, sells = added(amount[row:waits] if each else amount, sign[row:waits], buys, sells)
        rest = amount[waits:stop] if each else amount
        taken, buys, sells = reached(rest, sign[waits:stop], buys, sells, threshold)
        ticks += waits + taken - row
        row = waits + taken
        if closes(ticks, buys, sells, threshold, min_ticks, limit):
            ends[bars] = base + row
            bars += 1
            state[TICKS], state[BUYS], state[SELLS] = ticks, buys, sells
            close(rule, state, means)
            ticks, threshold, buys, sells, limit = 0, state[THRESHOLD], 0, 0, max_ticks
    state[TICKS], state[BUYS], state[SELLS] = ticks, buys, sells
    return bars


@torch.library.custom_op("gpu_pipeline::runs_ends", mutates_args=(), device_types="cpu")
def _runs_ends(
    amount: torch.Tensor,
    sign: torch.Tensor,
    min_ticks: int,
    max_ticks: int,
    bar_weight: float,
    decay: float,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    after = state.clone()
    ends, words = np.empty(sign.shape[0] // min_ticks + 1, np.int64), after.numpy()
    trades, rule = (amount.numpy(), sign.numpy()), (min_ticks, max_ticks, bar_weight, decay)
    bars = spec(*trades, 0, rule, words, words[MEANS:].view(np.float64), ends, 0)
    return torch.from_numpy(ends[:bars].copy()), after


@_runs_ends.register_kernel("cuda")
def _(
    amount: torch.Tensor,
    sign: torch.Tensor,
    min_ticks: int,
    max_ticks: int,
    bar_weight: float,
    decay: float,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    after = state.clone()
    rule = (min_ticks, max_ticks, bar_weight, decay)
    return launch_runs_ends(amount, sign, rule, after, after[MEANS:].view(torch.float64)), after


@_runs_ends.register_fake
def _(
    amount: torch.Tensor,
    sign: torch.Tensor,
    min_ticks: int,
    max_ticks: int,
    bar_weight: float,
    decay: float,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    return state.new_empty(torch.library.get_ctx().new_dynamic_size()), torch.empty_like(state)


def launch_runs_ends(amount, sign, rule: tuple[int, int, float, float], state, means):
    """Run the kernel on torch's current stream, or in the simulator on numpy arrays; return the ends.

    `rule` is min_ticks, max_ticks, the weight of a bar and the decay of a trade. `state` is moved on in place; `means`
    are its last three words, seen as float64.
    """
    ends, found = new_rows(state, sign.shape[0] // rule[0] + 1), new_rows(state, 1)
    launch(_walk_kernel, 1, THREADS, amount, sign, rule, state, means, ends, found)
    bars = int(found[0])
    return ends[:bars].clone() if isinstance(ends, torch.Tensor) else ends[:bars]


@cuda.jit(device=True)
def load_tile(amount, sign, base, bought, sold, large):
    """Fill both [0:SLOTS] with 0 and the tile's amounts; note an amount that running sums may not hold."""
    for slot in range(cuda.threadIdx.x, TILE_ROWS, THREADS):
        value = signed_amount(amount, sign, base + slot) if base + slot < sign.shape[0] else 0
        if value > ROOM or value < -ROOM:
            large[0] = 1
        bought[slot + 1] = max(value, 0)
        sold[slot + 1] = max(-value, 0)
    if cuda.threadIdx.x == 0:
        bought[0] = 0
        sold[0] = 0
    cuda.syncthreads()


@cuda.jit(device=True)
def walk_tile(bought, sold, base, width, rule, state, means, ends, bars, first):
    """Close the bars of a tile of `width` rows, one search by all threads for each; return the next place in ends.

    Thread 0 alone writes, and knows `bars`.
    """
    thread, start = cuda.threadIdx.x, 0
    min_ticks, max_ticks, _, _ = rule
    while start < width:
        if thread == 0:
            first[0] = width
        cuda.syncthreads()
        ticks, threshold = state[TICKS] - start + 1, state[THRESHOLD]
        buys, sells = state[BUYS] - bought[start], state[SELLS] - sold[start]
        limit = tick_limit(threshold, means[0], max_ticks)
        for slot in range(start + thread, width, THREADS):
            if closes(ticks + slot, buys + bought[slot + 1], sells + sold[slot + 1], threshold, min_ticks, limit):
                cuda.atomic.min(first, 0, slot)
                break
        cuda.syncthreads()
        stop = first[0]
        cuda.syncthreads()
        if thread == 0:
            last = min(stop, width - 1)
            state[TICKS] = ticks + last
            state[BUYS], state[SELLS] = buys + bought[last + 1], sells + sold[last + 1]
            if stop < width:
                close(rule, state, means)
                ends[bars] = base + stop + 1
                bars += 1
        start = stop + 1
    return bars


@cuda.jit
def _walk_kernel(amount, sign, rule, state, means, ends, found):
    """One block: tile after tile; a tile whose sums might pass CAP is walked by one thread, as in `spec`."""
    # The simulator tells shared arrays apart by their line.
    bought = cuda.shared.array(SLOTS, int64)
    sold = cuda.shared.array(SLOTS, int64)
    partials = cuda.shared.array(THREADS, int64)
    large = cuda.shared.array(1, int64)
    first = cuda.shared.array(1, int64)
    thread, rows, bars = cuda.threadIdx.x, sign.shape[0], 0
    if thread == 0:
        large[0] = 0
    for base in range(0, rows, TILE_ROWS):
        width = min(TILE_ROWS, rows - base)
        cuda.syncthreads()
        load_tile(amount, sign, base, bought, sold, large)
        if large[0] == 0 and state[BUYS] <= HALF and state[SELLS] <= HALF:
            running_sums(bought, partials)
            running_sums(sold, partials)
            bars = walk_tile(bought, sold, base, width, rule, state, means, ends, bars, first)
        else:
            cuda.syncthreads()
            if thread == 0:
                some = amount[base : base + width] if amount.shape[0] > 1 else amount
                bars = spec(some, sign[base : base + width], base, rule, state, means, ends, bars)
                large[0] = 0
    if thread == 0:
        found[0] = bars
