"""Where imbalance bars close, beside a plain loop."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import torch

from bench._inputs import fitting, size, trades, words
from bench._measure import Case
from kernels._expectations import check_rule
from kernels.imbalance_ends import imbalance_ends, initial_state

TESTS = "tests/kernels/test_imbalance_ends.py"
EXPECTED_TICKS = 1_000
RULE = (100, 5_000, 100, 500)


@numba.njit(nogil=True)
def plain(amount, sign, min_ticks, max_ticks, bar_weight, decay, expected_ticks, ends):
    """What one writes first, after a first bar by count: float64 throughout, `**` for the power."""
    theta, ticks, bars, expected, expected_imbalance, threshold = 0.0, 0, 0, float(expected_ticks), 0.0, np.inf
    limit = expected_ticks
    for row in range(len(amount)):
        theta += amount[row] * sign[row]
        ticks += 1
        if ticks >= limit or (ticks >= min_ticks and abs(theta) >= threshold):
            ends[bars] = row + 1
            bars += 1
            weight = 0.0 if threshold == np.inf else decay**ticks
            expected += bar_weight * (ticks - expected)
            expected_imbalance = weight * expected_imbalance + (1.0 - weight) * (theta / ticks)
            threshold, limit, theta, ticks = expected * abs(expected_imbalance), max_ticks, 0.0, 0
    return bars


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Notional and side to ends; a bar has a few thousand trades."""
    rows = fitting(size(device, tiny, cpu=10_000_000, cuda=100_000_000, small=100_000), 60, device)
    columns = trades(rows, device)
    amount, sign = columns.notional, 1 - 2 * columns.is_buyer_maker.to(torch.int8)
    state = initial_state(EXPECTED_TICKS, None, device)
    del columns
    moved = amount.nbytes + sign.nbytes + 8 * len(imbalance_ends(amount, sign, *RULE, state)[0])
    shape = f"{words(rows)} trades"

    def ours() -> object:
        return imbalance_ends(amount, sign, *RULE, state)

    yield Case("imbalance_ends", "ours", shape, rows, "trades", ours, moved)
    if device.type == "cpu":
        arrays, ends = (amount.numpy(), sign.numpy()), np.empty(rows, np.int64)
        rule = *RULE[:2], *check_rule("bench", *RULE), EXPECTED_TICKS
        call = lambda: plain(*arrays, *rule, ends)  # noqa: E731
        yield Case("imbalance_ends", "plain numba loop, 1 thread", shape, rows, "trades", call, moved)
