"""From the integer sums of bars to their columns (DESIGN 4.3): float64 by + - * / sqrt alone, one op at a time.

No op is fused, reduced or reordered, so a device, a chunking or a batch size cannot change a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from gpu_pipeline.core.schema import BAR_COLUMNS, Bars, Scale, Symbol, Tensor
from kernels import bar_sums
from kernels.centred_moments import MOMENTS, centred_moments

TILE_BARS = 8192
_TWO_64 = 18446744073709551616.0
COPIED = {
    "open_timestamp": bar_sums.FIRST_TIME,
    "close_timestamp": bar_sums.LAST_TIME,
    "first_trade_row": bar_sums.FIRST_ROW,
    "last_trade_row": bar_sums.LAST_ROW,
    "num_ticks": bar_sums.COUNT,
    "num_price_changes": bar_sums.CHANGES,
    "num_directional_changes": bar_sums.TURNS,
    "first_move": bar_sums.FIRST_MOVE,
    "last_move": bar_sums.LAST_MOVE,
}
PRICES = {"open": bar_sums.OPEN, "high": bar_sums.HIGH, "low": bar_sums.LOW, "close": bar_sums.CLOSE}


def to_bars(
    sums: Tensor,  # [K, B] int64, the rows of bar_sums.COLUMNS
    symbol: Symbol,
    name: str,
    *,
    has_side: bool = True,
    is_partial: bool = False,
) -> Bars:
    """All columns of bars from their integer sums.

    vwap is NaN for inverse contracts (their notional does not hold the price); taker columns are NaN without a side.

    Raises:
        ValueError: a bar spans so many ticks that its moments are not exact.
    """
    parts = _in_tiles(partial(_columns, symbol, has_side), sums, centred_moments(sums))
    columns = parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    columns["is_partial"] = torch.full((sums.shape[1],), is_partial, device=sums.device)
    return Bars(symbol, name, {column: columns[column] for column in BAR_COLUMNS}, has_side=has_side)


def _in_tiles(
    work: Callable[[Tensor, Tensor], dict[str, Tensor]], sums: Tensor, words: Tensor
) -> list[dict[str, Tensor]]:
    """On the CPU tile by tile, on all cores: what one column leaves in the cache the next one finds there."""
    bars = sums.shape[1]
    if sums.device.type != "cpu" or bars <= TILE_BARS:
        return [work(sums, words)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(work, sums.split(TILE_BARS, 1), words.split(TILE_BARS, 1)))


def _columns(symbol: Symbol, has_side: bool, sums: Tensor, words: Tensor) -> dict[str, Tensor]:
    columns = {column: sums[row].clone() for column, row in COPIED.items()}
    columns |= {column: symbol.price.to_float(sums[row]) for column, row in PRICES.items()}
    columns |= _amounts(sums, symbol, columns["close"]) | _taker(sums, symbol, has_side)
    return columns | _moments(sums, words, symbol)


def _amounts(sums: Tensor, symbol: Symbol, close: Tensor) -> dict[str, Tensor]:
    volume, notional = sums[bar_sums.VOLUME], sums[bar_sums.NOTIONAL]
    # In ticks the quotient of integers stays within [low, high], which floats of volume and notional do not promise.
    mean = _to_price(notional.double() / volume.double(), symbol.price)
    vwap = torch.full_like(close, torch.nan) if symbol.inverse else torch.where(volume > 0, mean, close)
    return {
        "volume": symbol.quantity.to_float(volume),
        "dollar_volume": symbol.notional.to_float(notional),
        "vwap": vwap,
    }


def _taker(sums: Tensor, symbol: Symbol, has_side: bool) -> dict[str, Tensor]:
    names = ("buy_volume", "sell_volume", "trade_imbalance", "taker_buy_sell_ratio")
    volume, buy = sums[bar_sums.VOLUME], sums[bar_sums.BUYS]
    if not has_side:
        return {name: torch.full_like(volume, torch.nan, dtype=torch.float64) for name in names}
    sell = volume - buy
    imbalance = (buy - sell).double() / volume.double()
    ratio = buy.double() / sell.double()
    columns = (
        symbol.quantity.to_float(buy),
        symbol.quantity.to_float(sell),
        torch.where(volume > 0, imbalance, 0.0),
        torch.where(sell > 0, ratio, torch.nan),
    )
    return dict(zip(names, columns, strict=True))


def _moments(sums: Tensor, moments: Tensor, symbol: Symbol) -> dict[str, Tensor]:
    """Mean, population standard deviation, skewness and excess kurtosis of the trade prices.

    With t_k the exact sums of (price - c)^k about a tick c near the mean and e = t1 / n (|e| <= 1/2), the central
    moments are m2 = t2/n - e^2, m3 = t3/n - 3 e t2/n + 2 e^3, m4 = t4/n - 4 e t3/n + 6 e^2 t2/n - 3 e^4.
    """
    words = dict(zip(MOMENTS, moments, strict=True))
    count = sums[bar_sums.COUNT].double().clamp(min=1.0)
    e = words["t1"].double() / count
    p2, p3, p4 = (wide(words[f"t{power}_hi"], words[f"t{power}_lo"]) / count for power in (2, 3, 4))
    square = e * e
    m2 = p2 - square
    m3 = p3 - 3.0 * e * p2 + 2.0 * square * e
    m4 = p4 - 4.0 * e * p3 + 6.0 * square * p2 - 3.0 * square * square
    flat = sums[bar_sums.HIGH] == sums[bar_sums.LOW]
    deviation = torch.sqrt(torch.where(flat, 0.0, m2))
    return {
        "tick_price_mean": _to_price((sums[bar_sums.OPEN] + words["shift"]).double() + e, symbol.price),
        "intra_bar_tick_price_volatility": _to_price(deviation, symbol.price),
        "tick_price_skewness": torch.where(flat, 0.0, m3 / (m2 * deviation)),
        "tick_price_kurtosis": torch.where(flat, 0.0, m4 / (m2 * m2) - 3.0),
    }


def wide(high: Tensor, low: Tensor) -> Tensor:
    """float64 of 128-bit integers in two words; the low word is read as signed so that small values stay exact."""
    return (high + (low < 0).long()).double() * _TWO_64 + low.double()


def _to_price(ticks: Tensor, scale: Scale) -> Tensor:
    """Prices of fractional ticks: one product by the step's numerator, one division by its denominator."""
    return ticks * float(scale.fraction.numerator) / float(scale.fraction.denominator)
