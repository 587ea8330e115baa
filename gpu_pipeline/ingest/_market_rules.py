"""The simulated market's constants: what a configuration means in integers.

Tables are made with `decimal`, never with the machine's exp and log, so that they are the same everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from math import comb

import numpy as np

from gpu_pipeline.ingest._market import (
    BALLS,
    CHANCE_BITS,
    COIN_BITS,
    LEVELS,
    MANTISSA,
    ONE,
    SIZE_BITS,
    SIZE_OCTAVES,
    Integers,
    Rules,
)

MAX_MOVE_TICKS = 20_000
MAX_LOTS = 1 << 38
# Room for the price to grow within int64 notionals.
PRICE_GROWTH = 16

# Activity by UTC hour in thousandths: quiet before the European morning, busiest when New York opens.
NIGHT_AND_MORNING = (870, 830, 790, 720, 660, 640, 680, 780, 920, 980, 960, 950)
AFTERNOON_AND_EVENING = (1050, 1290, 1560, 1610, 1490, 1330, 1190, 1080, 1010, 940, 870, 800)
ACTIVITY = NIGHT_AND_MORNING + AFTERNOON_AND_EVENING


@dataclass(frozen=True)
class MarketSpec:
    """What decides a market, in plain numbers.

    Attributes:
        price: first mid in ticks.
        variance_ticks: mean variance of the mid per trade, in ticks squared.
        common_variance_ticks: variance per second that comes from the factor shared by all symbols, in ticks squared.
        median_lots: median quantity in lots before regimes.
        tail: exponent of the quantity's Pareto tail.
        wait_ns: mean time between trades.
        move_probability: share of trades before which the mid moves, at most.
        together: share of trades at the very time of the trade before.
        clock_ns: resolution of the exchange's clock.
        spread: narrowest spread in ticks, odd.
        regimes: standard deviation of log volatility.
        turns: mean number of trades in which the fast and the slow part of log volatility forget their level.
        edge: 0 is the null market; P(up) = (1 + edge x flow) / 2.
        flow_trades: memory of the signed flow, in mean trades.
        start_ns: when the market opens.
    """

    price: int
    variance_ticks: Decimal
    common_variance_ticks: Decimal
    median_lots: Decimal
    tail: Decimal
    wait_ns: int
    move_probability: Decimal
    together: Decimal
    clock_ns: int
    spread: int
    regimes: Decimal
    turns: tuple[int, int]
    edge: Decimal
    flow_trades: Decimal
    start_ns: int


def key_of(*parts: object) -> np.uint64:
    """A 64-bit key from a seed and names, the same on every machine."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little"))


def _fixed(value: Decimal, one: int = ONE) -> int:
    return int((value * one).to_integral_value())


def _array(values: Iterable[Decimal], one: int = ONE) -> Integers:
    return np.array([_fixed(value, one) for value in values], np.int64)


