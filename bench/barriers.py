"""Triple-barrier search, narrow and wide, beside a plain loop."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import torch

from bench._inputs import candles, size, words
from bench._measure import Case
from kernels.barriers import first_touch

TESTS = "tests/kernels/test_barriers.py"
# Distance of the barriers in prices near 1000 (a bar moves 0.01), and rows tested.
WIDTHS = {"narrow": (0.05, 100), "wide": (0.5, 1000)}
# In: three columns of events; out: code, row, price.
EVENT_BYTES = 6 * 8


@numba.njit(nogil=True)
def plain(high, low, close, upper, lower, first, horizon, code, row, price):
    """What one writes first: for every event row by row."""
    for event in range(len(first)):
        last = first[event] + horizon - 1
        if last >= len(high):
            code[event], row[event], price[event] = -2, -1, np.nan
            continue
        code[event], row[event], price[event] = 0, last, close[last]
        for i in range(first[event], last + 1):
            up, down = high[i] >= upper[event], low[i] <= lower[event]
            if up or down:
                code[event] = 2 if up and down else 1 if up else -1
                row[event], price[event] = i, lower[event] if down else upper[event]
                break


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """An event on every bar."""
    events = size(device, tiny, cpu=1_000_000, cuda=1_000_000, small=10_000)
    bars = candles(events, device)
    first = torch.arange(1, events + 1, device=device)
    moved = events * EVENT_BYTES + sum(column.nbytes for column in bars)
    for width, (distance, horizon) in WIDTHS.items():
        shape = f"{words(events)} events, {width}"
        args = *bars, bars[3] + distance, bars[3] - distance, first, horizon
        call = lambda args=args: first_touch(*args)  # noqa: E731
        yield Case("first_touch", "ours", shape, events, "events", call, moved)
        if device.type == "cpu":
            arrays = [x.numpy() for x in args[1:-1]]
            out = np.empty(events, np.int64), np.empty(events, np.int64), np.empty(events)
            call = lambda arrays=arrays, horizon=horizon, out=out: plain(*arrays, horizon, *out)  # noqa: E731
            yield Case("first_touch", "plain numba loop, 1 thread", shape, events, "events", call, moved)
