"""Where bars end, written again from the definitions in Python's integers: one function a bar type.

Nothing of the project is called here. Floats appear where a definition is in floats, in its written order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import cache
from typing import Any

Options = Mapping[str, Any]
UNIT_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "hour": 3600 * 10**9}
DAY_NS = 86_400 * 10**9
MOST = 2**62 - 1
MANY_DIGITS = Context(prec=50, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True)
class Market:
    """Trades as plain lists, and the value of one tick, lot and unit of notional."""

    time_ns: list[int]
    price: list[int]
    lots: list[int]
    notional: list[int]
    sold: list[bool]
    has_side: bool
    tick: Fraction
    lot: Fraction
    unit: Fraction

    def __len__(self) -> int:
        return len(self.price)

    def rows(self, first: int, stop: int) -> Market:
        cut = [column[first:stop] for column in (self.time_ns, self.price, self.lots, self.notional, self.sold)]
        return Market(*cut, self.has_side, self.tick, self.lot, self.unit)


def steps_to_reach(value: Any, step: Fraction) -> int:
    return -(-Fraction(value) // step)


def sums_reset(amounts: Sequence[int], threshold: int) -> list[int]:
    ends, total = [], 0
    for row, amount in enumerate(amounts):
        total += amount
        if total >= threshold:
            ends.append(row + 1)
            total = 0
    return ends


def floors_grow(amounts: Sequence[int], threshold: int) -> list[int]:
    ends, total = [], 0
    for row, amount in enumerate(amounts):
        if (total + amount) // threshold > total // threshold:
            ends.append(row + 1)
        total += amount
    return ends


CLOSES = {"reset": sums_reset, "carry": floors_grow}


def dollar(market: Market, options: Options) -> list[int]:
    return CLOSES[options["on_close"]](market.notional, steps_to_reach(options["threshold"], market.unit))


def volume(market: Market, options: Options) -> list[int]:
    return CLOSES[options["on_close"]](market.lots, steps_to_reach(options["threshold"], market.lot))


def tick(market: Market, options: Options) -> list[int]:
    return [row + 1 for row in range(len(market)) if (row + 1) % int(options["threshold"]) == 0]


def step_ns(step: str) -> int:
    unit = step.lstrip("0123456789")
    return int(step.removesuffix(unit)) * (DAY_NS if unit == "day" else UNIT_NS[unit])


def bucket(moment: int, step: int) -> tuple[int, int]:
    """Start and end of the left-closed bucket that a time falls into."""
    midnight = moment // DAY_NS * DAY_NS
    start = midnight + (moment - midnight) // step * step
    return start, min(start + step, midnight + DAY_NS)


def time(market: Market, options: Options) -> list[int]:
    starts = [bucket(moment, step_ns(options["step"]))[0] for moment in market.time_ns]
    return [row for row in range(1, len(starts)) if starts[row] != starts[row - 1]]


def price_range(market: Market, options: Options) -> list[int]:
    ends, begin, high, low = [], 0, 0, 0
    for row, price in enumerate(market.price):
        high, low = (price, price) if row == begin else (max(high, price), min(low, price))
        if high - low >= options["ticks"]:
            ends.append(row + 1)
            begin = row + 1
    return ends


@cache
def log_price(ticks: int) -> int:
    """log of a price in ticks, to the nearest 1e-9 (a tie cannot occur but at 1 tick, where it is 0)."""
    return int((MANY_DIGITS.ln(Decimal(ticks)) * 10**9).to_integral_value(ROUND_HALF_EVEN))


def cusum(market: Market, options: Options) -> list[int]:
    ends, up, down = [], 0, 0
    for row in range(1, len(market)):
        move = log_price(market.price[row]) - log_price(market.price[row - 1])
        up, down = max(0, up + move), min(0, down + move)
        if up >= options["threshold"] or down <= -options["threshold"]:
            ends.append(row + 1)
            up = 0 if up >= options["threshold"] else up
            down = 0 if down <= -options["threshold"] else down
    return ends


def signs(market: Market) -> list[int]:
    """+1 where the taker bought, -1 where it sold; without sides the tick rule, 0 before the first change."""
    if market.has_side:
        return [-1 if sold else 1 for sold in market.sold]
    found = [0] * len(market)
    for row in range(1, len(market)):
        move = market.price[row] - market.price[row - 1]
        found[row] = found[row - 1] if move == 0 else (1 if move > 0 else -1)
    return found


def power(base: float, exponent: int) -> float:
    """Repeated squaring, the lowest bit of the exponent first."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result = result * base
        base = base * base
        exponent >>= 1
    return result


