"""Cusum bars: a bar closes when the log price has risen or fallen by a threshold, by de Prado's symmetric filter.

S+ = max(0, S+ + dy) and S- = min(0, S- + dy), dy being the change of the log price from trade to trade (Advances in
Financial Machine Learning, snippet 2.4). The bar closes at the first trade where S+ >= threshold or S- <= -threshold;
that trade belongs to it, and only the side that closed it starts again at 0. The book closes where a float exceeds the
threshold, which differs at equality alone. Log prices are integers in 1e-9, so the bars are the same on every device.
"""

from __future__ import annotations

from pydantic import Field

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Tensor, Trades
from gpu_pipeline.core.units import format_threshold
from kernels.cusum_ends import SPAN_LIMIT, NotPositive, cusum_ends, new_state

COLUMNS = ("price_ticks",)


class Config(Options):
    """When a cusum bar closes.

    Attributes:
        threshold: change of the log price, in 1e-9: 5_000_000 is 0.5 %.
    """

    threshold: int = Field(ge=1, lt=SPAN_LIMIT, examples=[10_000])


def step(trades: Trades, config: Config, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Where bars end in a chunk of trades; the state is the log prices from which S+ and S- count.

    Raises:
        InputError: a price of 0 or less, as some futures have, which has no logarithm.
    """
    before = state["high_low"] if state else new_state(trades.device)
    try:
        ends, after = cusum_ends(trades.price_ticks, config.threshold, before)
    except NotPositive as error:
        symbol, row = trades.symbol, trades.first_row + error.row
        price = symbol.price.exact(int(trades.price_ticks[error.row]))
        raise InputError(
            f"bars of type cusum: trade row {row:,} of {symbol.name} has price {price}, a logarithm needs one above 0; "
            "drop that trade or take range bars"
        ) from error
    return ends, {"high_low": after}


def label(config: Config) -> str:
    """The threshold as file names write it: 500k, 5M."""
    return format_threshold(config.threshold)
