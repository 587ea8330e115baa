"""The columns of bars from their integer sums (DESIGN 4.3): float64 by + - * / sqrt alone, one op at a time.

No op is fused, reduced or reordered, so a device, a chunking or a batch size cannot change a bit. With t_k the exact
sums of (price - c)^k about a tick c near the mean and e = t1 / n (|e| <= 1/2), the central moments are m2 = t2/n - e^2,
m3 = t3/n - 3 e t2/n + 2 e^3, m4 = t4/n - 4 e t3/n + 6 e^2 t2/n - 3 e^4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba
import numpy as np
import torch

from kernels._bar_columns import (
    BUYS,
    CHANGES,
    CLOSE,
    COUNT,
    FIRST_MOVE,
    FIRST_ROW,
    FIRST_TIME,
    HIGH,
    LAST_MOVE,
    LAST_ROW,
    LAST_TIME,
    LOW,
    NOTIONAL,
    OPEN,
    TURNS,
    VOLUME,
    K,
)
from kernels._blocks import NO_ROW
from kernels._op import jit, require
from kernels._spread import spread
from kernels.centred_moments import centred_moments, fill, refuse_wide

COPIED = {
    "open_timestamp": FIRST_TIME,
    "close_timestamp": LAST_TIME,
    "first_trade_row": FIRST_ROW,
    "last_trade_row": LAST_ROW,
    "num_ticks": COUNT,
    "num_price_changes": CHANGES,
    "num_directional_changes": TURNS,
    "first_move": FIRST_MOVE,
    "last_move": LAST_MOVE,
}
PRICES = {"open": OPEN, "high": HIGH, "low": LOW, "close": CLOSE}
FLOATS = (
    *PRICES,
    "volume",
    "dollar_volume",
    "vwap",
    "buy_volume",
    "sell_volume",
    "trade_imbalance",
    "taker_buy_sell_ratio",
    "tick_price_mean",
    "intra_bar_tick_price_volatility",
    "tick_price_skewness",
    "tick_price_kurtosis",
)
TWO_64 = 18446744073709551616.0
TILE = 512
BARS_PER_THREAD = 1 << 13
# Rows of `sums` that a column copies, and that prices come from.
COPIES, OPENS = tuple(COPIED.values()), tuple(PRICES.values())
# A division by zero gives what IEEE 754 says, and no branch: loops are taken by vector units.
loop = numba.njit(nogil=True, forceinline=True, error_model="numpy")


def bar_columns(
    sums: torch.Tensor,  # [K, B] int64, from bar_sums
    price: tuple[float, float],  # numerator and denominator of the price tick, in quote currency
    quantity: tuple[float, float],  # of the lot
    notional: tuple[float, float],  # of the unit of notional
    *,
    has_side: bool,
    inverse: bool,
) -> dict[str, torch.Tensor]:
    """Return the columns by name, [B] each: those of COPIED int64, those of FLOATS float64.

    vwap is NaN for inverse contracts (their notional does not hold the price); taker columns are NaN without a side.
    On CUDA the check of the bounds of the moments waits for the device.

    Raises:
        ValueError: a bar whose count x (high - low)^4 is 2^126 or more.
    """
    sums = require("bar_columns", "sums", sums, torch.int64, K, None)
    integers, floats = _bar_columns(sums, [*price, *quantity, *notional], has_side, inverse)
    return dict(zip(COPIED, integers, strict=True)) | dict(zip(FLOATS, floats, strict=True))


def wide(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """float64 of 128-bit integers in two words; the low word is read as signed so that small values stay exact."""
    return (high + (low < 0).long()).double() * TWO_64 + low.double()


def spec(
    sums: torch.Tensor, moments: torch.Tensor, scales: Sequence[float], has_side: bool, inverse: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (integers [9, B], floats [15, B]), column by column; `moments` are those of `centred_moments`."""
    floats = sums.new_empty(len(FLOATS), sums.shape[1], dtype=torch.float64)
    price, lot, unit = scales[:2], scales[2:4], scales[4:]
    volume, buys, value = sums[VOLUME], sums[BUYS], sums[NOTIONAL]
    sells = volume - buys
    for out, row in zip(floats, OPENS, strict=False):
        out.copy_(_scaled(sums[row].double(), price))
    floats[4], floats[5] = _scaled(volume.double(), lot), _scaled(value.double(), unit)
    # In ticks the quotient of integers stays within [low, high], which floats of volume and notional do not promise.
    mean = _scaled(value.double() / volume.double(), price)
    floats[6] = torch.nan if inverse else torch.where(volume > 0, mean, floats[3])
    floats[7:11] = torch.nan
    if has_side:
        floats[7], floats[8] = _scaled(buys.double(), lot), _scaled(sells.double(), lot)
        floats[9] = torch.where(volume > 0, (buys - sells).double() / volume.double(), 0.0)
        floats[10] = torch.where(sells > 0, buys.double() / sells.double(), torch.nan)
    _moments_of(sums, moments, price, floats[11:])
    return sums[list(COPIES)], floats