def nearest_threshold(expected_ticks: float, per_trade: float) -> int:
    """The integer nearest to the product (halves up), within [1, 2^62)."""
    product = expected_ticks * per_trade
    if product >= 2.0**62:
        return MOST
    whole = math.floor(product)
    return max(1, whole + (product - whole >= 0.5))


@dataclass
class Expectations:
    """What information-driven bars learn at their closes; `per_trade` is None until the first bar of a null start."""

    ticks: float
    per_trade: list[float] | None
    bar_weight: float
    decay: float

    @classmethod
    def of(cls, options: Options, start: Any, unit: Fraction, sides: int) -> Expectations:
        per_trade = None if start is None else [float(Fraction(start) / unit)] * sides
        bar_weight = 2.0 / (options["span_bars"] + 1)
        return cls(float(options["expected_ticks"]), per_trade, bar_weight, 1.0 - 2.0 / (options["span_ticks"] + 1))

    def closes(self, options: Options, n: int, theta: int) -> bool:
        if self.per_trade is None:
            return n >= options["expected_ticks"]
        wanted = nearest_threshold(self.ticks, max(abs(each) for each in self.per_trade))
        return (n >= options["min_ticks"] and theta >= wanted) or n >= options["max_ticks"]

    def learn(self, n: int, sums: Sequence[int]) -> None:
        means = [float(total) / float(n) for total in sums]
        self.ticks = self.ticks + self.bar_weight * (float(n) - self.ticks)
        if self.per_trade is None:
            self.per_trade = means
            return
        w = power(self.decay, n)
        self.per_trade = [w * old + (1.0 - w) * new for old, new in zip(self.per_trade, means, strict=True)]


Learnt = tuple[list[int], list[float]]


def imbalance(market: Market, options: Options, amounts: Sequence[int], unit: Fraction) -> Learnt:
    """The ends, and what was learnt up to the last one: E_T, E_v."""
    learnt = Expectations.of(options, options["expected_imbalance"], unit, sides=1)
    ends, n, theta = [], 0, 0
    for row, (sign, amount) in enumerate(zip(signs(market), amounts, strict=True)):
        n, theta = n + 1, theta + sign * amount
        if learnt.closes(options, n, abs(theta)):
            learnt.learn(n, [theta])
            ends.append(row + 1)
            n, theta = 0, 0
    return ends, [learnt.ticks, *(learnt.per_trade or [0.0])]


def runs(market: Market, options: Options, amounts: Sequence[int], unit: Fraction) -> Learnt:
    """The ends, and what was learnt up to the last one: E_T, e_buy, e_sell."""
    learnt = Expectations.of(options, options["expected_run"], unit, sides=2)
    ends, n, bought, sold = [], 0, 0, 0
    for row, (sign, amount) in enumerate(zip(signs(market), amounts, strict=True)):
        n += 1
        bought += amount if sign > 0 else 0
        sold += amount if sign < 0 else 0
        if learnt.closes(options, n, max(bought, sold)):
            learnt.learn(n, [bought, sold])
            ends.append(row + 1)
            n, bought, sold = 0, 0, 0
    return ends, [learnt.ticks, *(learnt.per_trade or [0.0, 0.0])]


LEARNING: dict[str, Callable[[Market, Options], Learnt]] = {
    "tick_imbalance": lambda market, options: imbalance(market, options, [1] * len(market), Fraction(1)),
    "volume_imbalance": lambda market, options: imbalance(market, options, market.lots, market.lot),
    "dollar_imbalance": lambda market, options: imbalance(market, options, market.notional, market.unit),
    "tick_runs": lambda market, options: runs(market, options, [1] * len(market), Fraction(1)),
    "volume_runs": lambda market, options: runs(market, options, market.lots, market.lot),
    "dollar_runs": lambda market, options: runs(market, options, market.notional, market.unit),
}


def ends_of(learning: Callable[[Market, Options], Learnt]) -> Callable[[Market, Options], list[int]]:
    return lambda market, options: learning(market, options)[0]


ORACLES: dict[str, Callable[[Market, Options], list[int]]] = {
    "dollar": dollar,
    "volume": volume,
    "tick": tick,
    "time": time,
    "range": price_range,
    "cusum": cusum,
    **{name: ends_of(learning) for name, learning in LEARNING.items()},
}
