"""Which side took each trade: as the source says, and by the tick rule only where it says nothing."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from gpu_pipeline.core.schema import Tensor, Trades
from kernels.tick_signs import initial_state, tick_signs

COLUMNS = ("price_ticks", "is_buyer_maker")


def signs(trades: Trades, state: Mapping[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """The sign of each trade, [N] int8: 1 bought, -1 sold; by the tick rule 0 before the first price change.

    The tick rule is carried over bars and chunks by the state's `last_trade` [2]: its price and its sign.
    """
    if trades.has_side:
        return 1 - 2 * trades.is_buyer_maker.to(torch.int8), {}
    last = state["last_trade"] if state and "last_trade" in state else initial_state(trades.device)
    sign, last = tick_signs(trades.price_ticks, last)
    return sign, {"last_trade": last}
