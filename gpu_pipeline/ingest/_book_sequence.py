"""Sequencing as a fold: recorded messages in, the events that apply out, what was dropped counted (DESIGN 4.5)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookEvents, Symbol, Tensor
from gpu_pipeline.ingest._book_counts import Counts
from gpu_pipeline.ingest._depth import MESSAGE_COLUMNS, NAMES, RawDepth, id_error, id_faults, level_error, level_faults
from gpu_pipeline.ingest._raw import ReadRequest, mapped
from gpu_pipeline.ingest._scales import OffStepError, to_units
from kernels.book_sequence import APPLY, GAP, book_sequence


@dataclass(frozen=True)
class DepthRules:
    """How a feed chains, and what is done where it breaks."""

    chain: Literal["none", "spot", "futures"]
    on_gap: Literal["error", "wait"] = "error"
    on_time_back: Literal["count", "error"] = "count"


@dataclass(frozen=True)
class RawBook:
    """A piece of a depth feed and the rules of its source."""

    depth: RawDepth
    rules: DepthRules

    @property
    def file(self) -> Path:
        """The file that it came from."""
        return self.depth.file

    def nbytes(self) -> int:
        """Bytes of its columns."""
        return self.depth.nbytes()


@dataclass(frozen=True)
class State:
    """What one piece hands to the next.

    Attributes:
        chain: [2] int64, the state of `kernels.book_sequence`.
        last_id: final id of the last message that applied.
        time_ns: the latest time seen.
        known_ns: the latest time at which an event was known.
        applied: snapshots and messages that applied.
        done: nothing that follows can be kept.
    """

    chain: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.int64))
    last_id: int = -1
    time_ns: int = 0
    known_ns: int = 0
    applied: int = 0
    counts: Counts = field(default_factory=Counts)
    done: bool = False


def sequence(raw: RawBook, symbol: Symbol, request: ReadRequest, state: State) -> tuple[BookEvents, State]:
    """Judges, scales and orders one piece; any cutting into pieces gives the same events.

    Raises:
        InputError: a bad level or id, a gap or a time that steps back, where they are errors; names file and row.
    """
    rules = raw.rules
    depth, dropped = whole(raw.depth, request.on_bad_row, has_ids=rules.chain != "none")
    clock = torch.where(depth.time_ns >= 0, depth.time_ns, depth.known_ns)
    time_ns = running(clock, state.time_ns)
    depth, done = before(depth, time_ns, request.end_ns)
    columns = (depth.first_id, depth.final_id, depth.previous_id, depth.is_snapshot)
    codes, chain = book_sequence(*columns, rules.chain, state.chain)
    depth, codes, limited = _limited(depth, codes, request.limit, state.applied)
    clock, time_ns = clock[: len(depth)], time_ns[: len(depth)]
    if rules.on_gap == "error":
        _refuse_gap(depth, codes, state.last_id)
    applied = codes == APPLY
    back = applied & (clock < time_ns)
    if rules.on_time_back == "error" and bool(back.any()):
        raise back_error(depth, int(back.nonzero()[0]), clock, time_ns)
    # An event needs every message before it that applies, and is known after it happened.
    own = torch.where(applied | (codes == GAP), torch.maximum(depth.known_ns, time_ns), 0)
    known_ns = running(own, state.known_ns)
    early = 0 if request.start_ns is None else int((applied & (time_ns < request.start_ns)).sum())
    counts = state.counts.plus(depth, codes, dropped, times_set_back=int(back.sum()), before_start=early)
    events = _events(depth, codes, (time_ns, known_ns), symbol, request)
    last = applied.nonzero()
    moved = State(
        chain,
        int(depth.final_id[last[-1]]) if len(last) else state.last_id,
        _last(time_ns, state.time_ns),
        _last(known_ns, state.known_ns),
        state.applied + len(last),
        counts,
        done or limited,
    )
    return replace(events, report=counts.to_json()), moved


def running(values: Tensor, latest: int) -> Tensor:
    """[N] int64: the largest value so far, `latest` before the first."""
    return torch.cummax(torch.cat([values.new_tensor([latest]), values]), 0).values[1:]


def _last(values: Tensor, latest: int) -> int:
    return int(values[-1]) if len(values) else latest


def whole(depth: RawDepth, on_bad_row: str, *, has_ids: bool) -> tuple[RawDepth, dict[str, int]]:
    """The piece without bad levels and messages with bad ids, and how many of each there were."""
    codes = level_faults(depth)
    wrong = id_faults(depth) if has_ids else torch.zeros(len(depth), dtype=torch.bool)
    if codes is None and not bool(wrong.any()):
        return depth, {}
    if on_bad_row == "error":
        if codes is not None:
            at = int(codes.nonzero()[0])
            raise level_error(depth, at, int(codes[at]))
        raise id_error(depth, int(wrong.nonzero()[0]))
    good = torch.ones(len(depth.side), dtype=torch.bool) if codes is None else codes == 0
    dropped = {} if codes is None else {name: int((codes == at).sum()) for at, name in enumerate(NAMES) if at}
    dropped["message_ids"] = int(wrong.sum())
    return picked(depth, good, ~wrong), {name: count for name, count in dropped.items() if count}


def picked(depth: RawDepth, good: Tensor, right: Tensor) -> RawDepth:
    """The messages `right` [M] bool with their levels that are `good` [R] bool."""
    owner = torch.repeat_interleave(torch.arange(len(depth)), torch.diff(depth.offsets))
    level = good & right[owner]
    sizes = torch.bincount(owner[level], minlength=len(depth))[right]
    messages: dict[str, Any] = {name: getattr(depth, name)[right] for name in MESSAGE_COLUMNS}
    return replace(
        depth,
        **messages,
        offsets=torch.cat([sizes.new_zeros(1), torch.cumsum(sizes, 0)]),
        side=depth.side[level],
        price=mapped(depth.price, lambda column: column[level]),
        quantity=mapped(depth.quantity, lambda column: column[level]),
        level_row=depth.level_row[level],
        nulls={name: null[level] for name, null in depth.nulls.items()},
    )


def before(depth: RawDepth, time_ns: Tensor, end_ns: int | None) -> tuple[RawDepth, bool]:
    """Messages before `end`; whether that was the end."""
    if end_ns is None or not len(depth) or int(time_ns[-1]) < end_ns:
        return depth, False
    return depth.part(0, int(torch.searchsorted(time_ns, end_ns))), True


def _limited(depth: RawDepth, codes: Tensor, limit: int | None, applied: int) -> tuple[RawDepth, Tensor, bool]:
    """As many messages as are wanted of those that apply; whether that was the end."""
    places = (codes == APPLY).nonzero().flatten()
    if limit is None or len(places) + applied < limit:
        return depth, codes, False
    stop = int(places[limit - applied - 1]) + 1
    return depth.part(0, stop), codes[:stop], True


def _refuse_gap(depth: RawDepth, codes: Tensor, last_id: int) -> None:
    gaps = (codes == GAP).nonzero()
    if not len(gaps):
        return
    at = int(gaps[0])
    before = (codes[:at] == APPLY).nonzero()
    last = int(depth.final_id[before[-1]]) if len(before) else last_id
    named = f", after {int(depth.previous_id[at])}" if int(depth.previous_id[at]) >= 0 else ""
    rule = f"updates are missing: the book is at update id {last}, the message does not follow it"
    value = f"{int(depth.first_id[at])} to {int(depth.final_id[at])}{named}"
    fix = "give a snapshot for it, or set on_gap: wait to go on from the next snapshot"
    raise InputError.at(depth.file, rule, row=int(depth.row[at]), value=value, fix=fix)


def back_error(depth: RawDepth, at: int, clock: Tensor, time_ns: Tensor) -> InputError:
    """The error that names file and row of a message whose time steps back."""
    rule = f"its time steps back, behind {int(time_ns[at])} of a message before it"
    fix = "mend the clock, or set on_time_back: count"
    return InputError.at(depth.file, rule, row=int(depth.row[at]), value=int(clock[at]), fix=fix)


def _events(
    depth: RawDepth, codes: Tensor, times: tuple[Tensor, Tensor], symbol: Symbol, request: ReadRequest
) -> BookEvents:
    """Rows of the messages that apply, each snapshot behind a row that empties the book; a gap is such a row alone.

    Messages before `start` make the book that is there at `start`, which is the time that they get.
    """
    message, level = _layout(depth, codes)
    rows, columns = level[level >= 0], {}
    for name, step in (("price", symbol.price_tick), ("quantity", symbol.quantity_lot)):
        columns[name] = _filled(level, units(depth, name, rows, step))
    side = _filled(level, depth.side[rows])
    time_ns, known_ns = (column[message] for column in times)
    if request.start_ns is not None:
        time_ns, known_ns = time_ns.clamp(min=request.start_ns), known_ns.clamp(min=request.start_ns)
    found = (time_ns, known_ns, side, columns["price"], columns["quantity"], depth.final_id[message])
    moved: Any = (column.to(request.device) for column in found)
    return BookEvents(symbol, *moved)


def _layout(depth: RawDepth, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Of each event its message and its level, -1 where it empties the book."""
    empties = ((codes == GAP) | ((codes == APPLY) & depth.is_snapshot)).long()
    levels = torch.diff(depth.offsets) * (codes == APPLY)
    message = torch.repeat_interleave(torch.arange(len(depth)), levels + empties)
    starts = torch.cumsum(levels + empties, 0) - levels - empties
    within = torch.arange(len(message)) - starts[message] - empties[message]
    return message, torch.where(within < 0, -1, depth.offsets[message] + within)


def _filled(level: Tensor, values: Tensor) -> Tensor:
    made = torch.zeros_like(level)
    made[level >= 0] = values
    return made


def units(depth: RawDepth, name: str, rows: Tensor, step: Decimal) -> Tensor:
    """`price` or `quantity` of the levels `rows` as whole numbers of the step.

    Raises:
        InputError: a value is no multiple of it; names file and row.
    """
    try:
        return to_units(mapped(getattr(depth, name), lambda column: column[rows]), step)
    except OffStepError as error:
        row = int(depth.level_row[rows[error.position]])
        key = "price_tick" if name == "price" else "quantity_lot"
        fix = f"mend the file, or set a finer {key} under symbols"
        raise InputError.at(depth.file, f"{name} {error.rule}", row=row, value=error.value, fix=fix) from error
