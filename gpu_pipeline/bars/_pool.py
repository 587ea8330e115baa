"""Longer bars from bars whose trades are no longer at hand: back to integers, pooled, and to columns again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from gpu_pipeline.bars._aggregate import to_bars
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BAR_COLUMNS, BAR_FLOATS, Bars, Scale, Symbol, Tensor
from kernels import bar_sums
from kernels.bar_columns import COPIED, PRICES, wide
from kernels.pool_sums import pool_sums
from kernels.uncentred_moments import uncentred_moments

_TWO_63, _TWO_64 = 9223372036854775808.0, 18446744073709551616.0
_COUNTS = ("num_ticks", "num_price_changes", "num_directional_changes")


def pool_bars(bars: Bars, by: int | Tensor, *, name: str = "") -> Bars:
    """Every `by` successive bars as one, with the bits that bars made from the trades have.

    Integers come back from the columns by rounding, power sums besides from their remainders (t2 = t1 modulo 2, t3 =
    t1 modulo 6, t4 = t2 modulo 12, where t_k is the sum of (price - c)^k in ticks and c the mean rounded to a tick).
    They are the true ones, and every column is exact to the bit, where in each bar t4 < 2^52, num_ticks x price < 2^49
    ticks, and volume and dollar_volume are below 2^51 units (times the numerator of a step such as 0.25 = 1/4). Past
    2^52 volatility, skewness and kurtosis agree to 1e-12 (relative, absolute below 1) and the rest is exact; past the
    other bounds, the columns made from that sum agree to 1e-13.

    Rows are counted as they stand, those of empty time bars too; they add a time and nothing else. Bars made by others
    keep absent what they lack; their volume is exact where all volumes are whole lots, else a float sum in row order.

    Args:
        bars: [B] bars that follow each other, all complete.
        by: how many make one; or [P] int64 increasing ends: a longer bar is the rows [previous end, end).
        name: of the result; by default that of `bars` and `_pooled`.

    Returns:
        P bars; `partial` holds the rows after the last end and the open rest of `bars`, None where there is none.

    Raises:
        InputError: partial rows; `by` below 1; ends that do not increase or leave [1, B].
    """
    _refuse_partial(bars)
    ends = _ends(by, bars)
    foreign = bool((bars.num_ticks < 0).any())
    pool = _pool_foreign if foreign else _pool_own
    made = replace(pool(bars, ends, False), name=name or f"{bars.name}_pooled", source=bars.source, report={})
    rest = bars.select(slice(int(ends[-1]) if len(ends) else 0, None))
    if bars.partial is not None:
        rest = Bars.concat([rest, bars.partial])
    if not len(rest):
        return made
    return replace(made, partial=replace(pool(rest, _ends(len(rest), rest), True), name=made.name))


def _refuse_partial(bars: Bars) -> None:
    partial = bars.is_partial.nonzero()
    if len(partial):
        row = int(partial[0])
        raise InputError(f"pool_bars: row {row} of {bars.name} is a partial bar; give complete bars: bars.complete()")


def _ends(by: int | Tensor, bars: Bars) -> Tensor:
    rows = len(bars)
    if isinstance(by, int):
        if by < 1:
            raise InputError(f"pool_bars: by must be at least 1 (value {by})")
        return by * torch.arange(1, rows // by + 1, device=bars.device)
    ends = by.to(bars.device, torch.int64)
    wrong = (ends.diff(prepend=ends.new_zeros(1)) <= 0) | (ends > rows)
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        raise InputError(f"pool_bars: ends must increase and lie in [1, {rows}] (ends[{at}] is {int(ends[at])})")
    return ends


def _pool_own(bars: Bars, ends: Tensor, is_partial: bool) -> Bars:
    sums = to_sums(bars)
    pooled = pool_sums(sums, ends)
    first, last = sums[:, _starts(ends)], sums[:, ends - 1]
    # A pool without trades repeats its first bar; a leading or trailing empty bar widens a pool in time.
    pooled = torch.where(pooled[bar_sums.COUNT] > 0, pooled, first)
    for row in (bar_sums.FIRST_TIME, bar_sums.FIRST_ROW):
        pooled[row] = first[row]
    for row in (bar_sums.LAST_TIME, bar_sums.LAST_ROW):
        pooled[row] = last[row]
    return to_bars(pooled, bars.symbol, bars.name, has_side=bars.has_side, is_partial=is_partial)


def _starts(ends: Tensor) -> Tensor:
    return torch.cat((ends.new_zeros(min(1, len(ends))), ends[:-1]))


def to_sums(bars: Bars) -> Tensor:
    """The integer sums [K, B] that the columns were made from; `pool_bars` says when they are the true ones."""
    sums = torch.zeros(bar_sums.K, len(bars), dtype=torch.int64, device=bars.device)
    for column, row in COPIED.items():
        sums[row] = bars.columns[column]
    for column, row in PRICES.items():
        sums[row] = _units(bars.columns[column], bars.symbol.price)
    sums[bar_sums.VOLUME] = _units(bars.volume, bars.symbol.quantity)
    sums[bar_sums.NOTIONAL] = _units(bars.dollar_volume, bars.symbol.notional)
    if bars.has_side:
        sums[bar_sums.BUYS] = _units(bars.buy_volume, bars.symbol.quantity)
    moments = _moments(bars, sums[bar_sums.OPEN])
    sums[bar_sums.S1 : bar_sums.CHANGES] = uncentred_moments(moments, sums[bar_sums.COUNT])
    return sums


def _units(values: Tensor, scale: Scale) -> Tensor:
    return _fractional(values, scale).round().long()


def _fractional(values: Tensor, scale: Scale) -> Tensor:
    return values * float(scale.fraction.denominator) / float(scale.fraction.numerator)


def _moments(bars: Bars, open_ticks: Tensor) -> Tensor:
    """The rows of `centred_moments` from the columns: `_aggregate` read backwards, each power from the exact ones."""
    count = bars.num_ticks
    n, trades = count.double().clamp(min=1.0), count.clamp(min=1)
    price = bars.symbol.price
    s1 = ((_fractional(bars.tick_price_mean, price) - open_ticks.double()) * n).round().long() * (count > 0)
    shift = torch.div(2 * s1 + count, 2 * trades, rounding_mode="floor")
    t1 = s1 - count * shift
    e = t1.double() / n
    square = e * e
    deviation = _fractional(bars.intra_bar_tick_price_volatility, price)
    t2 = _integers((deviation * deviation + square) * n, t1, 2)
    p2 = wide(*t2) / n
    m2 = p2 - square
    m3 = bars.tick_price_skewness * (m2 * torch.sqrt(m2.clamp(min=0.0)))
    t3 = _integers((m3 + 3.0 * e * p2 - 2.0 * square * e) * n, t1, 6)
    p3 = wide(*t3) / n
    m4 = (bars.tick_price_kurtosis + 3.0) * (m2 * m2)
    t4 = _integers((m4 + 4.0 * e * p3 - 6.0 * square * p2 + 3.0 * square * square) * n, t2[1], 12)
    return torch.stack((shift, t1, *t2, *t3, *t4))


def _integers(values: Tensor, like: Tensor, modulus: int) -> tuple[Tensor, Tensor]:
    """The two words (high, low) of the integers nearest to `values` that leave the remainder of `like`.

    From 2^62 on, where remainders are long lost, the words of the floats.
    """
    small = values.abs() < _TWO_63 / 2.0
    near = torch.where(small, values, 0.0)
    whole = near.round().long()
    up = torch.remainder(like - whole, modulus)
    beyond = up.double() - (near - whole.double()) > modulus / 2.0
    whole = whole + torch.where(beyond, up - modulus, up)
    high = torch.floor(values / _TWO_64)
    low = values - high * _TWO_64
    low = torch.where(low >= _TWO_63, low - _TWO_64, low)
    return torch.where(small, whole >> 63, high.long()), torch.where(small, whole, low.long())


def _pool_foreign(bars: Bars, ends: Tensor, is_partial: bool) -> Bars:
    starts = _starts(ends)
    columns = {
        name: torch.full((len(ends),), torch.nan, dtype=torch.float64, device=ends.device) for name in BAR_FLOATS
    }
    columns |= {name: torch.full_like(ends, -1) for name in _COUNTS}
    columns |= {name: torch.zeros_like(ends) for name in ("first_move", "last_move")}
    for name in ("open", "open_timestamp", "first_trade_row"):
        columns[name] = bars.columns[name][starts]
    for name in ("close", "close_timestamp", "last_trade_row"):
        columns[name] = bars.columns[name][ends - 1]
    columns["high"] = _folded(bars.high, starts, ends, torch.maximum)
    columns["low"] = _folded(bars.low, starts, ends, torch.minimum)
    columns["volume"] = _volume(bars, starts, ends)
    columns["dollar_volume"] = _folded(bars.dollar_volume, starts, ends, torch.add)
    columns["vwap"] = _vwap(columns, bars.symbol)
    columns["is_partial"] = torch.full_like(ends, is_partial, dtype=torch.bool)
    return Bars(bars.symbol, bars.name, {name: columns[name] for name in BAR_COLUMNS}, has_side=False)


def _folded(values: Tensor, starts: Tensor, ends: Tensor, add: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`add` over the rows of each pool, in row order."""
    total = values[starts]
    for place in range(1, int((ends - starts).max()) if len(ends) else 0):
        row = starts + place
        total = torch.where(row < ends, add(total, values[row.clamp(max=len(values) - 1)]), total)
    return total


def _volume(bars: Bars, starts: Tensor, ends: Tensor) -> Tensor:
    lots = _units(bars.volume, bars.symbol.quantity)
    if bool((bars.symbol.quantity.to_float(lots) == bars.volume).all()):
        return bars.symbol.quantity.to_float(_folded(lots, starts, ends, torch.add))
    return _folded(bars.volume, starts, ends, torch.add)


def _vwap(columns: dict[str, Tensor], symbol: Symbol) -> Tensor:
    volume, notional = columns["volume"], columns["dollar_volume"]
    mean = notional / (volume * float(symbol.multiplier))
    known = torch.where(volume > 0, mean, columns["close"])
    return torch.full_like(volume, torch.nan) if symbol.inverse else torch.where(notional.isnan(), torch.nan, known)
