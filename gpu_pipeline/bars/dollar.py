"""Dollar bars: a bar closes when the notional traded in it reaches a threshold.

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

COLUMNS = ("notional",)


class Config(Options):
    """When a dollar bar closes.

    Attributes:
        threshold: notional of a bar, in quote currency.
        on_close: what happens to the overshoot: `reset` drops it, `carry` takes it into the next bar.
    """

    threshold: Number = Field(examples=[50_000])
    on_close: OnClose = "reset"


def step(trades: Trades, config: Config, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Where bars end in a chunk of trades; the state is the notional of the open bar (or the remainder).

    Raises:
        InputError: the threshold does not fit the integers of the symbol's scales.
    """
    return sum_ends(trades.notional, threshold_units(config, trades.symbol), config.on_close, state)


def label(config: Config) -> str:
    """The threshold as file names write it: 50k, 2M."""
    return format_threshold(config.threshold)


def threshold_units(config: Config, symbol: Symbol) -> int:
    """The smallest integer notional (in units of the symbol's notional scale) that reaches the threshold."""
    unit = f"{symbol.quote} of {symbol.name}"
    return units_reaching(config.threshold, symbol.notional, unit, "give a coarser price_tick or quantity_lot")
