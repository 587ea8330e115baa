"""A seeded market made up on the spot: trades, an order book that agrees with them, and (if wanted) an edge to find.

The mid moves by tosses of a coin; buys print at the ask, sells at the bid. With `edge: 0` (the null market, DESIGN 4.9)
the coins that decide the sign of a move and the taker's side are fair and independent of the past and of each other,
while arrival times, sizes and volatility are predictable. With an edge, P(up) = (1 + edge x flow) / 2: flow in [-1, 1]
is the mean of past taker signs (+1 buys), weighted by quantity and exponentially forgotten over the quantity of
`flow_memory` mean trades. Flow after each trade is the oracle score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from gpu_pipeline.core.config import Number, Step
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import BookSnapshots, Symbol, Tensor, Trades
from gpu_pipeline.core.units import DAY_NS, parse_duration, parse_instant
from gpu_pipeline.ingest import _market, _market_book, _market_rules
from gpu_pipeline.ingest._raw import ReadRequest

YEAR_DAYS = 365
OPENING_NS = parse_instant("2024-01-01")
FAST_TURNS_A_DAY = 300


class Config(Options):
    """What the market is like; the defaults resemble the BTCUSDT perpetual.

    It opens at the stream's `start`, or at the beginning of 2024.

    Attributes:
        days: length of the market; one day where `trades` is not given either.
        trades: length of the market in trades instead.
        seed: of the market; the run's seed where absent. Each symbol's own follows from it and the symbol's name.
        price: first mid in quote currency, one number or one for each symbol.
        price_tick: price step, where the run's symbol has none.
        quantity_lot: quantity step in base units, where the run's symbol has none.
        trades_per_day: mean number of trades in a day.
        volatility: annualised standard deviation of log returns.
        regimes: standard deviation of log volatility; half of its variance turns in minutes, half in a day; 0 is none.
        move_probability: share of trades before which the mid moves (fewer where one tick is too much).
        same_time: share of trades that carry the very time of the trade before.
        clock: resolution of trade times.
        spread_ticks: narrowest spread, an odd number of ticks.
        median_quantity: median trade in base units.
        tail_exponent: P(quantity > q) falls as q ** -tail_exponent (about 1.5: Gopikrishnan et al. 2000),
            cut where P is 2 ** -20.
        common: share of the variance that comes from one factor for all symbols of the run.
        edge: how far flow leans the coin; 0 is the null market.
        flow_memory: quantity over which flow forgets, in mean trades.
        book_step: time between snapshots of a book stream.
        book_levels: levels on each side.
        book_quantity: mean quantity of a level in base units.
    """

    days: Number | None = None
    trades: int | None = Field(default=None, gt=0)
    seed: int | None = Field(default=None, ge=0)
    price: Number | dict[str, Number] = Decimal(42_000)
    price_tick: Number = Decimal("0.1")
    quantity_lot: Number = Decimal("0.001")
    trades_per_day: int = Field(default=1_000_000, ge=1000, le=1_000_000_000)
    volatility: Number = Decimal("0.5")
    regimes: Decimal = Field(default=Decimal("0.5"), ge=0, le=1)
    move_probability: Decimal = Field(default=Decimal("0.2"), gt=0, le=1)
    same_time: Decimal = Field(default=Decimal("0.3"), ge=0, le=Decimal("0.9"))
    clock: Step = "1ms"
    spread_ticks: int = Field(default=1, gt=0)
    median_quantity: Number = Decimal("0.02")
    tail_exponent: Decimal = Field(default=Decimal("1.5"), gt=1, le=10)
    common: Decimal = Field(default=Decimal(0), ge=0, lt=1)
    edge: Decimal = Field(default=Decimal(0), ge=0, le=1)
    flow_memory: Number = Decimal(200)
    book_step: Step = "10s"
    book_levels: int = Field(default=100, gt=0)
    book_quantity: Number = Decimal("0.5")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.days is not None and self.trades is not None:
            raise ValueError("give 'days' or 'trades', not both")
        if self.spread_ticks % 2 == 0:
            raise ValueError(f"spread_ticks must be odd, so that the mid keeps its grid (value {self.spread_ticks})")
        return self


@dataclass(frozen=True)
class SimulatedMarket:
    """A whole simulated market of one symbol.

    Attributes:
        trades: N trades.
        oracle_score: [N] float64 in [-1, 1], flow after each trade, known then; the mid's next move is up with
            probability (1 + edge x oracle_score) / 2.
        snapshots: the book, None where it was not asked for.
    """

    trades: Trades
    oracle_score: Tensor
    snapshots: BookSnapshots | None


def simulate(config: Config, symbol: str = "BTCUSDT", seed: int | None = None, *, book: bool = True) -> SimulatedMarket:
    """One symbol's whole market in memory; equal to what `read` gives for the same configuration and seed.

    Raises:
        InputError: the market cannot be made with these scales.
    """
    request = ReadRequest(stream="trades", symbol=symbol) if seed is None else ReadRequest("trades", symbol, seed=seed)
    market = _Market(config, request)
    pieces = list(market.pieces())
    columns = np.concatenate([np.empty((7, 0), np.int64), *(piece.columns for piece in pieces)], axis=1)
    trades = market.trades(_market.Piece(0, columns))
    score = torch.from_numpy(columns[6] / _market.FLOW_ONE)
    return SimulatedMarket(trades, score, _joined(list(market.snapshots(pieces)), market) if book else None)


def rows(config: Config, request: ReadRequest) -> int | None:
    """Trades where the market's length is given in trades."""
    return config.trades if request.stream == "trades" else None


