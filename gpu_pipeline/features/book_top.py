"""The best levels of the book: spread, fair price, imbalance, order flow. Computed on the grid of the book stage.

spread_bps            = 10,000 * (ask_1 - bid_1) / mid, mid = (bid_1 + ask_1) / 2
microprice            = (bid_1 * ask quantity_1 + ask_1 * bid quantity_1) / (bid quantity_1 + ask quantity_1)
                        (Gatheral and Oomen 2010: the mid weighted by the opposite queues); the mid where both are empty
microprice_distance   = 10,000 * (microprice / mid - 1)
queue_imbalance_n     = (B - A) / (B + A), B and A the quantities of the first n levels of each side; 0 where both are 0
                        (Cartea, Donnelly and Jaimungal 2018 for n = 1)
book_order_flow_w = sum over the last w cells of e over the mean of (q_b + q_a) / 2 in them (0 where that is 0),
                        e = q_b [b >= b'] - q_b' [b <= b'] - q_a [a <= a'] + q_a' [a >= a'], with b, a the best prices,
                        q_b, q_a their quantities and ' the cell before (Cont, Kukanov and Stoikov 2014)
book_level_flow_m_w = the same of level m (Xu, Gould and Howison 2018)
mid_return_n          = ln(mid_t / mid_{t-n})
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, Rows, Window
from gpu_pipeline.features._pairs import ratio
from gpu_pipeline.features.expression import Book, Expression, log, where

Level = Annotated[int, Field(strict=True, ge=1, le=1000)]


class Levels(Options):
    """How many levels of each side, the best first."""

    levels: Level


class LevelFlow(Options):
    """A level and a window of cells."""

    level: Level
    window: Rows


def mid(book: Book) -> Expression:
    """Mean of the best prices."""
    return (book.bid_price() + book.ask_price()) / 2.0


def total(book: Book, side: str, levels: int) -> Expression:
    """Quantity of the first levels of a side, summed from the best on."""
    quantity = getattr(book, f"{side}_quantity")
    held: Expression = quantity(1)
    for level in range(2, levels + 1):
        held = held + quantity(level)
    return held


def spread_bps(book: Book) -> dict[str, Expression]:
    """Best ask minus best bid, in basis points of the mid."""
    return {"spread_bps": (book.ask_price() - book.bid_price()) / mid(book) * 10_000.0}


def microprice(book: Book) -> dict[str, Expression]:
    """Mid weighted by the opposite queues, in quote currency (a level)."""
    bids, asks = book.bid_quantity(), book.ask_quantity()
    weighted = (book.bid_price() * asks + book.ask_price() * bids) / (bids + asks)
    return {"microprice": where(bids + asks > 0, weighted, mid(book))}


def microprice_distance(book: Book) -> dict[str, Expression]:
    """Distance of the microprice from the mid, in basis points."""
    return {"microprice_distance": (microprice(book)["microprice"] / mid(book) - 1.0) * 10_000.0}


def queue_imbalance(book: Book, levels: int) -> dict[str, Expression]:
    """Bid minus ask quantity of the first levels, over their sum."""
    bids, asks = total(book, "bid", levels), total(book, "ask", levels)
    return {"queue_imbalance": ratio(bids - asks, bids + asks)}


def _events(book: Book, level: int) -> Expression:
    bid, ask = book.bid_price(level), book.ask_price(level)
    bids, asks = book.bid_quantity(level), book.ask_quantity(level)
    old_bid, old_ask, old_bids, old_asks = (part.lag(1) for part in (bid, ask, bids, asks))
    bought = where(bid >= old_bid, bids, 0.0) - where(bid <= old_bid, old_bids, 0.0)
    sold = where(ask <= old_ask, asks, 0.0) - where(ask >= old_ask, old_asks, 0.0)
    return bought - sold


def _flow(book: Book, level: int, window: int) -> Expression:
    depth = (book.bid_quantity(level) + book.ask_quantity(level)) / 2.0
    return ratio(_events(book, level).rolling(window, "sum"), depth.rolling(window, "mean"))


def book_order_flow(book: Book, window: int) -> dict[str, Expression]:
    """Order flow at the best prices over a window, in units of the mean depth there."""
    return {"book_order_flow": _flow(book, 1, window)}


def book_level_flow(book: Book, level: int, window: int) -> dict[str, Expression]:
    """Order flow at one level over a window, in units of the mean depth there."""
    return {"book_level_flow": _flow(book, level, window)}


def mid_return(book: Book, window: int) -> dict[str, Expression]:
    """Logarithm of the ratio of mids `window` cells apart."""
    price = mid(book)
    return {"mid_return": log(price / price.lag(window))}


FEATURES = (
    Feature("spread_bps", spread_bps, of_book=True),
    Feature("microprice", microprice, levels=("microprice",), of_book=True),
    Feature("microprice_distance", microprice_distance, of_book=True),
    Feature("queue_imbalance", queue_imbalance, Levels, of_book=True),
    Feature("book_order_flow", book_order_flow, Window, of_book=True),
    Feature("book_level_flow", book_level_flow, LevelFlow, of_book=True),
    Feature("mid_return", mid_return, Window, of_book=True),
)
