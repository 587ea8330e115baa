"""The simulated market's fold: a counter becomes trades.

Integer arithmetic on counter-based random words (SplitMix64: Steele, Lea and Flood 2014), so that a seed gives the same
market on every machine and in any chunking. Fixed point: ONE stands for 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

ONE_BITS = 20
ONE = 1 << ONE_BITS
FLOW_BITS = 30
FLOW_ONE = 1 << FLOW_BITS
COIN_BITS = 24
CHANCE_BITS = 40
SIZE_BITS = 16
MANTISSA = 1024
OCTAVES = 40
# One quantity in a million lies beyond the 20th halving of the tail: cut there, so that no trade outweighs a day.
SIZE_OCTAVES = 20
BALLS = 16
LEVELS = BALLS + 1
LN2 = 726_817
DAY_NS = 86_400_000_000_000
MINUTE_NS = 60_000_000_000
SECOND_NS = 1_000_000_000

# Arrivals are an autoregressive conditional duration process (Engle and Russell 1998), alpha and beta in 1/ONE.
ARRIVAL_ALPHA = ONE // 8
ARRIVAL_BETA = ONE * 86 // 100

# Places in the state; MID2 is twice the mid.
ROW, TIME, MID2, SPREAD, WAIT, FAST, SLOW, FLOW, SCALE, DAY, SECOND, MID2_START, STATE = range(13)
# Words drawn for one trade.
ARRIVAL, QUANTITY, MOVE, MOVE_SIZE, OPENING, COINS, TURN, FAST_BALL, SLOW_BALL, DRAWS = range(10)


class Rules(NamedTuple):
    """All constants of one symbol's market, as the fold reads them; tables are int64, fixed point."""

    key: np.uint64
    common_key: np.uint64
    start_ns: int
    price: int
    wait_ns: int
    together: int
    clock_ns: int
    spread: int
    edge: int
    flow_lots: int
    size_lots: int
    fast_turn: int
    slow_turn: int
    common_share: int
    common_size: int
    exponential: Integers  # [MANTISSA]
    size_octave: Integers  # [SIZE_OCTAVES]
    size_mantissa: Integers  # [MANTISSA]
    season: Integers  # [1440] waiting time by minute of the day
    pace: Integers  # [LEVELS] waiting time by fast level
    size_level: Integers  # [LEVELS] size by fast level
    move_share: Integers  # [LEVELS * LEVELS] probability that the mid moves, in 2**-CHANCE_BITS
    move_size: Integers  # [LEVELS * LEVELS] scale of a move in ticks
    widen: Integers  # [LEVELS] how far the spread opens by fast level


