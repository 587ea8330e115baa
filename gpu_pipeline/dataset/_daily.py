"""The long-term channel: one row of statistics per UTC day and asset, known only after the day has closed.

A row is a function of the day's own trades. Log returns are taken over steps of `returns` by the last trade of each
step in which there is one, the first of them from the day's first trade (previous-tick sampling; Andersen, Bollerslev,
Diebold and Labys 2003). Columns: `return_mean`; `return_std`, `return_skew` and `return_kurtosis`, those of the
population (as in DESIGN 4.3: excess kurtosis; skew and kurtosis 0 where all returns are equal); `log_volume` = log(1 +
lots of all trades of the day); `volatility` = sqrt(sum of squared returns), the realised volatility of the day.

A day without trades is a row of `log_volume` 0 and NaN statistics, which are imputed as other values. An asset's record
begins with its first whole day: that of its first trade only where this lies in the day's first step. Rows before it,
where assets stand side by side, are NaN in all columns. A row of day D is known at the day's end, 00:00 UTC of D + 1,
plus the stream's latency; there is one for every day whose end has been reached by any trade or decision of the run.

Trades are taken chunk by chunk; integers alone are kept of them, so any chunking gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from gpu_pipeline.core.config import StreamSection
from gpu_pipeline.core.schema import Symbol, Trades
from gpu_pipeline.core.units import DAY_NS, parse_duration
from gpu_pipeline.dataset.streams import Rows, checked
from kernels import elementwise

COLUMNS = ("return_mean", "return_std", "return_skew", "return_kurtosis", "log_volume", "volatility")
VOLUME = COLUMNS.index("log_volume")


@dataclass(frozen=True)
class Days:
    """What is kept of one symbol's trades.

    Attributes:
        symbol: whose they are.
        step: [K] int64 numbers since 1970 of the steps with a trade.
        close_ticks: [K] int64 price of the last trade in each.
        day: [M] int64 numbers since 1970 of the days with a trade.
        open_ticks: [M] int64 price of the first trade of each.
        lots: [M] int64 lots of all of its trades.
        first_ns: time of the first trade; -1 where there is none.
        last_ns: time of the last trade; -1 where there is none.
    """

    symbol: Symbol
    step: Tensor
    close_ticks: Tensor
    day: Tensor
    open_ticks: Tensor
    lots: Tensor
    first_ns: int = -1
    last_ns: int = -1


def summary(trades: Trades, step_ns: int) -> Days:
    """What is kept of one chunk of trades."""
    step, counts = torch.unique_consecutive(trades.time_ns // step_ns, return_counts=True)
    day, sizes = torch.unique_consecutive(trades.time_ns // DAY_NS, return_counts=True)
    ends = sizes.cumsum(0)
    total = torch.nn.functional.pad(trades.quantity_lots.cumsum(0), (1, 0))
    return Days(
        symbol=trades.symbol,
        step=step,
        close_ticks=trades.price_ticks[counts.cumsum(0) - 1],
        day=day,
        open_ticks=trades.price_ticks[ends - sizes],
        lots=total[ends] - total[ends - sizes],
        first_ns=int(trades.time_ns[0]) if len(trades) else -1,
        last_ns=int(trades.time_ns[-1]) if len(trades) else -1,
    )


def join(parts: Sequence[Days]) -> Days:
    """Consecutive parts of one symbol's trades as one."""
    step, counts = torch.unique_consecutive(torch.cat([part.step for part in parts]), return_counts=True)
    day, sizes = torch.unique_consecutive(torch.cat([part.day for part in parts]), return_counts=True)
    ends = sizes.cumsum(0)
    total = torch.nn.functional.pad(torch.cat([part.lots for part in parts]).cumsum(0), (1, 0))
    times = [time for part in parts for time in (part.first_ns, part.last_ns) if time >= 0]
    return Days(
        symbol=parts[0].symbol,
        step=step,
        close_ticks=torch.cat([part.close_ticks for part in parts])[counts.cumsum(0) - 1],
        day=day,
        open_ticks=torch.cat([part.open_ticks for part in parts])[ends - sizes],
        lots=total[ends] - total[ends - sizes],
        first_ns=times[0] if times else -1,
        last_ns=times[-1] if times else -1,
    )


def read_days(symbol: Symbol, trades: Iterable[Trades], section: StreamSection, device: torch.device) -> Days:
    """The days of a symbol's trades, given in consecutive chunks."""
    nothing = torch.empty(0, dtype=torch.int64, device=device)
    step_ns = parse_duration(section.returns)
    none = Days(symbol, nothing, nothing, nothing, nothing, nothing)
    return join([none, *(summary(chunk, step_ns) for chunk in trades)])


