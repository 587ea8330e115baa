"""What the stages hand to each other: tables of tensors with their units.

Axes: N trades, E book events, Q quotes, B bars, T grid steps, L levels, F features, R stream rows, W samples.
Times are int64 nanoseconds UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import torch

from gpu_pipeline.core.sessions import Hours

if TYPE_CHECKING:
    import pandas
    import pyarrow

Tensor: TypeAlias = torch.Tensor

BAR_INTEGERS = (
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
BAR_FLOATS = (
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
    "intra_bar_tick_price_volatility",
    "tick_price_mean",
    "tick_price_skewness",
    "tick_price_kurtosis",
)
BAR_COLUMNS = (
    "open_timestamp",
    "close_timestamp",
    "first_trade_row",
    "last_trade_row",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "dollar_volume",
    "buy_volume",
    "sell_volume",
    "vwap",
    "num_ticks",
    "trade_imbalance",
    "taker_buy_sell_ratio",
    "intra_bar_tick_price_volatility",
    "tick_price_mean",
    "tick_price_skewness",
    "tick_price_kurtosis",
    "num_price_changes",
    "num_directional_changes",
    "first_move",
    "last_move",
    "is_partial",
)
# Of a level of a depth tensor, in their order.
CHANNELS = ("bid_price", "bid_quantity", "ask_price", "ask_quantity")
TIME_COLUMNS = frozenset({"open_timestamp", "close_timestamp", "timestamp", "known_timestamp", "t_end"})


@dataclass(frozen=True)
class Scale:
    """A decimal step: value = integer x step, computed as one float64 division of exact integers."""

    step: Decimal

    @cached_property
    def fraction(self) -> Fraction:
        """The step as an exact fraction."""
        return Fraction(self.step)

    def to_float(self, integers: Tensor) -> Tensor:
        """float64 of `integers x step`: (integers x numerator) / denominator, never times a reciprocal."""
        # In float64: for a step of 5/4 the product of a bar's notional can pass 2^63, where int64 wraps.
        return integers.to(torch.float64) * float(self.fraction.numerator) / float(self.fraction.denominator)

    def exact(self, integer: int) -> Decimal:
        """The exact decimal value of one (arbitrarily large) integer."""
        return Decimal(integer) * self.step


@dataclass(frozen=True)
class Symbol:
    """A traded instrument and its scales (DESIGN 4.1).

    Attributes:
        name: exchange name, for example BTCUSDT.
        price_tick: price step in quote currency.
        quantity_lot: quantity step in base units (or contracts).
        multiplier: contract size: notional = price x quantity x multiplier.
        inverse: a coin-margined contract: notional = contracts x multiplier, in quote currency.
        quote: currency of prices.
        timezone: IANA zone of the venue.
        fee_bps: taker fee of one side in basis points, None where unknown.
        sessions: when the venue trades, in its zone, as `core.sessions` writes them; none means always.
        holidays: dates in its zone on which it does not.
    """

    name: str
    price_tick: Decimal
    quantity_lot: Decimal
    multiplier: Decimal = Decimal(1)
    inverse: bool = False
    quote: str = "USDT"
    timezone: str = "UTC"
    fee_bps: float | None = None
    sessions: tuple[str, ...] = ()
    holidays: tuple[str, ...] = ()

    @cached_property
    def price(self) -> Scale:
        """Scale of `price_ticks`."""
        return Scale(self.price_tick)

    @cached_property
    def quantity(self) -> Scale:
        """Scale of `quantity_lots`."""
        return Scale(self.quantity_lot)

    @cached_property
    def notional(self) -> Scale:
        """Scale of `notional`: tick x lot x multiplier, or lot x multiplier of an inverse contract."""
        step = self.quantity_lot * self.multiplier
        return Scale(step if self.inverse else step * self.price_tick)

    @property
    def hours(self) -> Hours:
        """Sessions and holidays."""
        return Hours(self.sessions, self.holidays, self.timezone)

    def to_json(self) -> dict[str, Any]:
        """Plain values for manifests and file metadata; decimals as strings."""
        hours = {"sessions": list(self.sessions), "holidays": list(self.holidays)}
        return {
            "name": self.name,
            "price_tick": str(self.price_tick),
            "quantity_lot": str(self.quantity_lot),
            "multiplier": str(self.multiplier),
            "inverse": self.inverse,
            "quote": self.quote,
            "timezone": self.timezone,
            "fee_bps": self.fee_bps,
            **{key: times for key, times in hours.items() if times},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Symbol:
        """The inverse of `to_json`."""
        decimals = {key: Decimal(values[key]) for key in ("price_tick", "quantity_lot", "multiplier")}
        hours = {key: tuple(values.get(key, ())) for key in ("sessions", "holidays")}
        return cls(**{**values, **decimals, **hours})


def _to_numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


class _Table:
    """Frames for people: floats, UTC timestamps, columns named as in DESIGN section 4."""

    def columns_for_people(self) -> dict[str, Tensor]:
        raise NotImplementedError

    def to_torch(self) -> dict[str, Tensor]:
        """Columns as tensors on the device they live on; times as int64 nanoseconds."""
        return dict(self.columns_for_people())

    def to_arrow(self) -> pyarrow.Table:
        """A pyarrow table on the host; times as timestamp[ns, UTC], null where there is none (-1)."""
        import pyarrow as pa

        arrays = {}
        for name, tensor in self.columns_for_people().items():
            values = _to_numpy(tensor)
            if name in TIME_COLUMNS:
                array = pa.array(values, mask=values < 0).cast(pa.timestamp("ns", tz="UTC"))
            else:
                array = pa.array(values)
            arrays[name] = array
        return pa.table(arrays)

    def to_pandas(self) -> pandas.DataFrame:
        """A pandas frame on the host."""
        return self.to_arrow().to_pandas()

    def to_parquet(self, path: str | Path) -> Path:
        """Writes the frame (floats for people) whole or not at all."""
        from gpu_pipeline.core.store import write_table

        return write_table(Path(path), self.to_arrow())


@dataclass(frozen=True)
class Trades(_Table):
    """Trades of one symbol in trade order (DESIGN 4.2).

    Attributes:
        symbol: instrument and scales.
        time_ns: [N] int64, non-decreasing.
        price_ticks: [N] int64, > 0.
        quantity_lots: [N] int64, >= 0.
        notional: [N] int64, ticks x lots (lots of an inverse contract).
        trade_id: [N] int64.
        is_buyer_maker: [N] bool, True where the aggressor sold.
        first_row: position of the first row in the symbol's trades over all files.
        has_side: False where the source had no taker side; `is_buyer_maker` is then all False, taker columns NaN.
        report: what reading counted (rows in, duplicates, id gaps, times set back, dropped), plain values.
    """

    symbol: Symbol
    time_ns: Tensor
    price_ticks: Tensor
    quantity_lots: Tensor
    notional: Tensor
    trade_id: Tensor
    is_buyer_maker: Tensor
    first_row: int = 0
    has_side: bool = True
    report: Mapping[str, Any] = field(default_factory=dict)

    COLUMNS = ("time_ns", "price_ticks", "quantity_lots", "notional", "trade_id", "is_buyer_maker")

    def __len__(self) -> int:
        return len(self.time_ns)

    def __getitem__(self, rows: slice) -> Self:
        """Rows `start:stop` (positions in this table), keeping absolute row numbers."""
        start, _, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("trades can be cut only into contiguous pieces")
        cut: dict[str, Any] = {name: getattr(self, name)[rows] for name in self.COLUMNS}
        return replace(self, first_row=self.first_row + start, **cut)

    @property
    def device(self) -> torch.device:
        """Where the columns live."""
        return self.time_ns.device

    def columns_for_people(self) -> dict[str, Tensor]:
        """Columns `timestamp, price, quantity, quote_quantity, trade_id, is_buyer_maker`."""
        return {
            "timestamp": self.time_ns,
            "price": self.symbol.price.to_float(self.price_ticks),
            "quantity": self.symbol.quantity.to_float(self.quantity_lots),
            "quote_quantity": self.symbol.notional.to_float(self.notional),
            "trade_id": self.trade_id,
            "is_buyer_maker": self.is_buyer_maker,
        }

    @classmethod
    def concat(cls, parts: Sequence[Trades]) -> Trades:
        """Joins consecutive pieces of one symbol."""
        joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in cls.COLUMNS}
        return replace(parts[0], report=parts[-1].report, **joined)


@dataclass(frozen=True)
class Bars(_Table):
    """Bars of one symbol and one resolution (DESIGN 4.3).

    Attributes:
        symbol: instrument and scales.
        name: folder name, for example dollar_50k, dollar_50k_medium, time_1min.
        columns: BAR_COLUMNS -> [B] tensor (int64, float64, or bool for is_partial).
        partial: the open rest as a table of one row, or None.
        source: the trades, kept where they are at hand so that one can look inside a bar.
        has_side: False where taker columns are NaN because the source had no side.
        report: what reading bars made by others counted (rows in and out, duplicates, gaps), plain values.
    """

    symbol: Symbol
    name: str
    columns: Mapping[str, Tensor]
    partial: Bars | None = None
    source: Trades | None = None
    has_side: bool = True
    report: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["close"])

    def __getattr__(self, name: str) -> Tensor:
        columns = self.__dict__.get("columns", {})
        if name in columns:
            return columns[name]
        raise AttributeError(f"bars have no column '{name}'; they have {', '.join(columns)}")

    @property
    def device(self) -> torch.device:
        """Where the columns live."""
        return self.columns["close"].device

    def columns_for_people(self) -> dict[str, Tensor]:
        """All bar columns in the order of DESIGN 4.3."""
        return dict(self.columns)

    def select(self, rows: slice | Tensor) -> Bars:
        """Some rows, same columns; the partial bar and the trades are left behind."""
        cut = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, columns=cut, partial=None, source=None)

    def complete(self) -> Bars:
        """The rows that may enter features, labels and samples: no partial ones."""
        return self.select(~self.columns["is_partial"])

    def trades(self, bar: int) -> Trades:
        """The trades inside bar number `bar`."""
        if self.source is None:
            raise LookupError(
                "these bars were read from files without their trades; make them with make_bars(trades, ...)"
            )
        first, last = int(self.first_trade_row[bar]), int(self.last_trade_row[bar])
        start = first - self.source.first_row
        return self.source[start : start + last - first + 1]

    def plot(self, labels: Labels | None = None, last: int = 300) -> Any:
        """A matplotlib figure: high-low range and close of the last bars, volume below, labels as marks."""
        from gpu_pipeline.core.plot import plot_bars

        return plot_bars(self, labels, last)

    @classmethod
    def concat(cls, parts: Sequence[Bars]) -> Bars:
        """Joins consecutive pieces; the partial bar is the last one's."""
        names = parts[0].columns
        joined = {name: torch.cat([part.columns[name] for part in parts]) for name in names}
        return replace(parts[-1], columns=joined)


