"""Cleaning as a fold: raw pieces in, exact trades in trade order out (DESIGN 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Symbol, Tensor, Trades
from gpu_pipeline.ingest import _order
from gpu_pipeline.ingest._faults import NAMES, fault_error, faults
from gpu_pipeline.ingest._order import Last, Rows
from gpu_pipeline.ingest._quote import mismatches, notional_of
from gpu_pipeline.ingest._raw import RawTrades, Values
from gpu_pipeline.ingest._scales import OffStepError, to_units

GAPS_SHOWN = 5
COUNTS = ("rows_in", "rows_out", "duplicates", "before_start", "rows_sorted", "times_set_back", "quote_mismatches")


@dataclass(frozen=True)
class Rules:
    """What is kept: bad rows, bounds in time, how many trades; and the last decimal of the quote quantities."""

    on_bad_row: Literal["error", "drop"] = "error"
    start_ns: int | None = None
    end_ns: int | None = None
    limit: int | None = None
    quote_step: Decimal | None = None


@dataclass(frozen=True)
class Counts:
    """What reading counted so far, as plain numbers: rows_in = rows_out + duplicates + before_start + all dropped."""

    rows_in: int = 0
    rows_out: int = 0
    duplicates: int = 0
    before_start: int = 0
    rows_sorted: int = 0
    times_set_back: int = 0
    quote_mismatches: int = 0
    id_gaps: int = 0
    ids_missing: int = 0
    first_gaps: tuple[tuple[int, int], ...] = ()
    dropped: Mapping[str, int] | None = None

    def plus(self, dropped: Mapping[str, int], gaps: tuple[tuple[int, int], ...], **counts: int) -> Counts:
        """The counts with one piece added."""
        raised: dict[str, Any] = {name: getattr(self, name) + count for name, count in counts.items()}
        total = dict(self.dropped or {})
        for name, count in dropped.items():
            total[name] = total.get(name, 0) + count
        return replace(self, **raised, dropped=total, first_gaps=(*self.first_gaps, *gaps)[:GAPS_SHOWN])

    def to_json(self) -> dict[str, Any]:
        """Plain values for manifests."""
        values = {name: getattr(self, name) for name in COUNTS}
        gaps = {"count": self.id_gaps, "missing": self.ids_missing, "first": [list(gap) for gap in self.first_gaps]}
        return {**values, "dropped": dict(sorted((self.dropped or {}).items())), "id_gaps": gaps}


@dataclass(frozen=True)
class State:
    """What one piece hands to the next.

    Attributes:
        has_id: the source has ids; None before the first piece.
        has_side: the source has sides; None before the first piece.
        last: the last trade seen, kept or not.
        time_ns: the latest time seen.
        kept_id: id of the last trade kept.
        done: nothing that follows can be kept.
    """

    rules: Rules = Rules()
    has_id: bool | None = None
    has_side: bool | None = None
    last: Last | None = None
    time_ns: int | None = None
    kept_id: int | None = None
    counts: Counts = Counts()
    done: bool = False


def clean(raw: RawTrades, symbol: Symbol, state: State) -> tuple[Trades, State]:
    """Scales, sorts, drops duplicates, mends times and cuts one piece of one file.

    A file whose rows are out of order must come as one piece; all else may be cut anywhere, with the same result.

    Raises:
        InputError: a rule of DESIGN 4.2 is broken; names file, row (data rows, from 1), rule and value.
    """
    state = _same_columns(raw, state)
    broken = faults(raw)
    rows, out_of_order = _order.in_order(_scaled(raw, symbol, broken), state.last)
    repeat = _order.repeats(rows, state.last)
    time_ns = _order.running_time(rows.time_ns, state.time_ns)
    left_out = _either(repeat, _early(time_ns, state.rules.start_ns))
    stop, examined, done = _stop(rows, time_ns, left_out, state)
    _order.check_repeats(rows, repeat, state.last, stop)
    dropped = _dropped(raw, broken, examined, state.rules)
    chosen = slice(0, stop) if left_out is None else (~left_out[:stop]).nonzero().flatten()
    kept = rows.pick(chosen)
    trades = _trades(kept, time_ns[chosen], symbol, state)
    gaps, missing, first_gaps = _gaps(trades.trade_id, state.kept_id)
    duplicates = _count(repeat, stop)
    counts = state.counts.plus(
        dropped,
        first_gaps,
        rows_in=examined,
        rows_out=len(trades),
        duplicates=duplicates,
        before_start=_count(left_out, stop) - duplicates,
        rows_sorted=out_of_order,
        times_set_back=_set_back(rows, time_ns, repeat, stop),
        quote_mismatches=mismatches(kept, trades, state.rules.quote_step),
        id_gaps=gaps,
        ids_missing=missing,
    )
    return replace(trades, report=counts.to_json()), _moved(state, rows, time_ns, trades, counts, done)


def _moved(state: State, rows: Rows, time_ns: Tensor, trades: Trades, counts: Counts, done: bool) -> State:
    seen = len(rows) > 0
    return replace(
        state,
        last=rows.last() if seen else state.last,
        time_ns=int(time_ns[-1]) if seen else state.time_ns,
        kept_id=int(trades.trade_id[-1]) if len(trades) else state.kept_id,
        counts=counts,
        done=done,
    )


# A mask is None where no row is meant, which is nearly always: then nothing is copied.
def _either(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first | second


def _early(time_ns: Tensor, start_ns: int | None) -> Tensor | None:
    if start_ns is None or not len(time_ns) or int(time_ns[0]) >= start_ns:
        return None
    return time_ns < start_ns


def _count(mask: Tensor | None, stop: int) -> int:
    return 0 if mask is None else int(mask[:stop].sum())


def _set_back(rows: Rows, time_ns: Tensor, repeat: Tensor | None, stop: int) -> int:
    if time_ns is rows.time_ns:
        return 0
    back = rows.time_ns < time_ns
    return _count(back if repeat is None else back & ~repeat, stop)


def _same_columns(raw: RawTrades, state: State) -> State:
    for name, had, has in (
        ("trade_id", state.has_id, raw.trade_id is not None),
        ("is_buyer_maker", state.has_side, raw.is_buyer_maker is not None),
    ):
        if had is not None and had != has:
            rule = f"{'has' if has else 'lacks'} the column {name}, unlike the files before it"
            raise InputError.at(raw.file, rule, fix="read such files apart, or map the column to null")
    return replace(state, has_id=raw.trade_id is not None, has_side=raw.is_buyer_maker is not None)


def _scaled(raw: RawTrades, symbol: Symbol, broken: Tensor | None) -> Rows:
    place = torch.arange(len(raw), device=raw.time_ns.device)
    good = raw
    if broken is not None:
        place = (broken == 0).nonzero().flatten()
        good = raw.map(lambda column: column[place])
    side = good.is_buyer_maker
    return Rows(
        file=raw.file,
        first_row=raw.first_row,
        place=place,
        time_ns=good.time_ns,
        price_ticks=_units(good.price, symbol.price_tick, raw, place, "price"),
        quantity_lots=_units(good.quantity, symbol.quantity_lot, raw, place, "quantity"),
        is_buyer_maker=torch.zeros_like(place, dtype=torch.bool) if side is None else side,
        trade_id=good.trade_id,
        quote=good.base_quantity if symbol.inverse else good.quote_quantity,
        total=len(raw),
    )


def _units(values: Values, step: Decimal, raw: RawTrades, place: Tensor, name: str) -> Tensor:
    try:
        return to_units(values, step)
    except OffStepError as error:
        row = raw.first_row + int(place[error.position]) + 1
        key = "price_tick" if name == "price" else "quantity_lot"
        fix = f"mend the file, or set a finer {key} under symbols"
        raise InputError.at(raw.file, f"{name} {error.rule}", row=row, value=error.value, fix=fix) from error


def _stop(rows: Rows, time_ns: Tensor, left_out: Tensor | None, state: State) -> tuple[int, int, bool]:
    """Positions before `stop` count, as do the first `examined` rows of the piece; done: nothing more can be kept."""
    stop, examined, done = len(rows), rows.total, False
    if state.rules.end_ns is not None and len(rows) and int(time_ns[-1]) >= state.rules.end_ns:
        stop = int(torch.searchsorted(time_ns, state.rules.end_ns))
        examined, done = int(rows.place[stop]), True
    if state.rules.limit is not None:
        kept = rows.place[:stop] if left_out is None else rows.place[:stop][~left_out[:stop]]
        left = state.rules.limit - state.counts.rows_out
        if len(kept) >= left:
            examined, done = int(kept[left - 1]) + 1, True
            stop = left if left_out is None else int((~left_out[:stop]).nonzero()[left - 1]) + 1
    return stop, examined if rows.as_in_file else rows.total, done


def _dropped(raw: RawTrades, broken: Tensor | None, examined: int, rules: Rules) -> dict[str, int]:
    if broken is None:
        return {}
    codes = broken[:examined]
    bad = codes.nonzero().flatten()
    if len(bad) and rules.on_bad_row == "error":
        raise fault_error(raw, int(bad[0]), int(codes[bad[0]]))
    return {name: count for code, name in enumerate(NAMES) if code and (count := int((codes == code).sum()))}


def _trades(rows: Rows, time_ns: Tensor, symbol: Symbol, state: State) -> Trades:
    first = state.counts.rows_out
    ids = rows.trade_id
    return Trades(
        symbol=symbol,
        time_ns=time_ns,
        price_ticks=rows.price_ticks,
        quantity_lots=rows.quantity_lots,
        notional=notional_of(rows, symbol),
        trade_id=torch.arange(first, first + len(rows), device=time_ns.device) if ids is None else ids,
        is_buyer_maker=rows.is_buyer_maker,
        first_row=first,
        has_side=bool(state.has_side),
    )


def _gaps(trade_id: Tensor, before: int | None) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    """How many gaps, how many ids are missing, and the first few gaps as (id before, id after)."""
    if before is not None:
        trade_id = torch.cat([trade_id.new_tensor([before]), trade_id])
    if not len(trade_id) or int(trade_id[-1]) - int(trade_id[0]) == len(trade_id) - 1:
        return 0, 0, ()
    steps = torch.diff(trade_id)
    at = (steps > 1).nonzero().flatten()
    first = tuple((int(trade_id[i]), int(trade_id[i + 1])) for i in at[:GAPS_SHOWN])
    return len(at), int((steps[at] - 1).sum()), first