@dataclass(frozen=True)
class Piece:
    """A run of consecutive trades and the touch that each of them met.

    Attributes:
        first_row: row of the first trade in the market.
        columns: [7, N] int64: time_ns, price_ticks, quantity_lots, is_buyer_maker, bid, ask, flow (in 2**-FLOW_BITS).
    """

    first_row: int
    columns: Integers

    def __len__(self) -> int:
        return int(self.columns.shape[1])


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a plain loop at its first call, without fastmath."""
    return numba.njit(nogil=True, cache=True)(function)


def start_state(rules: Rules) -> Integers:
    """The state before the first trade."""
    state = np.zeros(STATE, np.int64)
    state[TIME], state[SPREAD], state[WAIT], state[SCALE] = rules.start_ns, rules.spread, ONE, ONE
    state[MID2] = state[MID2_START] = 2 * rules.price + rules.spread
    state[FAST] = state[SLOW] = BALLS // 2
    state[DAY], state[SECOND] = rules.start_ns // DAY_NS, rules.start_ns // SECOND_NS
    return state


def pieces(rules: Rules, trades: int | None, end_ns: int, rows: int = 1 << 18) -> Iterator[Piece]:
    """Trades in pieces of at most `rows`, until `trades` are made or the next one would come at or after `end_ns`.

    Raises:
        ValueError: the price fell to zero.
    """
    state, made = start_state(rules), 0
    while trades is None or made < trades:
        wanted = rows if trades is None else min(rows, trades - made)
        columns = np.empty((7, wanted), np.int64)
        got = run(rules, state, end_ns, columns)
        if got < 0:
            raise ValueError(
                f"the price fell to zero at trade {made - got:,}; lower the volatility or use a finer price_tick"
            )
        if got:
            yield Piece(made, columns[:, :got])
        made += got
        if got < wanted:
            return


@compiled
def word(key: np.uint64, counter: int) -> np.uint64:
    """SplitMix64 at any place of its sequence."""
    z = key + np.uint64(counter) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def bits(value: np.uint64, low: int, count: int) -> Any:
    """`count` bits of a word from bit `low` up, as int64."""
    return np.int64((value >> np.uint64(low)) & np.uint64((1 << count) - 1))


@compiled
def octave(value: np.uint64) -> tuple[int, Any]:
    """A uniform U in (0, 1) as its leading zeros z and mantissa m: U = 2**-(z+1) x (1 + m / MANTISSA)."""
    zeros = 0
    while zeros < OCTAVES - 1 and value >> np.uint64(63) == np.uint64(0):
        value = value << np.uint64(1)
        zeros += 1
    return zeros, bits(value, 53, 10)


@compiled
def exponential(table: Integers, value: np.uint64) -> Any:
    """A unit exponential in fixed point: -log U."""
    zeros, mantissa = octave(value)
    return zeros * LN2 + table[mantissa]


@compiled
def _geometric(rules: Any, value: np.uint64, size: int, scale: int) -> Any:
    """1 + floor(size x Exp(1) x scale)."""
    return 1 + ((((exponential(rules.exponential, value) * size) >> ONE_BITS) * scale) >> (2 * ONE_BITS))


@compiled
def _wait(rules: Any, state: Integers, draw: int, coins: np.uint64) -> None:
    """Time of the next trade: clustered, seasonal, quicker where volatility is high."""
    if bits(coins, 0, COIN_BITS) < rules.together:
        return
    unit = (state[WAIT] * exponential(rules.exponential, word(rules.key, draw + ARRIVAL))) >> ONE_BITS
    state[WAIT] = ONE - ARRIVAL_ALPHA - ARRIVAL_BETA + ((ARRIVAL_ALPHA * unit + ARRIVAL_BETA * state[WAIT]) >> ONE_BITS)
    minute = (state[TIME] // MINUTE_NS) % 1440
    slow = (rules.season[minute] * rules.pace[state[FAST]]) >> ONE_BITS
    waits = (unit * slow) >> ONE_BITS
    # Whole and fractional waits apart: their product with hours would not fit.
    state[TIME] += (waits >> ONE_BITS) * rules.wait_ns + (((waits & (ONE - 1)) * rules.wait_ns) >> ONE_BITS)


@compiled
def _turn(rules: Any, state: Integers, draw: int) -> None:
    """Log volatility: two Ehrenfest urns, the discrete Ornstein-Uhlenbeck process, one fast and one slow."""
    chance = word(rules.key, draw + TURN)
    if bits(chance, 0, 32) < rules.fast_turn:
        state[FAST] += 1 if bits(word(rules.key, draw + FAST_BALL), 60, 4) >= state[FAST] else -1
    if bits(chance, 32, 32) < rules.slow_turn:
        state[SLOW] += 1 if bits(word(rules.key, draw + SLOW_BALL), 60, 4) >= state[SLOW] else -1


@compiled
def _move(rules: Any, state: Integers, draw: int, coins: np.uint64) -> None:
    """The mid moves by the toss of a coin: fair in the null market, leaning with past flow where there is an edge."""
    level = state[FAST] * LEVELS + state[SLOW]
    chance = word(rules.key, draw + MOVE)
    if bits(chance, 0, CHANCE_BITS) >= rules.move_share[level]:
        return
    lean = (rules.edge * state[FLOW]) >> FLOW_BITS
    up = bits(coins, COIN_BITS, COIN_BITS) < (1 << (COIN_BITS - 1)) + lean
    size = _geometric(rules, word(rules.key, draw + MOVE_SIZE), rules.move_size[level], state[SCALE])
    state[MID2] += 2 * size if up else -2 * size
    # Both sides step back equally: the mid keeps its place and a wide spread says nothing of the direction.
    opening = exponential(rules.exponential, word(rules.key, draw + OPENING))
    state[SPREAD] = rules.spread + 2 * ((opening * rules.widen[state[FAST]]) >> (2 * ONE_BITS))


@compiled
def _follow_common(rules: Any, state: Integers) -> None:
    """Moves of the factor that all symbols share, a fair coin for each second since the last trade."""
    second = state[TIME] // SECOND_NS
    if rules.common_share > 0:
        for tick in range(state[SECOND] + 1, second + 1):
            chance = word(rules.common_key, 2 * tick)
            if bits(chance, 0, CHANCE_BITS) < rules.common_share:
                size = _geometric(rules, word(rules.common_key, 2 * tick + 1), rules.common_size, state[SCALE])
                state[MID2] += 2 * size if bits(chance, 63, 1) == 1 else -2 * size
    state[SECOND] = second


@compiled
def _new_day(state: Integers) -> None:
    """Moves in ticks follow the price from day to day, never within one: a day's moves are symmetric."""
    day = state[TIME] // DAY_NS
    if day > state[DAY]:
        state[SCALE] = (state[MID2] << ONE_BITS) // state[MID2_START]
        state[DAY] = day


