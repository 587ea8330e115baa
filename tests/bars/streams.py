"""Markets meant to break bars, and options of every bar type chosen with the market in hand.

A stream is a function of its seed. Half of all thresholds are sums that occur in the stream, or one off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from gpu_pipeline.core.schema import Symbol, Trades
from tests.bars.market import BTC, trades_of
from tests.bars.oracles import DAY_NS, MOST, Market, log_price, signs

Draw = np.random.Generator
MIDNIGHT = 1_582_329_600 * 10**9
LIMIT = 2**63 - 1
LEARNING = {"expected_ticks": 10, "span_bars": 20, "span_ticks": 100, "min_ticks": 3, "max_ticks": 40}
# Name -> symbol and a usual price in ticks: 97,000.00; 0.000027; 20,000.25; an inverse contract; a step of 1/4 of 5.
SYMBOLS = {
    "fine": (BTC, 9_700_000),
    "tiny": (Symbol("ADABTC", Decimal("0.00000001"), Decimal("1")), 2_700),
    "tinier": (Symbol("SHIBBTC", Decimal("1e-12"), Decimal("0.01")), 10_000_000),
    "future": (Symbol("MES", Decimal("0.25"), Decimal(1), Decimal(5)), 80_001),
    "inverse": (Symbol("BTCUSD", Decimal("0.1"), Decimal(1), Decimal(100), inverse=True), 900_001),
    "coarse": (Symbol("X", Decimal("2.5"), Decimal("0.3"), Decimal("0.7")), 3),
}


def plain(trades: Trades) -> Market:
    """The same trades in Python's integers."""
    symbol = trades.symbol
    tick, lot = Fraction(symbol.price_tick), Fraction(symbol.quantity_lot)
    unit = lot * Fraction(symbol.multiplier) * (1 if symbol.inverse else tick)
    names = ("time_ns", "price_ticks", "quantity_lots", "notional", "is_buyer_maker")
    columns = [getattr(trades, name).tolist() for name in names]
    return Market(*columns, trades.has_side, tick, lot, unit)


def stream(seed: int, *, rows: int | None = None, huge: bool = True) -> Trades:
    """An adversarial stream of up to 200 trades, or `rows`; without `huge` sums over it stay below 2^63, as in bars."""
    draw = np.random.default_rng(seed)
    symbol, usual = SYMBOLS[str(draw.choice(list(SYMBOLS)))]
    if rows is None:
        rows = int(draw.choice([0, 1, 2, 3, draw.integers(4, 21), draw.integers(21, 80), draw.integers(80, 201)]))
    price = prices(draw, rows, usual)
    ceiling = LIMIT // (1 if symbol.inverse or not rows else int(price.max()))
    quantity = lots(draw, rows, ceiling if huge else min(2**40, ceiling >> max(8, rows.bit_length())))
    has_side = bool(draw.random() < 0.8)
    return trades_of(symbol, times(draw, rows), price, quantity, sides(draw, rows) & has_side, has_side=has_side)


