"""Every column of a bar from its trades, in fractions and 60 digits; with the error that float64 may have made.

A float column is `Near` its exact value: within so many units in the last place of it (0: it is correctly rounded),
or of the sum of its terms' sizes where the formula itself cancels (skewness and kurtosis near 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from gpu_pipeline.core.schema import BAR_COLUMNS, Bars, Trades
from tests.bars.oracles import Market, bucket
from tests.bars.streams import plain

DIGITS = Context(prec=60)
EXACT_INTEGERS = 2**53


@dataclass(frozen=True)
class Near:
    """An exact value (60 digits count as exact), and how many ulps of `scale` (None: of itself) a float may be away."""

    value: Fraction
    ulps: int
    scale: float | None = None

    def misses(self, found: float) -> bool:
        if self.ulps == 0:
            return found != float(self.value)
        size = abs(float(self.value)) if self.scale is None else self.scale
        return not abs(Fraction(found) - self.value) <= self.ulps * Fraction(math.ulp(size))


def check(trades: Trades, bars: Bars, step_ns: int | None = None) -> int:
    """Compares every column of every bar, the open rest included; returns the number of bars.

    Time bars, with their `step_ns`, are stamped with their buckets.
    """
    market, found = plain(trades), 0
    for table in filter(None, (bars, bars.partial)):
        names = {name: column.tolist() for name, column in table.columns.items()}
        for bar, (first, last) in enumerate(zip(names["first_trade_row"], names["last_trade_row"], strict=True)):
            expected = columns(market.rows(first, last + 1), first, inverse=trades.symbol.inverse)
            if step_ns is not None:
                expected["open_timestamp"] = bucket(expected["open_timestamp"], step_ns)[0]
                expected["close_timestamp"] = bucket(expected["close_timestamp"], step_ns)[1]
            assert {*expected, "is_partial"} == set(BAR_COLUMNS)
            wrong = {name: names[name][bar] for name in expected if misses(expected[name], names[name][bar])}
            assert not wrong, f"bar {bar} of {bars.name}, {trades.symbol.name}: {wrong}, exactly {expected}"
            found += 1
    return found


def misses(expected: Any, found: Any) -> bool:
    if isinstance(expected, Near):
        return expected.misses(found)
    return not math.isnan(found) if isinstance(expected, float) else found != expected


def columns(market: Market, first_row: int, *, inverse: bool) -> dict[str, Any]:
    """BAR_COLUMNS but `is_partial` of one bar made of all the market's trades, the first being row `first_row`."""
    price = market.price
    return {
        "open_timestamp": market.time_ns[0],
        "close_timestamp": market.time_ns[-1],
        "first_trade_row": first_row,
        "last_trade_row": first_row + len(price) - 1,
        "num_ticks": len(price),
        **{name: quotient(ticks, market.tick) for name, ticks in extremes(price).items()},
        **amounts(market, inverse),
        **moments(price, market.tick),
        **moves(price),
    }


def quotient(integer: int, step: Fraction) -> Near:
    value = integer * step
    return Near(value, 0 if abs(integer * step.numerator) <= EXACT_INTEGERS else 2)


def extremes(price: list[int]) -> dict[str, int]:
    return {"open": price[0], "high": max(price), "low": min(price), "close": price[-1]}


def amounts(market: Market, inverse: bool) -> dict[str, Any]:
    volume, notional = sum(market.lots), sum(market.notional)
    sold = sum(lots for lots, sell in zip(market.lots, market.sold, strict=True) if sell)
    bought = volume - sold
    mean = Fraction(notional, volume) * market.tick if volume else market.price[-1] * market.tick
    found = {
        "volume": quotient(volume, market.lot),
        "dollar_volume": quotient(notional, market.unit),
        "vwap": math.nan if inverse else Near(mean, 3 if volume else 0),
    }
    if not market.has_side:
        return found | dict.fromkeys(("buy_volume", "sell_volume", "trade_imbalance", "taker_buy_sell_ratio"), math.nan)
    return found | {
        "buy_volume": quotient(bought, market.lot),
        "sell_volume": quotient(sold, market.lot),
        "trade_imbalance": Near(Fraction(bought - sold, volume) if volume else Fraction(0), 2),
        "taker_buy_sell_ratio": Near(Fraction(bought, sold), 2) if sold else math.nan,
    }


def moments(price: list[int], tick: Fraction) -> dict[str, Near]:
    """With q = n (price - mean), an integer: m_k = sum of q^k / n^(k + 1)."""
    n, total = len(price), sum(price)
    mean = Near(Fraction(total, n) * tick, 3)
    if max(price) == min(price):
        zero = Near(Fraction(0), 0)
        names = ("intra_bar_tick_price_volatility", "tick_price_skewness", "tick_price_kurtosis")
        return {"tick_price_mean": mean, **dict.fromkeys(names, zero)}
    m2, m3, m4 = (Fraction(sum((n * each - total) ** k for each in price), n ** (k + 1)) for k in (2, 3, 4))
    deviation = Fraction(root(m2))
    third, fourth = term_sizes(price)
    return {
        "tick_price_mean": mean,
        "intra_bar_tick_price_volatility": Near(deviation * tick, 4),
        "tick_price_skewness": Near(m3 / (m2 * deviation), 8, float(third / (m2 * deviation))),
        "tick_price_kurtosis": Near(m4 / m2**2 - 3, 8, float(fourth / m2**2) + 3.0),
    }


def root(value: Fraction) -> Decimal:
    return DIGITS.sqrt(DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator)))


def term_sizes(price: list[int]) -> tuple[Fraction, Fraction]:
    """Sums of the sizes of the terms of m3 and m4 about the tick nearest to the mean."""
    n = len(price)
    centre = round(Fraction(sum(price), n))
    p1, p2, p3, p4 = (Fraction(sum((each - centre) ** k for each in price), n) for k in (1, 2, 3, 4))
    third = abs(p3) + 3 * abs(p1) * p2 + 2 * abs(p1) ** 3
    return third, p4 + 4 * abs(p1 * p3) + 6 * p1**2 * p2 + 3 * p1**4


def moves(price: list[int]) -> dict[str, int]:
    steps = [1 if after > before else -1 for before, after in pairwise(price) if after != before]
    return {
        "num_price_changes": len(steps),
        "num_directional_changes": sum(before != after for before, after in pairwise(steps)),
        "first_move": steps[0] if steps else 0,
        "last_move": steps[-1] if steps else 0,
    }