def statistics(days: Days, step_ns: int) -> Tensor:
    """[M, 6] float64: COLUMNS of the days with a trade."""
    row = torch.searchsorted(days.day, days.step * step_ns // DAY_NS)
    first = torch.ones_like(row, dtype=torch.bool)
    first[1:] = row.diff() > 0
    before = torch.where(first, days.open_ticks[row], days.close_ticks.roll(1))
    returns = elementwise.log(days.close_ticks.double() / before.double())
    table = returns.new_zeros(len(days.day), DAY_NS // step_ns)
    filled = torch.zeros_like(table, dtype=torch.bool)
    place = (row, days.step % (DAY_NS // step_ns))
    table[place], filled[place] = returns, True
    count = filled.sum(1).double()
    mean = _sum(table) / count
    away = torch.where(filled, table - mean[:, None], 0.0)
    square = away * away
    m2, m3, m4 = (_sum(power) / count for power in (square, square * away, square * square))
    std, spread = m2.sqrt(), m2 > 0
    skew = torch.where(spread, m3 / (m2 * std), 0.0)
    kurtosis = torch.where(spread, m4 / (m2 * m2) - 3.0, 0.0)
    volume = elementwise.log(1.0 + days.lots.double())
    return torch.stack((mean, std, skew, kurtosis, volume, _sum(table * table).sqrt()), 1)


def _sum(table: Tensor) -> Tensor:
    """[M]: row sums by halves, element by element: the bits of a row do not depend on how many rows there are."""
    width = 1 << max(table.shape[1] - 1, 0).bit_length()
    table = torch.nn.functional.pad(table, (0, width - table.shape[1]))
    while table.shape[1] > 1:
        table = table[:, ::2] + table[:, 1::2]
    return table[:, 0]


def daily_rows(name: str, section: StreamSection, parts: Sequence[Days], until_ns: int) -> Rows:
    """Rows of a `from: daily` stream, one part per symbol: pooled, or side by side where `assets` asks for it.

    Args:
        name: of the stream.
        section: of the stream.
        parts: the days of each symbol.
        until_ns: a time that has been reached; days that end later are not closed.
    """
    closed = max([until_ns, *(part.last_ns for part in parts)]) // DAY_NS
    begins = [min(_first_whole_day(part, section), closed) for part in parts]
    aligned = section.assets != "own"
    if aligned:
        first = min(begins)
        stacked = torch.stack([_calendar(part, section, first, closed) for part in parts], 2)
        days, blocks = [torch.arange(first, closed, device=stacked.device)], [stacked.flatten(1)]
    else:
        device = parts[0].day.device
        days = [torch.arange(first, closed, device=device) for first in begins]
        blocks = [_calendar(part, section, first, closed) for part, first in zip(parts, begins, strict=True)]
    offsets = tuple(accumulate(map(len, days), initial=0))
    assets = tuple(part.symbol.name for part in parts)
    end_ns = (torch.cat(days) + 1) * DAY_NS
    return checked(
        Rows(
            name=name,
            section=section,
            columns=tuple(f"{column}_{asset}" for column in COLUMNS for asset in assets) if aligned else COLUMNS,
            values=torch.cat(blocks),
            time_ns=end_ns,
            known_ns=end_ns + parse_duration(section.latency),
            offsets=offsets,
            first=offsets[:-1],
            missing=torch.zeros_like(end_ns, dtype=torch.bool),
            ready=torch.ones_like(end_ns, dtype=torch.bool),
            assets=assets if aligned else (),
            missing_cells={part.symbol.name: _without_trades(part, closed, section) for part in parts},
        )
    )


def _first_whole_day(part: Days, section: StreamSection) -> int:
    """The first day that the record shows from its beginning; a day that never comes where there is no trade."""
    if part.first_ns < 0:
        return 1 << 62
    late = part.first_ns % DAY_NS >= parse_duration(section.returns)
    return part.first_ns // DAY_NS + late


def _calendar(part: Days, section: StreamSection, first: int, closed: int) -> Tensor:
    """[closed - first, 6]: every day from `first` on that has closed."""
    made = torch.full((closed - first, len(COLUMNS)), float("nan"), dtype=torch.float64, device=part.day.device)
    begin = _first_whole_day(part, section)
    made[max(begin - first, 0) :, VOLUME] = 0.0
    inside = (part.day >= max(first, begin)) & (part.day < closed)
    made[part.day[inside] - first] = statistics(part, parse_duration(section.returns))[inside]
    return made


def _without_trades(part: Days, closed: int, section: StreamSection) -> int:
    begin = min(_first_whole_day(part, section), closed)
    return closed - begin - int(((part.day >= begin) & (part.day < closed)).sum())
