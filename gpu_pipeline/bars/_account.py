"""The account of a symbol's bars: what went in equals what the bars and the open rest hold, in Python integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpu_pipeline.core.errors import InputError, PipelineError
from gpu_pipeline.core.schema import Symbol, Tensor, Trades
from gpu_pipeline.core.sums import exact_sum
from kernels import bar_sums

_WORD = 1 << 64


@dataclass
class Totals:
    """Exact totals: trades, volume and buys in lots, notional in its own units."""

    trades: int = 0
    volume: int = 0
    notional: int = 0
    buys: int = 0

    def add_trades(self, trades: Trades) -> None:
        """Adds a chunk of input."""
        volume = exact_sum(trades.quantity_lots)
        self.trades += len(trades)
        self.volume += volume
        self.notional += exact_sum(trades.notional)
        self.buys += volume - exact_sum(trades.quantity_lots * trades.is_buyer_maker)

    def add_sums(self, sums: Tensor) -> None:
        """Adds bars, given as the integer sums [K, B]."""
        self.trades += exact_sum(sums[bar_sums.COUNT])
        self.volume += exact_sum(sums[bar_sums.VOLUME])
        self.notional += exact_sum(sums[bar_sums.NOTIONAL])
        self.buys += exact_sum(sums[bar_sums.BUYS])

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(
            self.trades + other.trades,
            self.volume + other.volume,
            self.notional + other.notional,
            self.buys + other.buys,
        )

    def wraps_to(self, other: Totals) -> bool:
        """Whether the other totals are these but for sums that lost multiples of 2^64."""
        pairs = ((self.volume, other.volume), (self.notional, other.notional), (self.buys, other.buys))
        return self.trades == other.trades and all((mine - its) % _WORD == 0 for mine, its in pairs)

    def to_json(self, symbol: Symbol, has_side: bool) -> dict[str, Any]:
        """Integers, and exact decimals as text; buys are None where the source had no side."""
        return {
            "trades": self.trades,
            "volume_lots": self.volume,
            "notional_units": self.notional,
            "buy_lots": self.buys if has_side else None,
            "volume": format(symbol.quantity.exact(self.volume), "f"),
            "notional": format(symbol.notional.exact(self.notional), "f"),
            "buy_volume": format(symbol.quantity.exact(self.buys), "f") if has_side else None,
        }


@dataclass
class Account:
    """Input, bars and open rest of one symbol, per resolution."""

    symbol: Symbol
    has_side: bool = True
    input: Totals = field(default_factory=Totals)
    bars: dict[str, Totals] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def take(self, sums: Mapping[str, Tensor], *, partial: bool = False) -> None:
        """Enters rows of bars; `partial` ones are counted apart."""
        for resolution, rows in sums.items():
            self.bars.setdefault(resolution, Totals()).add_sums(rows)
            counts = self.counts.setdefault(resolution, {"bars": 0, "partial_rows": 0})
            counts["partial_rows" if partial else "bars"] += rows.shape[1]

    def close(self, rest: Mapping[str, Tensor]) -> dict[str, Any]:
        """The manifest's account, after the check that nothing was lost.

        Raises:
            InputError: the volume or notional of a bar does not fit 63 bits.
            PipelineError: the sums over bars and the open rest differ from the input's: a bug of ours.
        """
        resolutions = {}
        for resolution, sums in rest.items():
            opened = Totals()
            opened.add_sums(sums)
            closed = self.bars.get(resolution, Totals())
            self._check(resolution, closed.plus(opened))
            resolutions[resolution] = {
                **self.counts.get(resolution, {"bars": 0, "partial_rows": 0}),
                "in_bars": closed.to_json(self.symbol, self.has_side),
                "in_open_rest": opened.to_json(self.symbol, self.has_side),
            }
        return {"input": self.input.to_json(self.symbol, self.has_side), "resolutions": resolutions}

    def _check(self, resolution: str, found: Totals) -> None:
        if found == self.input:
            return
        where = f"bars of {self.symbol.name}, {resolution}"
        if self.input.wraps_to(found):
            steps = f"lots of {self.symbol.quantity_lot}, notional in {self.symbol.notional.step}"
            raise InputError(
                f"{where}: volume and notional of a bar must stay below 2^63 units ({steps}), and one does not; "
                "give a coarser price_tick or quantity_lot, or shorter bars"
            )
        raise PipelineError(
            f"{where}: the sums over bars and the open rest are not the input's: "
            f"{found} against {self.input}; this is a bug, keep the input"
        )
