"""What tests of imbalance and runs bars share: signed amounts in Python's integers, markets, and odd streams."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from gpu_pipeline.core.schema import Trades
from gpu_pipeline.ingest.simulated import Config as MarketConfig
from gpu_pipeline.ingest.simulated import simulate
from tests.bars.market import BTC, random_trades, real_day, trades_of
from tests.kernels.expectations import Rule

WEIGHTS = ("tick", "volume", "dollar")
INVERSE = replace(BTC, name="BTCUSD", inverse=True, multiplier=BTC.multiplier * 100)
KEYS = {"min_ticks": 3, "expected_ticks": 12, "max_ticks": 90, "span_bars": 20, "span_ticks": 7}


def rule_of(options, expected=None) -> Rule:
    """The op's rule; `expected` in units."""
    keys = (options[key] for key in ("min_ticks", "max_ticks", "span_bars", "span_ticks", "expected_ticks"))
    return Rule(*keys, expected)


def unit(trades: Trades, weight: str) -> Fraction:
    """One step of what is weighed, as people count it."""
    symbol = trades.symbol
    price = 1 if symbol.inverse else Fraction(symbol.price_tick)
    lot = Fraction(symbol.quantity_lot)
    return {"tick": Fraction(1), "volume": lot, "dollar": lot * Fraction(symbol.multiplier) * price}[weight]


def signed(trades: Trades, weight: str) -> list[int]:
    """b v of every trade; by the tick rule where there is no side."""
    lots, price = trades.quantity_lots.tolist(), trades.price_ticks.tolist()
    notional = [q if trades.symbol.inverse else p * q for p, q in zip(price, lots, strict=True)]
    values = {"tick": [1] * len(lots), "volume": lots, "dollar": notional}[weight]
    signs = [-1 if sold else 1 for sold in trades.is_buyer_maker.tolist()] if trades.has_side else tick_rule(price)
    return [sign * value for sign, value in zip(signs, values, strict=True)]


def tick_rule(prices: list[int]) -> list[int]:
    signs = []
    for row, price in enumerate(prices):
        before = prices[row - 1] if row else price
        signs.append(1 if price > before else -1 if price < before else signs[-1] if signs else 0)
    return signs


def markets(data: Path) -> dict[str, Trades]:
    """The real day and the simulated market, as they are and without their sides."""
    day, made = real_day(data), simulate(MarketConfig(trades=100_000), "BTCUSDT", 3, book=False).trades
    bare = {f"{name}, no side": replace(each, has_side=False) for name, each in {"day": day, "simulated": made}.items()}
    return {"day": day, "simulated": made, **bare}


def odd(kind: str, rows: int = 6_000) -> Trades:
    """Streams that a threshold which feeds on itself might not survive."""
    trades, sold = random_trades(1, rows), np.arange(rows) % 2 == 1
    lots = {
        "one giant": np.where(np.arange(rows) == 999, 10**12, 5),
        "no quantity": np.zeros(rows, np.int64),
        "from nothing to much": np.where(np.arange(rows) < rows // 2, 0, 10**9),
    }.get(kind, trades.quantity_lots.numpy())
    sides = {"all bought": sold & False, "all sold": sold | True, "one giant": trades.is_buyer_maker.numpy()}
    return trades_of(BTC, trades.time_ns.numpy(), trades.price_ticks.numpy(), lots, sides.get(kind, sold))


ODD = ("all bought", "all sold", "alternating", "one giant", "no quantity", "from nothing to much")


def lengths(ends: torch.Tensor) -> np.ndarray:
    """Trades of each bar."""
    return np.diff([0, *ends.tolist()])


def thresholds(module, trades: Trades, config, rows: int) -> list[int]:
    """The threshold after every `rows` trades."""
    state, found = None, []
    for begin in range(0, len(trades), rows):
        _, state = module.step(trades[begin : begin + rows], config, state)
        found.append(int(state["expectations"][1]))
    return found


def labels_are_unique(config, module, key: str) -> None:
    """One label for each set of values, of letters, digits and dots."""
    changes = [
        {},
        {"expected_ticks": 1_000},
        {"span_bars": 50},
        {"span_ticks": 20},
        {"min_ticks": 20},
        {"max_ticks": 200},
    ]
    changes += [{key: 0.02}, {key: 20.0}, {"span_ticks": 5, "span_bars": 55}, {"span_ticks": 55, "span_bars": 5}]
    changes += [{"expected_ticks": 1_000, "max_ticks": 2_000_000}, {"expected_ticks": 1_000_000}]
    found = [module.label(config(**change)) for change in changes]
    assert len(set(found)) == len(found)
    assert all(each.replace(".", "").isalnum() for each in found)
    assert found[0] == "100" and found[1] == "1k" and found[6] == "100.from0.02"