@compiled
def _lots(rules: Any, state: Integers, draw: int) -> Any:
    """Quantity: a Pareto tail, larger where volatility is high."""
    zeros, mantissa = octave(word(rules.key, draw + QUANTITY))
    base = (rules.size_lots * rules.size_level[state[FAST]]) >> ONE_BITS
    within = (base * rules.size_mantissa[mantissa]) >> (SIZE_BITS + 8)
    return max(1, (within * (rules.size_octave[min(zeros, SIZE_OCTAVES - 1)] >> 8)) >> ONE_BITS)


@compiled
def _flow(rules: Any, state: Integers, lots: int, buys: int) -> None:
    """Signed flow moves towards the taker's sign by the share that this quantity is of the memory."""
    weight = min(1 << COIN_BITS, (lots << COIN_BITS) // rules.flow_lots)
    state[FLOW] += (weight * ((FLOW_ONE if buys else -FLOW_ONE) - state[FLOW])) >> COIN_BITS


@compiled
def run(rules: Any, state: Integers, end_ns: int, columns: Integers) -> Any:
    """Fills `columns` [7, N] trade by trade and moves `state`.

    Returns:
        The rows filled, fewer than N where the market ended; -1 - rows where the price fell to zero.
    """
    for row in range(columns.shape[1]):
        draw = state[ROW] * DRAWS
        coins = word(rules.key, draw + COINS)
        _wait(rules, state, draw, coins)
        if state[TIME] >= end_ns:
            return row
        _new_day(state)
        _turn(rules, state, draw)
        _follow_common(rules, state)
        _move(rules, state, draw, coins)
        bid = (state[MID2] - state[SPREAD]) >> 1
        if bid < 1:
            return -1 - row
        buys = bits(coins, 63, 1)
        lots = _lots(rules, state, draw)
        _flow(rules, state, lots, buys)
        columns[0, row] = state[TIME] // rules.clock_ns * rules.clock_ns
        columns[1, row] = bid + buys * state[SPREAD]
        columns[2, row] = lots
        columns[3, row] = 1 - buys
        columns[4, row] = bid
        columns[5, row] = bid + state[SPREAD]
        columns[6, row] = state[FLOW]
        state[ROW] += 1
    return columns.shape[1]
