"""Split independent work (columns, row blocks, events, windows) evenly over torch's CPU threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kernels._op import in_threads


def spread(work: Callable[[int, int], Any], count: int, grain: int) -> None:
    """Call `work(start, stop)` over [0, count), in at most torch's number of threads and no less than `grain` each."""
    parts = max(1, min(torch.get_num_threads(), count // grain))
    in_threads(work, [count * part // parts for part in range(parts + 1)])