def read(config: Config, request: ReadRequest) -> Iterator[Trades | BookSnapshots]:
    """Trades of the stream `trades`, book snapshots of a stream of any other name, in pieces of bounded memory.

    Raises:
        InputError: the market cannot be made with these scales.
    """
    market = _Market(config, request)
    if request.stream != "trades":
        yield from market.snapshots(market.pieces())
        return
    for piece in market.pieces():
        yield market.trades(piece)


class _Market:
    """One request's market: its rules, and pieces of it as the schema's tables."""

    def __init__(self, config: Config, request: ReadRequest) -> None:
        self.config, self.request = config, request
        self.seed = request.seed if config.seed is None else config.seed
        self.symbol = _symbol(config, request)
        self.spec = _spec(config, request, self.symbol)
        try:
            self.rules = _market_rules.rules_of(self.spec, self.seed, request.symbol)
        except ValueError as error:
            raise self._error(error) from error

    def _error(self, error: ValueError) -> InputError:
        return InputError(f"ingest.{self.request.stream}: simulated market of {self.request.symbol}: {error}")

    def pieces(self) -> Iterator[_market.Piece]:
        end_ns = self._end_ns()
        rows = [count for count in (self.config.trades, self.request.limit) if count is not None]
        try:
            yield from _market.pieces(self.rules, min(rows, default=None), end_ns)
        except ValueError as error:
            raise self._error(error) from error

    def _end_ns(self) -> int:
        far = np.iinfo(np.int64).max if self.request.end_ns is None else self.request.end_ns
        if self.config.trades is not None:
            return int(far)
        return min(int(far), self.spec.start_ns + int((self.config.days or Decimal(1)) * DAY_NS))

    def trades(self, piece: _market.Piece) -> Trades:
        time_ns, price, lots, sells = (torch.from_numpy(piece.columns[row]).to(self.request.device) for row in range(4))
        ids = torch.arange(piece.first_row + 1, piece.first_row + 1 + len(piece), device=self.request.device)
        notional = lots.clone() if self.symbol.inverse else price * lots
        return Trades(self.symbol, time_ns, price, lots, notional, ids, sells.bool(), first_row=piece.first_row)

    def snapshots(self, pieces: Iterator[_market.Piece] | list[_market.Piece]) -> Iterator[BookSnapshots]:
        lots = max(1, int(self.config.book_quantity / self.symbol.quantity_lot))
        step = parse_duration(self.config.book_step)
        spec = _market_book.BookSpec(self.seed, self.request.symbol, step, self.config.book_levels, lots)
        for books in _market_book.snapshots(pieces, self.rules, spec):
            yield self._snapshots(books)

    def _snapshots(self, books: _market_book.Books) -> BookSnapshots:
        names = ("time_ns", "offsets", "bid_count", "price_ticks", "quantity_lots")
        columns: dict[str, Any] = {
            name: torch.from_numpy(getattr(books, name)).to(self.request.device) for name in names
        }
        return BookSnapshots(self.symbol, known_ns=columns["time_ns"], **columns)


def _joined(parts: list[BookSnapshots], market: _Market) -> BookSnapshots:
    if not parts:
        empty = np.empty(0, np.int64)
        return market._snapshots(_market_book.Books(empty, np.zeros(1, np.int64), empty, empty, empty))
    names = ("time_ns", "known_ns", "bid_count", "price_ticks", "quantity_lots")
    columns: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    starts = np.cumsum([0, *(len(part.price_ticks) for part in parts)]).tolist()
    moved = [part.offsets[:-1] + start for part, start in zip(parts, starts, strict=False)]
    return BookSnapshots(market.symbol, offsets=torch.cat([*moved, torch.tensor(starts[-1:])]), **columns)


def _symbol(config: Config, request: ReadRequest) -> Symbol:
    known = request.options
    return Symbol(
        request.symbol,
        known.price_tick or config.price_tick,
        known.quantity_lot or config.quantity_lot,
        known.multiplier,
        known.inverse,
        known.quote,
        known.timezone,
        known.fee_bps,
        known.sessions,
        known.holidays,
    )


def _price(config: Config, request: ReadRequest) -> Decimal:
    if not isinstance(config.price, dict):
        return config.price
    if request.symbol not in config.price:
        raise InputError(
            f"ingest.{request.stream}.price: no start price for {request.symbol}; "
            f"there are {', '.join(config.price) or 'none'}"
        )
    return config.price[request.symbol]


def _spec(config: Config, request: ReadRequest, symbol: Symbol) -> _market_rules.MarketSpec:
    ticks = _price(config, request) / symbol.price_tick
    if ticks < 1:
        raise InputError(
            f"ingest.{request.stream}.price: {request.symbol} must open at one tick or more (value {ticks:f} ticks)"
        )
    a_day = ticks**2 * config.volatility**2 / YEAR_DAYS
    return _market_rules.MarketSpec(
        price=int(ticks),
        variance_ticks=a_day * (1 - config.common) / config.trades_per_day,
        common_variance_ticks=a_day * config.common / (DAY_NS // _market.SECOND_NS),
        median_lots=config.median_quantity / symbol.quantity_lot,
        tail=config.tail_exponent,
        wait_ns=DAY_NS // config.trades_per_day,
        move_probability=config.move_probability,
        together=config.same_time,
        clock_ns=parse_duration(config.clock),
        spread=config.spread_ticks,
        regimes=config.regimes,
        turns=(max(1, config.trades_per_day // FAST_TURNS_A_DAY), config.trades_per_day),
        edge=config.edge,
        flow_trades=config.flow_memory,
        start_ns=request.start_ns if request.start_ns is not None else OPENING_NS,
    )