@dataclass(frozen=True)
class Features(_Table):
    """Feature values beside their rows (DESIGN 4.6).

    Attributes:
        names: F column names.
        values: [B, F] float64, NaN in the warm-up.
        time_ns: [B] int64, what the row describes (close of the bar).
        known_ns: [B] int64, when it could be read.
        last_trade_row: [B] int64, the row's place among the symbol's trades.
        levels: names of columns that are levels (prices, cumulative volume).
        warmup: column name -> rows that are NaN at the start of its own resolution.
    """

    symbol: Symbol
    names: tuple[str, ...]
    values: Tensor
    time_ns: Tensor
    known_ns: Tensor
    last_trade_row: Tensor
    levels: tuple[str, ...] = ()
    warmup: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time_ns)

    def columns_for_people(self) -> dict[str, Tensor]:
        """The feature columns, row for row beside the bars."""
        return {name: self.values[:, index] for index, name in enumerate(self.names)}


@dataclass(frozen=True)
class Labels(_Table):
    """One named label over bars (DESIGN 4.7).

    Attributes:
        name: its name in the run, for example target_tp2.0_sl1.0.
        code: [B] int64, the label's code (meaning in `codes`); 0 where `valid` is False.
        valid: [B] bool.
        t_end: [B] int64 ns, when the label is decided; -1 where not valid.
        label_return: [B] float64, exit / entry - 1; NaN where not valid.
        weight: [B] float64.
        codes: code -> meaning.
        known_row: [B] int64, row of the deciding bar; -1 where not valid.
        classes: code -> class index of the target, as the label's `classes` key asks.
    """

    symbol: Symbol
    name: str
    code: Tensor
    valid: Tensor
    t_end: Tensor
    label_return: Tensor
    weight: Tensor
    codes: Mapping[int, str]
    known_row: Tensor
    classes: Mapping[int, int]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.code)

    def columns_for_people(self) -> dict[str, Tensor]:
        """Columns `code, valid, t_end, return, weight, known_row`."""
        return {
            "code": self.code,
            "valid": self.valid,
            "t_end": self.t_end,
            "return": self.label_return,
            "weight": self.weight,
            "known_row": self.known_row,
        }


