"""Bars to triple-barrier labels, average true range included."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench._inputs import size, words
from bench._measure import Case
from bench._tables import bar_table
from gpu_pipeline.labels._make import make_labels

TESTS = "tests/labels/test_triple_barrier.py tests/labels/test_device.py"
WIDTHS = {
    "narrow": {"take_profit": 2.0, "stop_loss": 1.0, "horizon_bars": 100},
    "wide": {"take_profit": 20.0, "stop_loss": 20.0, "horizon_bars": 1000},
}
# In: open, high, low, close, times; out: code, valid, t_end, return, weight, known_row.
BAR_BYTES = 5 * 8 + 5 * 8 + 1


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """A label on every bar."""
    rows = size(device, tiny, cpu=1_000_000, cuda=1_000_000, small=10_000)
    bars = bar_table(rows, device)
    for width, options in WIDTHS.items():
        call = lambda options=options: make_labels(bars, "triple_barrier", atr=14, **options)  # noqa: E731
        yield Case("triple_barrier", "ours", f"{words(rows)} bars, {width}", rows, "labels", call, rows * BAR_BYTES)
