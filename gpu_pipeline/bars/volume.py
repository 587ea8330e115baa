"""Volume bars: a bar closes when the quantity traded in it reaches a threshold.

`reset`: at the first trade at which the sum since the bar's start reaches the threshold; that trade belongs to the bar
and the sum restarts at zero. `carry`: wherever floor(cumulative sum / threshold) grows. Under both, one trade of many
thresholds closes one bar.
"""

from __future__ import annotations

from pydantic import Field

from gpu_pipeline.bars._threshold import OnClose, sum_ends, units_reaching
from gpu_pipeline.core.config import Number
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Symbol, Tensor, Trades
from gpu_pipeline.core.units import format_threshold

COLUMNS = ("quantity_lots",)


class Config(Options):
    """When a volume bar closes.

    Attributes:
        threshold: quantity of a bar, in base units (of a contract: contracts).
        on_close: what happens to the overshoot: `reset` drops it, `carry` takes it into the next bar.
    """

    threshold: Number = Field(examples=[10])
    on_close: OnClose = "reset"


def step(trades: Trades, config: Config, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Where bars end in a chunk of trades; the state is the lots of the open bar (or the remainder).

    Raises:
        InputError: the threshold does not fit the integers of the symbol's lots.
    """
    return sum_ends(trades.quantity_lots, threshold_lots(config, trades.symbol), config.on_close, state)


def label(config: Config) -> str:
    """The threshold as file names write it: 10, 2k."""
    return format_threshold(config.threshold)


def threshold_lots(config: Config, symbol: Symbol) -> int:
    """The smallest number of lots that reaches the threshold."""
    return units_reaching(config.threshold, symbol.quantity, f"of {symbol.name}", "give a coarser quantity_lot")
