"""All sums of every bar, and its centred moments, beside a plain loop that sums the same in floats."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import torch

from bench._inputs import fitting, size, trades, words
from bench._measure import Case
from kernels.bar_sums import K, bar_sums
from kernels.centred_moments import centred_moments
from kernels.reset_ends import reset_ends

TESTS = "tests/kernels/test_bar_sums.py"


@numba.njit(nogil=True)
def plain(time, price, quantity, notional, sold, ends, out):
    """What one writes first: one loop over the trades of each bar, powers of the price in floats."""
    begin = 0
    for bar in range(len(ends)):
        end = ends[bar]
        first = high = low = before = price[begin]
        volume = value = bought = changes = turns = first_move = last_move = 0
        s1 = s2 = s3 = s4 = 0.0
        for row in range(begin, end):
            now = price[row]
            high, low = max(high, now), min(low, now)
            volume += quantity[row]
            value += notional[row]
            if not sold[row]:
                bought += quantity[row]
            d = float(now - first)
            square = d * d
            s1, s2, s3, s4 = s1 + d, s2 + square, s3 + square * d, s4 + square * square
            if now != before:
                move = 1 if now > before else -1
                changes += 1
                if first_move == 0:
                    first_move = move
                elif move != last_move:
                    turns += 1
                last_move = move
            before = now
        mine = out[bar]
        mine[0], mine[1], mine[2], mine[3] = time[begin], time[end - 1], begin, end - 1
        mine[4], mine[5], mine[6], mine[7] = first, high, low, before
        mine[8], mine[9], mine[10], mine[11] = end - begin, volume, value, bought
        mine[12], mine[13], mine[14], mine[15] = s1, s2, s3, s4
        mine[16], mine[17], mine[18], mine[19] = changes, turns, first_move, last_move
        begin = end


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Resident trades and ends to sums; a bar has 1,000 trades in the mean."""
    rows = fitting(size(device, tiny, cpu=10_000_000, cuda=1_000_000_000, small=100_000), 60, device)
    columns = trades(rows, device)
    ends, _ = reset_ends(columns.notional, columns.threshold, torch.zeros(1, dtype=torch.int64, device=device))
    state = torch.zeros(K, dtype=torch.int64, device=device)
    sums, _ = bar_sums(*columns, ends, 0, state)
    shape, moved = f"{words(rows)} trades", columns.nbytes + ends.nbytes + sums.nbytes

    def ours() -> object:
        return bar_sums(*columns, ends, 0, state)

    yield Case("bar_sums", "ours", shape, rows, "trades", ours, moved)
    if device.type == "cpu":
        arrays, out = [column.numpy() for column in (*columns, ends)], np.empty((len(ends), 20))
        yield Case("bar_sums", "plain numba loop, 1 thread", shape, rows, "trades", lambda: plain(*arrays, out), moved)
    bars = len(ends)
    moved = sums.nbytes + 8 * 8 * bars
    yield Case("centred_moments", "ours", f"{words(bars)} bars", bars, "bars", lambda: centred_moments(sums), moved)
