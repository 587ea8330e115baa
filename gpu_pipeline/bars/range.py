"""Range bars: a bar closes when its own trade prices span so many price steps.

The trade at which high - low of the bar reaches the range belongs to it; the next bar begins with the next trade and
knows nothing of the prices before. One trade that jumps over many ranges closes one bar.
"""

from __future__ import annotations

from pydantic import Field

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Tensor, Trades
from kernels.range_ends import SPAN_LIMIT, new_state, range_ends

COLUMNS = ("price_ticks",)


class Config(Options):
    """When a range bar closes.

    Attributes:
        ticks: high - low of a bar, in price steps (`price_tick` of the symbol).
    """

    ticks: int = Field(ge=1, lt=SPAN_LIMIT, examples=[20])


def step(trades: Trades, config: Config, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Where bars end in a chunk of trades; the state is high and low of the open bar."""
    before = state["high_low"] if state else new_state(trades.device)
    ends, after = range_ends(trades.price_ticks, config.ticks, before)
    return ends, {"high_low": after}


def label(config: Config) -> str:
    """The range as file names write it: 20t."""
    return f"{config.ticks}t"
