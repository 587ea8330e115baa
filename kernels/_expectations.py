"""What imbalance and runs bars share: the expectations behind their thresholds, and running sums of a tile of trades.

An expectation is a float64 that moves once per bar, by + - * / in the written order, each rounded on its own, so that
its bits are the same on every device; the threshold is rounded from it once, to an integer. Totals of a bar stop at
CAP instead of wrapping, and a threshold is never above CAP.
"""

from __future__ import annotations

import math

import numba
import torch
from numba import cuda

from kernels._op import SIMULATED, jit, require

CAP = (1 << 62) - 1
COUNTING = 1 << 62  # the threshold before there is one: no total reaches it
LONGEST = 1 << 53  # a count up to here is exact as a float64
THREADS = 4 if SIMULATED else 512
ROWS_EACH = 2 if SIMULATED else 4
TILE_ROWS = THREADS * ROWS_EACH
HALF = CAP // 2
ROOM = HALF // TILE_ROWS


def check_trades(op: str, amount: torch.Tensor, sign: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both contiguous, or raise where they are not [N] or [1] int64 and [N] int8."""
    amount, sign = require(op, "amount", amount, torch.int64, None), require(op, "sign", sign, torch.int8, None)
    if amount.shape[0] not in (1, sign.shape[0]):
        raise ValueError(f"{op}: amount must have one value per sign ({sign.shape[0]}) or one, got {amount.shape[0]}")
    return amount, sign


def check_rule(op: str, min_ticks: int, max_ticks: int, span_bars: int, span_ticks: int) -> tuple[float, float]:
    """Return (weight of a new bar in E_T, what one trade leaves of an older per-trade expectation), or raise."""
    if not 1 <= min_ticks <= max_ticks <= LONGEST:
        raise ValueError(
            f"{op}: 1 <= min_ticks <= max_ticks <= 2^53 is the rule, got {min_ticks} and {max_ticks}; change one"
        )
    for name, span in (("span_bars", span_bars), ("span_ticks", span_ticks)):
        if span < 1:
            raise ValueError(f"{op}: {name} must be at least 1, got {span}; 1 keeps the last bar alone")
    return 2.0 / (span_bars + 1), 1.0 - 2.0 / (span_ticks + 1)


def first_state(
    op: str, expected_ticks: int, expected: float | None, totals: int, means: int, device: torch.device | str
) -> torch.Tensor:
    """Return int64 [3 + totals + means]: ticks 0, threshold, totals 0, bits of E_T and of the per-trade means."""
    if not 1 <= expected_ticks <= LONGEST:
        raise ValueError(f"{op}: expected_ticks must be in [1, 2^53], got {expected_ticks}; write a usual bar's trades")
    if expected is not None and not math.isfinite(expected):
        raise ValueError(f"{op}: the expectation per trade must be finite, got {expected}; None measures it")
    per_trade = 0.0 if expected is None else float(expected)
    threshold = COUNTING if expected is None else threshold_near(float(expected_ticks) * abs(per_trade))
    bits = torch.tensor([float(expected_ticks)] + [per_trade] * means, dtype=torch.float64).view(torch.int64)
    counts = torch.tensor([0, threshold] + [0] * totals)
    return torch.cat([counts, bits]).to(device)


def product(a, b):
    """Return a * b rounded by itself, so that no compiler makes it and a sum after it one operation."""
    return a * b


def _register_product() -> None:
    """Compile `product` as plain `*` for the CPU, where nothing is fused, and as dmul_rn for CUDA."""
    numba.extending.overload(product)(lambda a, b: lambda a, b: a * b)
    try:
        from numba.cuda.extending import overload
    except ImportError:  # without numba-cuda no kernel is compiled
        return
    from numba.cuda import libdevice

    overload(product, target="cuda")(lambda a, b: lambda a, b: libdevice.dmul_rn(a, b))


if not SIMULATED:
    _register_product()


@jit
def power(base, exponent):
    """Return base ** exponent (an integer >= 0) by repeated squaring, lowest bit first."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result = product(result, base)
        base = product(base, base)
        exponent >>= 1
    return result


@jit
def threshold_near(expected):
    """Return the integer nearest to a float64 >= 0 (halves up), within [1, CAP]."""
    if not expected < 4611686018427387904.0:
        return CAP
    whole = int(expected)
    if expected - float(whole) >= 0.5:
        whole += 1
    return max(1, whole)


@jit
def moved_ticks(expected, ticks, bar_weight):
    """Return E_T after a bar of `ticks` trades."""
    return expected + product(bar_weight, float(ticks) - expected)


@jit
def moved_mean(expected, total, ticks, decay, threshold):
    """Return a per-trade expectation after a bar; the bar that closed by count, before a threshold, starts it."""
    mean = float(total) / float(ticks)
    if threshold == COUNTING:
        return mean
    kept = power(decay, ticks)
    return product(kept, expected) + product(1.0 - kept, mean)


@jit
def tick_limit(threshold, expected_ticks, max_ticks):
    """Return the count at which the open bar closes in any case."""
    return min(max_ticks, int(expected_ticks)) if threshold == COUNTING else max_ticks


@jit
def capped(value):
    """Return an integer within [-CAP, CAP]; the sum of two such values is an int64."""
    return max(-CAP, min(CAP, value))


@jit
def signed_amount(amount, sign, row):
    """Return what trade `row` adds, sold < 0; an `amount` of one element counts for every trade."""
    return capped(amount[row if amount.shape[0] > 1 else 0]) * int(sign[row])


@jit
def rows_unchecked(ticks, threshold, min_ticks, limit, rows):
    """Return how many of the next `rows` trades leave the open bar too short for its threshold."""
    return max(0, min(rows, (limit if threshold == COUNTING else min_ticks) - 1 - ticks))


@cuda.jit(device=True)
def running_sums(sums, partials):
    """Turn sums[1:] of a tile into running sums; |amounts| are at most ROOM, so no sum passes HALF."""
    thread = cuda.threadIdx.x
    begin = thread * ROWS_EACH
    for slot in range(begin + 1, begin + ROWS_EACH):
        sums[slot + 1] += sums[slot]
    partials[thread] = sums[begin + ROWS_EACH]
    step = 1
    while step < THREADS:
        cuda.syncthreads()
        total = partials[thread]
        if thread >= step:
            total += partials[thread - step]
        cuda.syncthreads()
        partials[thread] = total
        step *= 2
    cuda.syncthreads()
    before = partials[thread - 1] if thread > 0 else 0
    for slot in range(begin, begin + ROWS_EACH):
        sums[slot + 1] += before
    cuda.syncthreads()