def _log_volatility(regimes: Decimal) -> list[Decimal]:
    """Log volatility of each level of one chain: binomial with standard deviation regimes / sqrt(2)."""
    step = regimes / Decimal(2).sqrt() / (Decimal(BALLS).sqrt() / 2)
    return [step * (level - BALLS // 2) for level in range(LEVELS)]


def _unit_mean(values: list[Decimal]) -> list[Decimal]:
    """Divided by the mean under the chain's binomial law."""
    mean = sum((comb(BALLS, level) * value for level, value in enumerate(values)), Decimal(0)) / 2**BALLS
    return [value / mean for value in values]


def _move_law(variance: Decimal, most: Decimal) -> tuple[Decimal, Decimal]:
    """(probability, a) so that a move of 1 + floor(a x Exp(1)) ticks with that probability has this variance.

    1 + floor(a x Exp(1)) is geometric with q = 1 - exp(-1/a) and second moment (2 - q) / q**2.
    """
    probability = min(most, variance)
    if variance <= most:
        return probability, Decimal(0)
    ratio = variance / probability
    q = ((1 + 8 * ratio).sqrt() - 1) / (2 * ratio)
    return probability, -1 / (1 - q).ln()


def _season() -> Integers:
    """[1440] waiting time by minute: one over the hourly activity, interpolated."""
    total = sum(ACTIVITY)
    minutes = range(1440)
    activity = [
        Decimal(ACTIVITY[m // 60] * (60 - m % 60) + ACTIVITY[(m // 60 + 1) % 24] * (m % 60)) / 60 for m in minutes
    ]
    return _array([Decimal(total) / 24 / value for value in activity])


def _check_sizes(spec: MarketSpec, logs: list[Decimal]) -> None:
    """The largest trade must fit the fold's integers, and its notional int64."""
    largest = spec.median_lots * Decimal(2) ** (SIZE_OCTAVES / spec.tail) * max(logs).exp()
    if largest > MAX_LOTS or largest * spec.price * PRICE_GROWTH >= 2**63:
        raise ValueError(
            f"its largest trade would have {largest:.3g} lots at {spec.price:,} ticks, too many for 64 bits; "
            "use a coarser quantity_lot or price_tick, or a smaller median_quantity"
        )


def rules_of(spec: MarketSpec, seed: int, symbol: str) -> Rules:
    """Tables and keys of a market.

    Raises:
        ValueError: moves or trades are too large for the scales; names the way out.
    """
    with localcontext(prec=28):
        return _rules(spec)._replace(key=key_of(seed, symbol), common_key=key_of(seed, "common"))


@lru_cache(maxsize=32)
def _rules(spec: MarketSpec) -> Rules:
    logs = _log_volatility(spec.regimes)
    squares = _unit_mean([(2 * value).exp() for value in logs])
    laws = [_move_law(spec.variance_ticks * fast * slow, spec.move_probability) for fast in squares for slow in squares]
    common = _move_law(spec.common_variance_ticks, Decimal(1))
    largest = max(size for _, size in [*laws, common])
    if largest > MAX_MOVE_TICKS:
        raise ValueError(
            f"moves of {largest:.0f} ticks exceed {MAX_MOVE_TICKS}; use a coarser price_tick or a lower volatility"
        )
    _check_sizes(spec, logs)
    fractions = [1 + (Decimal(m) + Decimal("0.5")) / MANTISSA for m in range(MANTISSA)]
    smallest = spec.median_lots * Decimal(2) ** (-1 / spec.tail)
    mean_lots = smallest * spec.tail / (spec.tail - 1)
    turns = [min(Decimal(1), Decimal(BALLS) / 2 / trades) for trades in spec.turns]
    return Rules(
        key=np.uint64(0),
        common_key=np.uint64(0),
        start_ns=spec.start_ns,
        price=spec.price,
        wait_ns=_fixed(Decimal(spec.wait_ns) / (1 - spec.together), 1),
        together=_fixed(spec.together, 1 << COIN_BITS),
        clock_ns=spec.clock_ns,
        spread=spec.spread,
        edge=_fixed(spec.edge, 1 << (COIN_BITS - 1)),
        flow_lots=max(1, _fixed(mean_lots * spec.flow_trades, 1)),
        size_lots=_fixed(smallest),
        fast_turn=_fixed(turns[0], 1 << 32),
        slow_turn=_fixed(turns[1], 1 << 32),
        common_share=_fixed(common[0], 1 << CHANCE_BITS),
        common_size=_fixed(common[1]),
        exponential=_array([Decimal(2).ln() - value.ln() for value in fractions]),
        size_octave=_array([Decimal(2) ** ((z + 1) / spec.tail) for z in range(SIZE_OCTAVES)], 1 << SIZE_BITS),
        size_mantissa=_array([value ** (-1 / spec.tail) for value in fractions], 1 << SIZE_BITS),
        season=_season(),
        pace=_array(_unit_mean([(-value).exp() for value in logs])),
        size_level=_array(_unit_mean([(value / 2).exp() for value in logs])),
        move_share=_array([share for share, _ in laws], 1 << CHANCE_BITS),
        move_size=_array([size for _, size in laws]),
        widen=_array([value / 2 for value in _unit_mean([value.exp() for value in logs])]),
    )
