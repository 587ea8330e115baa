"""Tick bars: a bar closes when a number of trades were made in it.

A trade counts one whatever its size, so no bar overshoots and both close rules give the same bars.
"""

from __future__ import annotations

import torch
from pydantic import Field

from gpu_pipeline.bars._threshold import OnClose, sum_ends
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Tensor, Trades
from gpu_pipeline.core.units import format_threshold
from kernels.reset_ends import THRESHOLD_LIMIT

COLUMNS: tuple[str, ...] = ()


class Config(Options):
    """When a tick bar closes.

    Attributes:
        threshold: trades of a bar.
        on_close: `reset` or `carry`, as other bar types have it; the bars are the same.
    """

    threshold: int = Field(ge=1, lt=THRESHOLD_LIMIT, examples=[100])
    on_close: OnClose = "reset"


def step(trades: Trades, config: Config, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Where bars end in a chunk of trades; the state is the trades of the open bar."""
    return sum_ends(torch.ones_like(trades.time_ns), config.threshold, config.on_close, state)


def label(config: Config) -> str:
    """The threshold as file names write it: 500, 2k."""
    return format_threshold(config.threshold)