def prices(draw: Draw, rows: int, usual: int) -> np.ndarray:
    """Walks, flat stretches, bounces, jumps, and the smallest prices there are; never below one tick."""
    coin = draw.integers(-1, 2, rows)
    shapes = {
        "walk": lambda: usual + np.cumsum(coin * draw.integers(1, 4, rows)),
        "still": lambda: np.full(rows, usual),
        "bounce": lambda: usual + np.arange(rows) % 2,
        "stretches": lambda: usual + np.cumsum(coin * (draw.random(rows) < 0.1)),
        "jumps": lambda: usual + np.cumsum(coin * draw.choice([0, 1, 5, 35, usual // 3 + 1], rows)),
        "one_tick": lambda: draw.integers(1, 4, rows),
        "wide": lambda: draw.integers(1, 10 * usual, rows),
        "trend": lambda: usual + int(draw.choice([1, 7])) * np.arange(rows),
    }
    return np.maximum(shapes[str(draw.choice(list(shapes)))](), 1).astype(np.int64)


def lots(draw: Draw, rows: int, ceiling: int) -> np.ndarray:
    """Amounts up to `ceiling`: equal ones, zeros, heavy tails, one giant among dwarfs, sums that wrap 2^64."""
    pareto = 1 + (draw.pareto(1.2, rows) * 20).clip(0, 1e9).astype(np.int64)
    shapes = {
        "pareto": lambda: pareto,
        "equal": lambda: np.full(rows, int(draw.choice([1, 7, 1000]))),
        "small": lambda: draw.integers(0, 4, rows),
        "zeros": lambda: pareto * (draw.random(rows) < 0.3),
        "nothing": lambda: np.zeros(rows, np.int64),
        "giants": lambda: np.where(draw.random(rows) < 0.1, 35 * pareto, pareto),
        "powers": lambda: 1 << draw.integers(0, 41, rows),
        "ceiling": lambda: draw.choice([ceiling, ceiling - 1, ceiling // 2, ceiling // 2 + 1, 1, 0], rows),
    }
    return np.minimum(shapes[str(draw.choice(list(shapes)))](), ceiling).astype(np.int64)


def times(draw: Draw, rows: int) -> np.ndarray:
    """Equal times, bursts, steps on and beside the second, gaps of days and months; around a midnight."""
    second = 10**9
    gaps = {
        "equal": lambda: np.zeros(rows, np.int64),
        "bursts": lambda: np.where(draw.random(rows) < 0.45, 0, draw.integers(1, 40_000, rows) * 10**6),
        "seconds": lambda: draw.integers(0, 3, rows) * second,
        "edges": lambda: draw.choice([0, 1, second - 1, second, second + 1, 7 * second], rows),
        "days": lambda: np.where(draw.random(rows) < 0.05, draw.integers(1, 100, rows) * DAY_NS, second // 3),
        "hours": lambda: draw.integers(0, 5 * 3600, rows) * second,
    }
    start = MIDNIGHT + int(draw.choice([0, -1, 1, -7 * second, 3600 * second]))
    return start + np.cumsum(gaps[str(draw.choice(list(gaps)))]())


def sides(draw: Draw, rows: int) -> np.ndarray:
    """Fair coins, one side only, long runs of one side."""
    shapes = (draw.random(rows) < 0.5, np.full(rows, draw.random() < 0.5), np.arange(rows) // 17 % 2 == 0)
    return shapes[int(draw.integers(0, 3))]


def window(draw: Draw, values: Sequence[int]) -> Sequence[int]:
    if not values:
        return [1]
    begin = int(draw.integers(0, len(values)))
    return values[begin : begin + int(draw.integers(1, 12))]


def threshold(draw: Draw, amounts: Sequence[int], unit: Fraction) -> str:
    """A sum that occurs, one off it, a 35th of the largest amount, or any; sometimes not a whole number of units."""
    off = int(draw.integers(-1, 2))
    choices = [
        sum(window(draw, amounts)) + off,
        sum(window(draw, amounts)) // 2 + off,
        sum(amounts) // int(draw.integers(1, 3_000)),
        max(amounts, default=1) // 35,
        int(draw.choice([1, 2, 1000, 5 * 10**12, 2**61, 2**62 - 1])),
    ]
    units = min(max(1, int(choices[int(draw.integers(0, 5))])), 2**62 - 1)
    return decimal(units * unit - (unit / 4 if draw.random() < 0.2 else 0))


def decimal(value: Fraction) -> str:
    """The exact decimal text of a fraction whose denominator has only twos and fives."""
    places = 0
    while value.denominator > 1:
        value, places = value * 10, places + 1
    return f"{value.numerator}e-{places}"


def closing(draw: Draw, amounts: Sequence[int], unit: Fraction) -> dict[str, Any]:
    return {"threshold": threshold(draw, amounts, unit), "on_close": str(draw.choice(["reset", "carry"]))}


def ticks_options(draw: Draw, market: Market) -> dict[str, Any]:
    count = int(draw.choice([1, 2, 3, 7, max(1, len(market)), len(market) + 1, 10**12]))
    return {"threshold": count, "on_close": str(draw.choice(["reset", "carry"]))}


def time_options(draw: Draw, market: Market) -> dict[str, Any]:
    return {"step": str(draw.choice(["1s", "7s", "1min", "7min", "1hour", "5hour", "1day", "1ns", "999ms"]))}


def range_options(draw: Draw, market: Market) -> dict[str, Any]:
    part = window(draw, market.price)
    wide = max(part) - min(part) + int(draw.integers(-1, 2))
    return {"ticks": max(1, int(draw.choice([wide, 1, 2, 20])))}


def cusum_options(draw: Draw, market: Market) -> dict[str, Any]:
    part = window(draw, market.price)
    move = abs(log_price(part[-1]) - log_price(part[0])) + int(draw.integers(-1, 2))
    return {"threshold": max(1, int(draw.choice([move, 1, 100, 5_000_000])))}


def bounds(draw: Draw, amounts: Sequence[int]) -> dict[str, Any]:
    """Ticks between `min_ticks` and `max_ticks`; no bar of two trades holds 2^62 units, where totals may stop."""
    most = max(1, MOST // max(1, max(amounts, default=1)))
    low, middle, high = sorted(min(int(each), most) for each in draw.choice([1, 2, 3, 5, 12, 40, 300, 10**12], 3))
    spans = (int(each) for each in draw.choice([1, 2, 3, 10, 100, 1000], 2))
    ticks = {"min_ticks": low, "expected_ticks": middle, "max_ticks": high}
    return ticks | dict(zip(("span_bars", "span_ticks"), spans, strict=True))


def information(draw: Draw, key: str, amounts: Sequence[int], unit: Fraction, market: Market) -> dict[str, Any]:
    """Options of imbalance and runs bars; the first threshold is an imbalance that occurs, as far as floats can say."""
    options = bounds(draw, amounts)
    signed = [sign * amount for sign, amount in zip(signs(market), amounts, strict=True)]
    hit = abs(sum(window(draw, signed)))
    start = {"null": None, "hit": hit * unit / options["expected_ticks"], "small": unit / 10, "large": 10**6 * unit}
    wanted = start[str(draw.choice(list(start)))]
    sign = -1 if key == "expected_imbalance" and draw.random() < 0.5 else 1
    return options | {key: sign * float(wanted) if wanted else None}


OPTIONS: Mapping[str, Callable[[Draw, Market], dict[str, Any]]] = {
    "dollar": lambda draw, market: closing(draw, market.notional, market.unit),
    "volume": lambda draw, market: closing(draw, market.lots, market.lot),
    "tick": ticks_options,
    "time": time_options,
    "range": range_options,
    "cusum": cusum_options,
}
for name, weigh in {
    "tick": lambda market: ([1] * len(market), Fraction(1)),
    "volume": lambda market: (market.lots, market.lot),
    "dollar": lambda market: (market.notional, market.unit),
}.items():
    for kind, key in (("imbalance", "expected_imbalance"), ("runs", "expected_run")):
        OPTIONS |= {
            f"{name}_{kind}": lambda draw, market, weigh=weigh, key=key: information(draw, key, *weigh(market), market)
        }

# Options under which `random_trades` gives a bar every ten trades or so; the second of a type where rules differ much.
USUAL: Mapping[str, tuple[dict[str, Any], ...]] = {
    "dollar": ({"threshold": 9_000}, {"threshold": "3333.333333", "on_close": "carry"}),
    "volume": ({"threshold": "1.1"}, {"threshold": 1, "on_close": "carry"}),
    "tick": ({"threshold": 9},),
    "time": ({"step": "1min"}, {"step": "5min", "empty": True}),
    "range": ({"ticks": 7},),
    "cusum": ({"threshold": 5_000},),
    "tick_imbalance": (LEARNING | {"expected_imbalance": 0.3}, LEARNING | {"expected_imbalance": None}),
    "volume_imbalance": (LEARNING | {"expected_imbalance": 0.02}, LEARNING | {"expected_imbalance": None}),
    "dollar_imbalance": (LEARNING | {"expected_imbalance": 200.0}, LEARNING | {"expected_imbalance": None}),
    "tick_runs": (LEARNING | {"expected_run": 0.6}, LEARNING | {"expected_run": None}),
    "volume_runs": (LEARNING | {"expected_run": 0.06}, LEARNING | {"expected_run": None}),
    "dollar_runs": (LEARNING | {"expected_run": 600.0}, LEARNING | {"expected_run": None}),
}
