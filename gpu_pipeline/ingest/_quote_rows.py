"""Best bids and offers as they were recorded, and cleaning them as a fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Quotes, Symbol, Tensor
from gpu_pipeline.ingest._faults import WAY_OUT, number_checks
from gpu_pipeline.ingest._raw import ReadRequest, Units, Values, mapped
from gpu_pipeline.ingest._scales import OffStepError, to_units
from gpu_pipeline.ingest._tall import Rows

NUMBERS = ("bid_price", "bid_quantity", "ask_price", "ask_quantity")
CONTENT = ("bid_ticks", "bid_lots", "ask_ticks", "ask_lots")
_RULES = ("must be a number", "must be finite", "must be above 0", "must not be negative")
_COUNTS = ("rows_in", "rows_out", "duplicate", "out_of_order", "before_start", "times_set_back")


@dataclass(frozen=True)
class RawQuotes:
    """A piece of one file: Q quotes.

    Attributes:
        file: the file that they came from.
        first_row: rows of the file before this piece.
        time_ns: [Q] int64, the venue's time; the recorder's where there is none.
        known_ns: [Q] int64, the latest of all clocks.
        update_id: [Q] int64, -1 where there is none.
        numbers: NUMBERS -> [Q] float64, float32 or Units; NaN or empty where a side is missing.
        nulls: NUMBERS -> [Q] bool, True where empty.
        checked: how the file's bytes were verified.
    """

    file: Path
    first_row: int
    time_ns: Tensor
    known_ns: Tensor
    update_id: Tensor
    numbers: Mapping[str, Values]
    nulls: Mapping[str, Tensor] = field(default_factory=dict)
    checked: str = "none there"

    def __len__(self) -> int:
        return len(self.time_ns)

    @classmethod
    def of(cls, rows: Rows) -> RawQuotes:
        """Rows of a table."""
        found = {name: rows.numbers(name) for name in NUMBERS}
        venue, latest = rows.clocks()
        return cls(
            rows.file,
            rows.first_row,
            torch.where(venue >= 0, venue, latest),
            latest,
            rows.ids("update_id"),
            {name: values for name, (values, _) in found.items()},
            {name: null for name, (_, null) in found.items() if null is not None},
            rows.checked,
        )

    def nbytes(self) -> int:
        """Bytes of its columns."""
        plain = [values.units if isinstance(values, Units) else values for values in self.numbers.values()]
        return sum(column.nbytes for column in (self.time_ns, self.known_ns, self.update_id, *plain))

    def missing(self, side: str) -> Tensor:
        """[Q] bool: the side has no quantity, or neither a price nor a quantity."""
        quantity = self.numbers[f"{side}_quantity"]
        plain = quantity.units if isinstance(quantity, Units) else quantity
        return (plain == 0) | (self._empty(f"{side}_quantity") & self._empty(f"{side}_price"))

    def _empty(self, name: str) -> Tensor:
        values = self.numbers[name]
        plain = values.units if isinstance(values, Units) else values
        return torch.isnan(plain) | self.nulls.get(name, torch.zeros(len(self), dtype=torch.bool))


def faults(raw: RawQuotes) -> tuple[Tensor, dict[int, tuple[str, str]]]:
    """[Q] int64 code of the first rule that a row breaks, 0 for none; and code -> (column, rule)."""
    found = torch.zeros(len(raw), dtype=torch.int64)
    rules: dict[int, tuple[str, str]] = {}
    for at, name in enumerate(NUMBERS):
        there = ~raw.missing(name.split("_")[0])
        zero_allowed = name.endswith("quantity")
        for kind, mask in number_checks(raw.numbers[name], raw.nulls.get(name), 0, zero_allowed=zero_allowed):
            code = 1 + 4 * at + kind
            rules[code] = (name, _RULES[kind + (kind == 2 and zero_allowed)])
            if mask is not None:
                found = torch.where((found == 0) & mask & there, code, found)
    return found, rules


def error(raw: RawQuotes, at: int, column: str, rule: str) -> InputError:
    """The error that names file, row, rule and value."""
    values = raw.numbers[column]
    value: object = f"{values.step * int(values.units[at])}" if isinstance(values, Units) else values[at].item()
    name = column.replace("_", " ")
    return InputError.at(raw.file, f"{name} {rule}", row=raw.first_row + at + 1, value=value, fix=WAY_OUT)


@dataclass(frozen=True)
class State:
    """What one piece hands to the next: the last quote, the latest times, what was counted."""

    last: tuple[int, ...] | None = None
    last_id: int = -1
    time_ns: int = 0
    known_ns: int = 0
    counts: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    dropped: Mapping[str, int] = field(default_factory=dict)
    done: bool = False

    def report(self) -> dict[str, Any]:
        """Plain values for manifests."""
        return {**self.counts, "dropped": dict(sorted(self.dropped.items()))}


def clean(raw: RawQuotes, symbol: Symbol, request: ReadRequest, state: State) -> tuple[Quotes, State]:
    """Scales, mends times, drops repeated rows and cuts one piece; any cutting gives the same quotes.

    Raises:
        InputError: a bad row, where it is an error; names file and row.
    """
    good, dropped = _good(raw, request.on_bad_row)
    columns = _scaled(raw, good, symbol)
    ids, times = raw.update_id[good], raw.time_ns[good]
    time_ns, known_ns = _running(times, state.time_ns), raw.known_ns[good]
    known_ns = _running(torch.maximum(known_ns, time_ns), state.known_ns)
    highest = _running(ids, state.last_id)
    before = torch.cat([highest.new_tensor([state.last_id]), highest[:-1]])
    behind = (ids >= 0) & (ids < before)
    repeated = _repeated(ids, columns, state)
    kept = ~behind & ~repeated
    early = kept & (time_ns < (request.start_ns or 0))
    kept, done = _until(kept & ~early, time_ns, request, state.counts["rows_out"])
    seen = len(kept)
    counts = {
        "rows_in": seen + sum(dropped.values()),
        "rows_out": int(kept.sum()),
        "duplicate": int(repeated[:seen].sum()),
        "out_of_order": int((behind & ~repeated)[:seen].sum()),
        "before_start": int(early[:seen].sum()),
        "times_set_back": int((kept & (times < time_ns)[:seen]).sum()),
    }
    rows = kept.nonzero().flatten()
    moved = State(
        tuple(int(column[seen - 1]) for column in (ids, *columns.values())) if seen else state.last,
        int(highest[seen - 1]) if seen else state.last_id,
        int(time_ns[seen - 1]) if seen else state.time_ns,
        int(known_ns[seen - 1]) if seen else state.known_ns,
        {name: state.counts[name] + counts[name] for name in _COUNTS},
        _plus(state.dropped, dropped),
        done,
    )
    found: Any = {"time_ns": time_ns, "known_ns": known_ns, "update_id": ids, **columns}
    cut: Any = {name: column[rows].to(request.device) for name, column in found.items()}
    return Quotes(symbol, **cut, report=moved.report()), moved


def _good(raw: RawQuotes, on_bad_row: str) -> tuple[Tensor, dict[str, int]]:
    """Positions of the good rows, and what was dropped."""
    codes, rules = faults(raw)
    bad = codes.nonzero().flatten()
    if len(bad) and on_bad_row == "error":
        raise error(raw, int(bad[0]), *rules[int(codes[bad[0]])])
    dropped: dict[str, int] = {}
    for code, (column, rule) in rules.items():
        if count := int((codes == code).sum()):
            dropped[f"{column} {rule}".replace(" ", "_")] = count
    return (codes == 0).nonzero().flatten(), dropped


def _scaled(raw: RawQuotes, good: Tensor, symbol: Symbol) -> dict[str, Tensor]:
    made = {}
    for name, ours in zip(NUMBERS, CONTENT, strict=True):
        there = good[~raw.missing(name.split("_")[0])[good]]
        step = symbol.price_tick if name.endswith("price") else symbol.quantity_lot
        whole = torch.zeros(len(raw), dtype=torch.int64)
        whole[there] = _units(raw, name, there, step)
        made[ours] = whole[good]
    return made


def _units(raw: RawQuotes, name: str, rows: Tensor, step: Decimal) -> Tensor:
    try:
        return to_units(mapped(raw.numbers[name], lambda column: column[rows]), step)
    except OffStepError as problem:
        row = raw.first_row + int(rows[problem.position]) + 1
        key = "price_tick" if name.endswith("price") else "quantity_lot"
        fix = f"mend the file, or set a finer {key} under symbols"
        rule = f"{name.replace('_', ' ')} {problem.rule}"
        raise InputError.at(raw.file, rule, row=row, value=problem.value, fix=fix) from problem


def _running(values: Tensor, latest: int) -> Tensor:
    return torch.cummax(torch.cat([values.new_tensor([latest]), values]), 0).values[1:]


def _repeated(ids: Tensor, columns: Mapping[str, Tensor], state: State) -> Tensor:
    """[Q] bool: the row before has the same id and content; rows without an id are never the same."""
    same = ids >= 0
    for at, column in enumerate((ids, *columns.values())):
        first = torch.tensor([state.last is not None and len(column) > 0 and int(column[0]) == state.last[at]])
        same &= torch.cat([first, column[1:] == column[:-1]])[: len(column)]
    return same


def _until(kept: Tensor, time_ns: Tensor, request: ReadRequest, rows_out: int) -> tuple[Tensor, bool]:
    """The rows before `end` and within `limit`; whether that was the end."""
    stop, done = len(kept), False
    if request.end_ns is not None and stop and int(time_ns[-1]) >= request.end_ns:
        stop, done = int(torch.searchsorted(time_ns, request.end_ns)), True
    places = kept[:stop].nonzero().flatten()
    if request.limit is not None and rows_out + len(places) >= request.limit:
        stop, done = int(places[request.limit - rows_out - 1]) + 1, True
    return kept[:stop], done


def _plus(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {name: counts.get(name, 0) + more.get(name, 0) for name in {**counts, **more}}


def without_missing(raw: RawQuotes, name: str) -> Tensor:
    """Positions of the rows whose number counts for the scales: good rows, sides that are there."""
    good = (faults(raw)[0] == 0) & ~raw.missing(name.split("_")[0])
    return good.nonzero().flatten()
