"""The simulated market: trades with prices, sizes, clustered times and regimes."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench._inputs import size, words
from bench._measure import Case, NotRun
from gpu_pipeline.ingest.simulated import Config, simulate

TESTS = "tests/ingest/test_simulated.py"


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """One symbol's trades on one thread, without and with an edge."""
    if device.type == "cuda":
        raise NotRun("the simulated market is made on the CPU")
    rows = size(device, tiny, cpu=1_000_000, cuda=0, small=20_000)
    for name, edge in (("null market", 0), ("planted edge", 0.25)):
        config = Config(trades=rows, edge=edge)
        call = lambda config=config: simulate(config, book=False)  # noqa: E731
        yield Case(f"simulate, {name}", "ours", f"{words(rows)} trades", rows, "trades", call)
