"""The shape of the book away from the best prices. Computed on the grid of the book stage.

With p_k, q_k price and quantity of level k of a side, mid = (bid_1 + ask_1) / 2, and l levels looked at:

bid_depth_b_l, ask_depth_b_l = share of the side's first l levels' quantity that lies within b basis points of the mid;
                               0 where the side is empty
depth_imbalance_b_l = (B - A) / (B + A), B and A the quantities within b basis points; 0 where both are 0
book_slope_l        = ln(1 + s), s the mean over both sides of the least-squares slope through the origin of cumulative
                      quantity share on distance to the mid in basis points: how fast liquidity gathers; 0 where all
                      distances are 0 (after the slope of Naes and Skjeltorp 2006, in units free of the asset's size)
buy_cost_n_l, sell_cost_n_l = effective liquidity: basis points from the mid to the mean price of a market order of n
                      times the mean best quantity (of both sides) against the first l levels; what they do not hold is
                      priced at the last of them; 0 where the book is empty
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature
from gpu_pipeline.features.expression import Book, Expression, log, loop
from kernels.loops import helper, row_loop

Level = Annotated[int, Field(strict=True, ge=1, le=1000)]


class Within(Options):
    """A distance from the mid, and how many levels are looked at."""

    bps: Annotated[float, Field(gt=0)]
    levels: Level = 10


class Slope(Options):
    """How many levels are looked at."""

    levels: Level


class Sweep(Options):
    """Size of the order in mean best quantities, and how many levels are looked at."""

    size: Annotated[float, Field(gt=0)]
    levels: Level = 10


def _sides(book: Book, levels: int) -> tuple[Expression, ...]:
    """Bid prices, bid quantities, ask prices, ask quantities, `levels` of each."""
    channels = (book.bid_price, book.bid_quantity, book.ask_price, book.ask_quantity)
    return tuple(channel(level) for channel in channels for level in range(1, levels + 1))


@helper
def _mid(x, levels, row):  # type: ignore[no-untyped-def]
    return (x[0, row] + x[2 * levels, row]) / 2.0


@helper
def _near(x, first, levels, row, middle, bps):  # type: ignore[no-untyped-def]
    """Quantity within bps of the mid, and in all levels, of the side whose prices begin at x[first]."""
    near = total = 0.0
    for level in range(levels):
        quantity = x[first + levels + level, row]
        total += quantity
        if abs(x[first + level, row] / middle - 1.0) * 10_000.0 <= bps:
            near += quantity
    return near, total


@row_loop
def _depths(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    levels = x.shape[0] // 4
    for row in range(x.shape[1]):
        middle = _mid(x, levels, row)
        bids, all_bids = _near(x, 0, levels, row, middle, p[0])
        asks, all_asks = _near(x, 2 * levels, levels, row, middle, p[0])
        missing = middle != middle
        y[0, row] = np.nan if missing else (bids / all_bids if all_bids > 0 else 0.0)
        y[1, row] = np.nan if missing else (asks / all_asks if all_asks > 0 else 0.0)
        y[2, row] = np.nan if missing else ((bids - asks) / (bids + asks) if bids + asks > 0 else 0.0)


def _within(book: Book, bps: float, levels: int) -> tuple[Expression, ...]:
    return loop(_depths, _sides(book, levels), bps, state=0, outputs=3)


def depth_within(book: Book, bps: float, levels: int) -> dict[str, Expression]:
    """Share of each side's quantity near the mid."""
    bids, asks, _ = _within(book, bps, levels)
    return {"bid_depth": bids, "ask_depth": asks}


def depth_imbalance(book: Book, bps: float, levels: int) -> dict[str, Expression]:
    """Bid minus ask quantity near the mid, over their sum."""
    return {"depth_imbalance": _within(book, bps, levels)[2]}


@helper
def _slope(x, first, levels, row, middle):  # type: ignore[no-untyped-def]
    total = 0.0
    for level in range(levels):
        total += x[first + levels + level, row]
    held = products = squares = 0.0
    for level in range(levels):
        held += x[first + levels + level, row]
        distance = abs(x[first + level, row] / middle - 1.0) * 10_000.0
        products += distance * (held / total if total > 0 else 0.0)
        squares += distance * distance
    return products / squares if squares > 0 else 0.0


@row_loop
def _slopes(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    levels = x.shape[0] // 4
    for row in range(x.shape[1]):
        middle = _mid(x, levels, row)
        both = (_slope(x, 0, levels, row, middle) + _slope(x, 2 * levels, levels, row, middle)) / 2.0
        y[0, row] = np.nan if middle != middle else both


def book_slope(book: Book, levels: int) -> dict[str, Expression]:
    """How fast quantity gathers with the distance from the mid."""
    (slope,) = loop(_slopes, _sides(book, levels), state=0)
    return {"book_slope": log(slope + 1.0)}


@helper
def _cost(x, first, levels, row, middle, size):  # type: ignore[no-untyped-def]
    """Basis points from the mid to the mean price of an order of `size`."""
    left, paid = size, 0.0
    for level in range(levels):
        filled = min(left, x[first + levels + level, row])
        paid += filled * (x[first + level, row] / middle - 1.0)
        left -= filled
    paid += left * (x[first + levels - 1, row] / middle - 1.0)
    return abs(paid) / size * 10_000.0


@row_loop
def _sweeps(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    levels = x.shape[0] // 4
    for row in range(x.shape[1]):
        middle = _mid(x, levels, row)
        size = p[0] * (x[levels, row] + x[3 * levels, row]) / 2.0
        for side in range(2):
            cost = _cost(x, 2 * levels * (1 - side), levels, row, middle, size) if size > 0 else 0.0
            y[side, row] = np.nan if middle != middle else cost


def sweep_cost(book: Book, size: float, levels: int) -> dict[str, Expression]:
    """What a market order pays beyond the mid, per side."""
    buy, sell = loop(_sweeps, _sides(book, levels), size, state=0, outputs=2)
    return {"buy_cost": buy, "sell_cost": sell}


FEATURES = (
    Feature("depth_within", depth_within, Within, of_book=True),
    Feature("depth_imbalance", depth_imbalance, Within, of_book=True),
    Feature("book_slope", book_slope, Slope, of_book=True),
    Feature("sweep_cost", sweep_cost, Sweep, of_book=True),
)