@dataclass(frozen=True)
class BookSnapshots:
    """Order-book snapshots of one symbol, values + offsets (DESIGN 4.5).

    Attributes:
        time_ns: [S] int64 non-decreasing, when the snapshot holds.
        known_ns: [S] int64, when it could be read.
        offsets: [S+1] int64 into the level rows.
        bid_count: [S] int64: the first `bid_count` rows of a snapshot are bids, best first; the rest asks, best first.
        price_ticks: [R] int64.
        quantity_lots: [R] int64.
        report: what reading counted so far (times set back, dropped levels, ...).
    """

    symbol: Symbol
    time_ns: Tensor
    known_ns: Tensor
    offsets: Tensor
    bid_count: Tensor
    price_ticks: Tensor
    quantity_lots: Tensor
    report: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time_ns)


@dataclass(frozen=True)
class BookEvents:
    """Changes of one symbol's order book in the order in which they apply (DESIGN 4.5): E events.

    An event sets the whole quantity of one price level. A row of side 0 empties the book: the rows after it are a new
    snapshot, or there is none until the next one (a gap in the feed). Rows of one message share its times and id.

    Attributes:
        time_ns: [E] int64 non-decreasing, the venue's time.
        known_ns: [E] int64 non-decreasing, when the book after the event could be read.
        side: [E] int64: 1 bid, -1 ask, 0 the book is emptied.
        price_ticks: [E] int64, 0 where side is 0.
        quantity_lots: [E] int64 >= 0, the level's new quantity; 0 deletes it.
        update_id: [E] int64, the venue's last id in the message; -1 where it has none.
        report: what reading counted so far (gaps, duplicates, stale messages, ...).
    """

    symbol: Symbol
    time_ns: Tensor
    known_ns: Tensor
    side: Tensor
    price_ticks: Tensor
    quantity_lots: Tensor
    update_id: Tensor
    report: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time_ns)


