"""What one writes first: one loop on one thread that closes dollar bars and fills all their columns as it goes.

It needs numba and numpy alone, so that it also runs in the environment of every peer. Prices are moved to the bar's
first one before their powers are summed in floats; anything simpler loses the higher moments.
"""

from __future__ import annotations

import numba
import numpy as np

INTEGERS = (
    "open_timestamp",
    "close_timestamp",
    "first_trade_row",
    "last_trade_row",
    "num_ticks",
    "num_price_changes",
    "num_directional_changes",
    "first_move",
    "last_move",
)
FLOATS = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "dollar_volume",
    "buy_volume",
    "sell_volume",
    "vwap",
    "trade_imbalance",
    "taker_buy_sell_ratio",
    "tick_price_mean",
    "intra_bar_tick_price_volatility",
    "tick_price_skewness",
    "tick_price_kurtosis",
)


def room(notional: np.ndarray, threshold: int) -> tuple[np.ndarray, np.ndarray]:
    """Arrays that `dollar_bars` fills, [B, 9] int64 and [B, 15] float64; under the reset rule they suffice."""
    most = int(notional.sum(dtype=np.float64) / threshold) + 1
    return np.empty((most, len(INTEGERS)), np.int64), np.empty((most, len(FLOATS)))


def named(integers: np.ndarray, floats: np.ndarray, bars: int) -> dict[str, np.ndarray]:
    """The columns of the first `bars` rows by name."""
    columns = {name: integers[:bars, place] for place, name in enumerate(INTEGERS)}
    return columns | {name: floats[:bars, place] for place, name in enumerate(FLOATS)}


@numba.njit(nogil=True)
def dollar_bars(time, price, quantity, notional, sold, threshold, tick, lot, integers, floats):
    """Fill the rows of complete bars under the reset rule and return their number; `tick` and `lot` are the steps.

    Prices are ticks, quantities lots and notional ticks x lots, all int64.
    """
    bars = begin = value = volume = bought = changes = turns = first_move = last_move = 0
    s1 = s2 = s3 = s4 = 0.0
    first = high = low = before = price[0] if len(price) else 0
    for row in range(len(price)):
        now = price[row]
        if row == begin:
            first = high = low = before = now
        if now > high:
            high = now
        if now < low:
            low = now
        volume += quantity[row]
        value += notional[row]
        if not sold[row]:
            bought += quantity[row]
        d = float(now - first)
        square = d * d
        s1, s2, s3, s4 = s1 + d, s2 + square, s3 + square * d, s4 + square * square
        if now != before:
            move = 1 if now > before else -1
            changes += 1
            if first_move == 0:
                first_move = move
            elif move != last_move:
                turns += 1
            last_move = move
            before = now
        if value >= threshold:
            whole, real = integers[bars], floats[bars]
            whole[0], whole[1], whole[2], whole[3] = time[begin], time[row], begin, row
            whole[4], whole[5], whole[6], whole[7], whole[8] = row + 1 - begin, changes, turns, first_move, last_move
            real[0], real[1], real[2], real[3] = (
                first * tick,
                high * tick,
                low * tick,
                now * tick,
            )
            fill_amounts(volume, value, bought, now, tick, lot, real)
            fill_moments(row + 1 - begin, first, s1, s2, s3, s4, tick, real)
            bars += 1
            begin = row + 1
            value = volume = bought = changes = turns = first_move = last_move = 0
            s1 = s2 = s3 = s4 = 0.0
    return bars


@numba.njit(nogil=True)
def fill_amounts(volume, value, bought, close, tick, lot, real):
    """Write volume to taker_buy_sell_ratio of one bar."""
    sold = volume - bought
    real[4], real[5], real[6], real[7] = volume * lot, value * (tick * lot), bought * lot, sold * lot
    real[8] = value / volume * tick if volume else close * tick
    real[9] = (bought - sold) / volume if volume else 0.0
    real[10] = bought / sold if sold else np.nan


@numba.njit(nogil=True)
def fill_moments(count, first, s1, s2, s3, s4, tick, real):
    """Write mean, deviation, skewness and excess kurtosis of one bar from power sums about its first price."""
    mean, p2, p3, p4 = s1 / count, s2 / count, s3 / count, s4 / count
    square = mean * mean
    m2 = p2 - square
    m3 = p3 - 3 * mean * p2 + 2 * square * mean
    m4 = p4 - 4 * mean * p3 + 6 * square * p2 - 3 * square * square
    real[11] = (first + mean) * tick
    real[12], real[13], real[14] = 0.0, 0.0, 0.0
    if p2 > 0 and m2 > 0:
        real[12], real[13], real[14] = np.sqrt(m2) * tick, m3 / (m2 * np.sqrt(m2)), m4 / (m2 * m2) - 3
