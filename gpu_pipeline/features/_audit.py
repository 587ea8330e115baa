"""What could be wrong with a feature set on some bars: look-ahead, dependence on chunks, warm-up other than declared.

Each check returns findings, one per column; none is a pass. Bars are cut at trades: a bar made of trades is there once
its last trade is, a time bar once the trade after its last one is.
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
from gpu_pipeline.features._set import Choice, is_time_step
from gpu_pipeline.features.engine import Engine, Rows, suffix

Tables = Mapping[str, Rows]
ROWS = ("first_trade_row", "last_trade_row")


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
        return table.last_trade_row + int(is_time_step(name))
    rows = torch.cat((base.last_trade_row, base.last_trade_row.new_full((1,), torch.iinfo(torch.int64).max - 1)))
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
    edges = [-1, *sorted(cuts), torch.iinfo(torch.int64).max]
    parts = []
    for after, until in itertools.pairwise(edges):
        features, state = engine.step(cut(tables, after, until), state)
        state = between(state)
        parts.append(features.values)
    return torch.cat(parts)


def check_chunks(engine: Engine, tables: Tables, cuts: Sequence[int]) -> list[Finding]:
    """Whether calls cut at the trade rows `cuts` give the bits of one call."""
    whole = run_whole(engine, tables).values
    return list(_differences("chunks", engine, whole, run_chunks(engine, tables, cuts)))


def check_future(engine: Engine, tables: Tables, row: int) -> list[Finding]:
    """Whether anything at or before trade `row` changes when the later bars are cut off, or are others."""
    whole = run_whole(engine, tables).values
    past = cut(tables, -1, row)
    known = len(past[engine.base])
    found = list(_differences("look-ahead (future cut off)", engine, whole[:known], run_whole(engine, past).values))
    poisoned = run_whole(engine, poison(tables, row)).values[:known]
    return found + list(_differences("look-ahead (future changed)", engine, whole[:known], poisoned))


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


def check_warmup(choices: Sequence[Choice], tables: Tables) -> list[Finding]:
    """Whether each column of each resolution has a value from its declared row on, and none before."""
    found = []
    for name, table in tables.items():
        wanted = [choice for choice in choices if choice.wanted_on(name)]
        if wanted:
            engine = Engine(wanted, tuple(dict.fromkeys((next(iter(tables)), name))))
            # A missing cell of the book has no value by definition.
            rows = table.select(table.valid) if isinstance(table, BookRows) else table
            columns = [column for column in engine.names if column.endswith(suffix(name))]
            found += list(_warmup(engine, columns, engine.own_rows(name, rows)))
    return found


def _warmup(engine: Engine, columns: Sequence[str], values: Tensor) -> Iterator[Finding]:
    for index, column in enumerate(columns):
        declared = min(engine.warmup[column], len(values))
        empty = torch.isnan(values[:, index])
        if not bool(empty[:declared].all()):
            yield Finding("warm-up", column, f"has a value within its {declared:,} rows of warm-up")
        if bool(empty[declared:].any()):
            row = int(empty[declared:].nonzero()[0]) + declared
            yield Finding("warm-up", column, f"declares {declared:,} rows, but row {row:,} has no value")
        if bool(torch.isinf(values[:, index]).any()):
            yield Finding("finite", column, f"is infinite at row {int(torch.isinf(values[:, index]).nonzero()[0]):,}")


def _differences(check: str, engine: Engine, wanted: Tensor, got: Tensor) -> Iterator[Finding]:
    if wanted.shape != got.shape:
        yield Finding(check, "(rows)", f"{len(got):,} rows instead of {len(wanted):,}")
        return
    differs = ~same_bits(wanted.contiguous(), got.contiguous())
    for index in differs.any(dim=0).nonzero().flatten().tolist():
        row = int(differs[:, index].nonzero()[0])
        have, want = float(got[row, index]), float(wanted[row, index])
        detail = f"row {row:,} is {have!r} instead of {want!r}"
        if not (math.isnan(have) or math.isnan(want)):
            detail += f" ({abs(have - want):.3g} apart)"
        yield Finding(check, engine.names[index], detail)