def _scaled(values: torch.Tensor, scale: Sequence[float]) -> torch.Tensor:
    return values * scale[0] / scale[1]


def _root(values: torch.Tensor) -> torch.Tensor:
    # torch's own on the CPU is not the nearest float64 in one of a hundred cases.
    return torch.from_numpy(np.sqrt(values.numpy())) if values.device.type == "cpu" else torch.sqrt(values)


def _moments_of(sums: torch.Tensor, moments: torch.Tensor, price: Sequence[float], out: torch.Tensor) -> None:
    """Write mean, population standard deviation, skewness and excess kurtosis of the trade prices."""
    shift, t1 = moments[0], moments[1]
    count = sums[COUNT].double().clamp(min=1.0)
    e = t1.double() / count
    p2, p3, p4 = (wide(moments[row], moments[row + 1]) / count for row in (2, 4, 6))
    square = e * e
    m2 = p2 - square
    m3 = p3 - 3.0 * e * p2 + 2.0 * square * e
    m4 = p4 - 4.0 * e * p3 + 6.0 * square * p2 - 3.0 * square * square
    flat = sums[HIGH] == sums[LOW]
    deviation = _root(torch.where(flat, 0.0, m2))
    out[0], out[1] = _scaled((sums[OPEN] + shift).double() + e, price), _scaled(deviation, price)
    out[2] = torch.where(flat, 0.0, m3 / (m2 * deviation))
    out[3] = torch.where(flat, 0.0, m4 / (m2 * m2) - 3.0)


@loop
def copy(values, out):
    """Copy a column."""
    for bar in range(out.shape[0]):
        out[bar] = values[bar]


@loop
def scale(values, numerator, denominator, out):
    """Write integers times a step."""
    for bar in range(out.shape[0]):
        out[bar] = float(values[bar]) * numerator / denominator


@loop
def fill_vwap(value, volume, close, numerator, denominator, out):
    """Write the mean price by volume; the close where there is no volume."""
    for bar in range(out.shape[0]):
        mean = float(value[bar]) / float(volume[bar]) * numerator / denominator
        out[bar] = mean if volume[bar] > 0 else close[bar]


@loop
def fill_sides(volume, buys, numerator, denominator, bought, sold, imbalance, ratio):
    """Write what takers bought and sold, the imbalance, and the ratio of both."""
    for bar in range(bought.shape[0]):
        sells = volume[bar] - buys[bar]
        bought[bar] = float(buys[bar]) * numerator / denominator
        sold[bar] = float(sells) * numerator / denominator
        share = float(buys[bar] - sells) / float(volume[bar])
        imbalance[bar] = share if volume[bar] > 0 else 0.0
        quotient = float(buys[bar]) / float(sells)
        ratio[bar] = quotient if sells > 0 else math.nan


@loop
def wide_word(high, low):
    """Do what `wide` does for one bar."""
    return float(high + (1 if low < 0 else 0)) * TWO_64 + float(low)


