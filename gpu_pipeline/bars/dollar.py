"""Dollar bars: a bar closes when the notional traded in it reaches a threshold.

`reset`: at the first trade at which the sum since the bar's start reaches the threshold; that trade belongs to the bar
and the sum restarts at zero. `carry`: wherever floor(cumulative sum / threshold) grows. Under both, one trade of many
thresholds closes one bar.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import torch
from pydantic import Field

from gpu_pipeline.core.config import Number
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Symbol, Tensor, Trades
from gpu_pipeline.core.units import format_threshold
from kernels.carry_ends import carry_ends
from kernels.reset_ends import THRESHOLD_LIMIT, reset_ends


class Config(Options):
    """When a dollar bar closes.

    Attributes:
        threshold: notional of a bar, in quote currency.
        on_close: what happens to the overshoot: `reset` drops it, `carry` takes it into the next bar.
    """

    threshold: Number = Field(examples=[50_000])
    on_close: Literal["reset", "carry"] = "reset"


def step(trades: Trades, config: Config, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Where bars end in a chunk of trades; the state is the notional of the open bar (or the remainder).

    Raises:
        InputError: the threshold does not fit the integers of the symbol's scales.
    """
    rule = reset_ends if config.on_close == "reset" else carry_ends
    summed = state["sum"] if state else torch.zeros(1, dtype=torch.int64, device=trades.device)
    ends, summed = rule(trades.notional, threshold_units(config, trades.symbol), summed)
    return ends, {"sum": summed}


def label(config: Config) -> str:
    """The threshold as file names write it: 50k, 2M."""
    return format_threshold(config.threshold)


def threshold_units(config: Config, symbol: Symbol) -> int:
    """The smallest integer notional (in units of the symbol's notional scale) that reaches the threshold."""
    units = -(-Fraction(config.threshold) // symbol.notional.fraction)
    if units >= THRESHOLD_LIMIT:
        raise InputError(
            f"bars.threshold: {config.threshold} {symbol.quote} are {units:,} units of {symbol.name}'s notional scale "
            f"({symbol.notional.step}); the rule is below 2^62: give a coarser price_tick or quantity_lot"
        )
    return units