@dataclass(frozen=True)
class Quotes:
    """A best bid and offer stream of one symbol: Q rows; a side that is missing has quantity 0.

    Attributes:
        time_ns: [Q] int64 non-decreasing, the venue's time.
        known_ns: [Q] int64, when it could be read.
        update_id: [Q] int64, the book's update id that the quote belongs to; -1 where the venue has none.
        bid_ticks: [Q] int64.
        bid_lots: [Q] int64.
        ask_ticks: [Q] int64.
        ask_lots: [Q] int64.
        report: what reading counted so far (rows in, bad rows, times set back, ...).
    """

    symbol: Symbol
    time_ns: Tensor
    known_ns: Tensor
    update_id: Tensor
    bid_ticks: Tensor
    bid_lots: Tensor
    ask_ticks: Tensor
    ask_lots: Tensor
    report: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time_ns)


@dataclass(frozen=True)
class Depth:
    """A depth tensor on a fixed grid (DESIGN 4.5).

    Attributes:
        depth: [T, L, 4] float64, channels bid_price, bid_quantity, ask_price, ask_quantity in ticks and lots.
        beyond: [T, 2] int64 lots beyond the last level, per side.
        time_ns: [T] int64 grid times.
        known_ns: [T] int64 = grid time + tolerance.
        age_ns: [T] int64 >= 0, -1 where nothing is known yet.
        valid: [T] bool, False where missing (older than max_gap).
        filled: [T] bool, True where older than the cadence.
    """

    symbol: Symbol
    depth: Tensor
    beyond: Tensor
    time_ns: Tensor
    known_ns: Tensor
    age_ns: Tensor
    valid: Tensor
    filled: Tensor

    def __len__(self) -> int:
        return len(self.time_ns)
