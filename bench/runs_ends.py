"""Where runs bars close, beside a plain loop."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import torch

from bench._inputs import fitting, size, trades, words
from bench._measure import Case
from kernels._expectations import check_rule
from kernels.runs_ends import initial_state, runs_ends

TESTS = "tests/kernels/test_runs_ends.py"
EXPECTED_TICKS = 1_000
RULE = (100, 5_000, 100, 500)


@numba.njit(nogil=True)
def plain(amount, sign, min_ticks, max_ticks, bar_weight, decay, expected_ticks, ends):
    """What one writes first, after a first bar by count: float64 throughout, `**` for the power."""
    buys, sells, ticks, bars, expected, threshold = 0.0, 0.0, 0, 0, float(expected_ticks), np.inf
    expected_buys, expected_sells, limit = 0.0, 0.0, expected_ticks
    for row in range(len(amount)):
        if sign[row] > 0:
            buys += amount[row]
        else:
            sells += amount[row]
        ticks += 1
        if ticks >= limit or (ticks >= min_ticks and max(buys, sells) >= threshold):
            ends[bars] = row + 1
            bars += 1
            weight = 0.0 if threshold == np.inf else decay**ticks
            expected += bar_weight * (ticks - expected)
            expected_buys = weight * expected_buys + (1.0 - weight) * (buys / ticks)
            expected_sells = weight * expected_sells + (1.0 - weight) * (sells / ticks)
            threshold, limit = expected * max(expected_buys, expected_sells), max_ticks
            buys, sells, ticks = 0.0, 0.0, 0
    return bars


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Notional and side to ends; a bar has a few thousand trades."""
    rows = fitting(size(device, tiny, cpu=10_000_000, cuda=100_000_000, small=100_000), 60, device)
    columns = trades(rows, device)
    amount, sign = columns.notional, 1 - 2 * columns.is_buyer_maker.to(torch.int8)
    state = initial_state(EXPECTED_TICKS, None, device)
    del columns
    moved = amount.nbytes + sign.nbytes + 8 * len(runs_ends(amount, sign, *RULE, state)[0])
    shape = f"{words(rows)} trades"

    def ours() -> object:
        return runs_ends(amount, sign, *RULE, state)

    yield Case("runs_ends", "ours", shape, rows, "trades", ours, moved)
    if device.type == "cpu":
        arrays, ends = (amount.numpy(), sign.numpy()), np.empty(rows, np.int64)
        rule = *RULE[:2], *check_rule("bench", *RULE), EXPECTED_TICKS
        call = lambda: plain(*arrays, *rule, ends)  # noqa: E731
        yield Case("runs_ends", "plain numba loop, 1 thread", shape, rows, "trades", call, moved)
