"""Where time bars close."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench._inputs import fitting, size, trades, words
from bench._measure import Case
from kernels.time_ends import NO_BUCKET, time_ends

TESTS = "tests/kernels/test_time_ends.py"
STEP_NS = 60_000_000_000


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Times to the ends of bars of a minute."""
    rows = fitting(size(device, tiny, cpu=10_000_000, cuda=1_000_000_000, small=100_000), 60, device)
    time_ns, state = trades(rows, device).time_ns, torch.tensor([NO_BUCKET], device=device)
    moved = time_ns.nbytes + 16 * len(time_ends(time_ns, STEP_NS, state)[0])

    def ours() -> object:
        return time_ends(time_ns, STEP_NS, state)

    yield Case("time_ends", "ours", f"{words(rows)} trades", rows, "trades", ours, moved)