@loop
def fill_moments(count, first, high, low, words, numerator, denominator, mean, deviation, skewness, kurtosis):
    """Write the four columns of the moments of the trade prices."""
    for bar in range(mean.shape[0]):
        n = float(max(count[bar], 1))
        e = float(words[1, bar]) / n
        p2 = wide_word(words[2, bar], words[3, bar]) / n
        p3 = wide_word(words[4, bar], words[5, bar]) / n
        p4 = wide_word(words[6, bar], words[7, bar]) / n
        square = e * e
        m2 = p2 - square
        m3 = p3 - 3.0 * e * p2 + 2.0 * square * e
        m4 = p4 - 4.0 * e * p3 + 6.0 * square * p2 - 3.0 * square * square
        flat = high[bar] == low[bar]
        root = math.sqrt(0.0 if flat else m2)
        mean[bar] = (float(first[bar] + words[0, bar]) + e) * numerator / denominator
        deviation[bar] = root * numerator / denominator
        skewness[bar] = 0.0 if flat else m3 / (m2 * root)
        kurtosis[bar] = 0.0 if flat else m4 / (m2 * m2) - 3.0


@jit
def fill_tile(sums, words, scales, has_side, inverse, integers, floats, a, b):
    """Write all columns of the bars [a, b), one tile at most, whose moments are `words`."""
    tick, per_tick, lot, per_lot, unit, per_unit = scales
    for column in range(len(COPIES)):
        copy(sums[COPIES[column]][a:b], integers[column][a:b])
    for column in range(len(OPENS)):
        scale(sums[OPENS[column]][a:b], tick, per_tick, floats[column][a:b])
    volume, value, buys = sums[VOLUME][a:b], sums[NOTIONAL][a:b], sums[BUYS][a:b]
    scale(volume, lot, per_lot, floats[4][a:b])
    scale(value, unit, per_unit, floats[5][a:b])
    if inverse:
        floats[6][a:b] = math.nan
    else:
        fill_vwap(value, volume, floats[3][a:b], tick, per_tick, floats[6][a:b])
    if has_side:
        bought, sold, imbalance, ratio = floats[7][a:b], floats[8][a:b], floats[9][a:b], floats[10][a:b]
        fill_sides(volume, buys, lot, per_lot, bought, sold, imbalance, ratio)
    else:
        for column in range(7, 11):
            floats[column][a:b] = math.nan
    count, first, high, low = sums[COUNT][a:b], sums[OPEN][a:b], sums[HIGH][a:b], sums[LOW][a:b]
    mean, deviation, skewness, kurtosis = floats[11][a:b], floats[12][a:b], floats[13][a:b], floats[14][a:b]
    fill_moments(count, first, high, low, words, tick, per_tick, mean, deviation, skewness, kurtosis)


@jit
def fill_columns(sums, scales, has_side, inverse, integers, floats, begin, end):
    """Write all columns of the bars [begin, end); return the first whose moments would not be exact, or NO_ROW."""
    words, inexact = np.empty((8, TILE), np.int64), NO_ROW
    for low in range(begin, end, TILE):
        high = min(low + TILE, end)
        inexact = min(inexact, fill(sums, low, high, words, 0))
        fill_tile(sums, words, scales, has_side, inverse, integers, floats, low, high)
    return inexact


@torch.library.custom_op("gpu_pipeline::bar_columns", mutates_args=(), device_types="cpu")
def _bar_columns(
    sums: torch.Tensor, scales: list[float], has_side: bool, inverse: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    table, bars, inexact = sums.numpy(), sums.shape[1], [NO_ROW]
    integers, floats = np.empty((len(COPIED), bars), np.int64), np.empty((len(FLOATS), bars), np.float64)

    def work(begin: int, end: int) -> None:
        inexact.append(fill_columns(table, tuple(scales), has_side, inverse, integers, floats, begin, end))

    spread(work, bars, BARS_PER_THREAD)
    refuse_wide(table, min(inexact))
    return torch.from_numpy(integers), torch.from_numpy(floats)


@_bar_columns.register_kernel("cuda")
def _(sums, scales, has_side, inverse):
    return spec(sums, centred_moments(sums), scales, has_side, inverse)


@_bar_columns.register_fake
def _(sums, scales, has_side, inverse):
    bars = sums.shape[1]
    return sums.new_empty(len(COPIED), bars), sums.new_empty(len(FLOATS), bars, dtype=torch.float64)
