"""What could be wrong with a feature set on some bars: look-ahead, dependence on chunks or on the device.

Each check returns findings, one per column; none is a pass. Bars are cut at trades: a bar made of trades is there once
its last trade is, a time bar once the trade after its last one is. `_audit_values.py` looks at the values themselves,
`_audit_plan.py` says which checks an audit runs on which rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gpu_pipeline.core.schema import TIME_COLUMNS, Bars, Features
from gpu_pipeline.core.units import DAY_NS
from gpu_pipeline.features._book import BookRows
from gpu_pipeline.features._evaluate import State
from gpu_pipeline.features._set import is_time_step
from gpu_pipeline.features.engine import Engine, Rows

Tables = Mapping[str, Rows]
ROWS = ("first_trade_row", "last_trade_row")
# How folders of time bars begin, whatever the resolution is called.
TIME_NAMES = "time_"
LAST = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Finding:
    """One column that fails a check, and how."""

    check: str
    column: str
    detail: str

    def __str__(self) -> str:
        return f"{self.check}: {self.column}: {self.detail}"


def same_bits(a: Tensor, b: Tensor) -> Tensor:
    """Where two float64 tensors hold the same bits; any NaN equals any NaN."""
    return (a.view(torch.int64) == b.view(torch.int64)) | ((a != a) & (b != b))


def base_of(tables: Tables) -> Bars:
    """The bars that the others are aligned to: the first."""
    base = next(iter(tables.values()))
    assert isinstance(base, Bars)
    return base


def arrival(name: str, table: Rows, base: Bars) -> Tensor:
    """[B] the trade row with which each row is there.

    Of a bar its last one, or the one after it where the bar ends by time; of a cell of the book that of the first bar
    of the base that may see it.
    """
    if isinstance(table, Bars):
        return table.last_trade_row + int(is_time_step(name) or table.name.startswith(TIME_NAMES))
    rows = torch.cat((base.last_trade_row, base.last_trade_row.new_full((1,), LAST - 1)))
    return rows[torch.searchsorted(base.close_timestamp.contiguous(), table.known_ns, right=True)]


def cut(tables: Tables, after: int, until: int) -> dict[str, Rows]:
    """The bars of every resolution that close with the trades after row `after`, up to row `until`."""
    edges, base = torch.tensor([after, until]), base_of(tables)
    pieces: dict[str, Rows] = {}
    for name, table in tables.items():
        first, last = torch.searchsorted(arrival(name, table, base).cpu(), edges, right=True).tolist()
        pieces[name] = table.select(slice(first, last))
    return pieces


def run_whole(engine: Engine, tables: Tables) -> Features:
    """One call over everything."""
    return engine.step(tables, engine.start(tables[engine.base].device))[0]


def run_chunks(
    engine: Engine, tables: Tables, cuts: Sequence[int], between: Callable[[State], State] = lambda state: state
) -> Tensor:
    """[B, F] of one call per stretch of trades; `between` may store and restore the state."""
    state = engine.start(tables[engine.base].device)
    edges = [-1, *sorted(cuts), LAST]
    parts = []
    for after, until in itertools.pairwise(edges):
        features, state = engine.step(cut(tables, after, until), state)
        state = between(state)
        parts.append(features.values)
    return torch.cat(parts)


def check_chunks(
    engine: Engine,
    tables: Tables,
    cuts: Sequence[int],
    whole: Features | None = None,
    *,
    check: str = "chunks",
    between: Callable[[State], State] = lambda state: state,
) -> list[Finding]:
    """Whether calls cut at the trade rows `cuts` give the bits of one call (`whole`, where it is at hand)."""
    wanted = (whole or run_whole(engine, tables)).values
    return list(differences(check, engine, wanted, run_chunks(engine, tables, cuts, between)))


def check_future(engine: Engine, tables: Tables, row: int, whole: Features | None = None) -> list[Finding]:
    """Whether anything at or before trade `row` changes when the later bars are cut off, or are others."""
    wanted = (whole or run_whole(engine, tables)).values
    past = cut(tables, -1, row)
    known = len(past[engine.base])
    found = list(differences("look-ahead (future cut off)", engine, wanted[:known], run_whole(engine, past).values))
    poisoned = run_whole(engine, poison(tables, row)).values[:known]
    return found + list(differences("look-ahead (future changed)", engine, wanted[:known], poisoned))


def check_live(engine: Engine, whole: Features, live: Features) -> list[Finding]:
    """Whether the rows that trades gave one by one are the first rows of the bits of one call over the run's bars."""
    rows = len(live)
    found = list(differences("live", engine, whole.values[:rows], live.values))
    if not torch.equal(whole.last_trade_row[:rows], live.last_trade_row):
        found.append(Finding("live", "(rows)", "bars close at other trades"))
    return found


def check_devices(
    check: str, engine: Engine, tolerance: Mapping[str, float], wanted: Tensor, got: Tensor
) -> list[Finding]:
    """Whether two devices agree within each column's tolerance, relative to its largest value; NaN at the same rows."""
    found = []
    for index, column in enumerate(engine.names):
        a, b = wanted[:, index], got[:, index].to(wanted.device)
        largest = torch.where(torch.isfinite(a), a, 0.0).abs().max() if len(a) else 0.0
        far = (a - b).abs() > tolerance[column] * largest
        differs = (a != b) & ((torch.isnan(a) != torch.isnan(b)) | torch.isinf(a) | torch.isinf(b) | far)
        if bool(differs.any()):
            found.append(Finding(check, column, _difference(a, b, int(differs.nonzero()[0]))))
    return found


def poison(tables: Tables, row: int) -> dict[str, Rows]:
    """The same rows, other in every column once they arrive after trade `row`; their order and trade rows stay."""
    base = base_of(tables)
    return {name: _poison(table, arrival(name, table, base) > row) for name, table in tables.items()}


def _poison(table: Rows, later: Tensor) -> Rows:
    if isinstance(table, BookRows):
        depth = torch.where(later[:, None, None], table.depth * 3 + 11, table.depth)
        return replace(table, depth=depth, known_ns=torch.where(later, table.known_ns + 3 * DAY_NS, table.known_ns))
    columns = {}
    for name, column in table.columns.items():
        if name in TIME_COLUMNS:
            other = column + 3 * DAY_NS + 7_200_000_000_123
        elif name in ROWS or column.dtype == torch.bool:
            other = column
        else:
            other = column * 3 + 11
        columns[name] = torch.where(later, other, column)
    return replace(table, columns=columns)


def differences(check: str, engine: Engine, wanted: Tensor, got: Tensor) -> Iterator[Finding]:
    """One finding per column whose bits differ."""
    if wanted.shape != got.shape:
        yield Finding(check, "(rows)", f"{len(got):,} rows instead of {len(wanted):,}")
        return
    differs = ~same_bits(wanted.contiguous(), got.contiguous())
    for index in differs.any(dim=0).nonzero().flatten().tolist():
        row = int(differs[:, index].nonzero()[0])
        yield Finding(check, engine.names[index], _difference(wanted[:, index], got[:, index], row))


def _difference(wanted: Tensor, got: Tensor, row: int) -> str:
    have, want = float(got[row]), float(wanted[row])
    detail = f"row {row:,} is {have!r} instead of {want!r}"
    if not (math.isnan(have) or math.isnan(want)):
        detail += f" ({abs(have - want):.3g} apart)"
    return detail
