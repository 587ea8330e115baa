"""What values alone tell: a warm-up other than declared, NaN and infinity after it, columns that never change.

Axes: R rows of one resolution, F its columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gpu_pipeline.features._audit import Finding, Tables
from gpu_pipeline.features._book import BookRows
from gpu_pipeline.features._set import Choice
from gpu_pipeline.features.engine import Engine, Rows

ROWS_AT_ONCE = 1 << 15


@dataclass
class Values:
    """What was seen of one resolution.

    Attributes:
        rows: how many rows.
        failures: warm-up and finiteness.
        warnings: columns without a value because the data end within their warm-up, and constant ones.
    """

    rows: int = 0
    failures: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)


def look_through(engine: Engine, name: str, table: Rows) -> Values:
    """Looks through one resolution's columns on its own rows, in pieces.

    A missing cell of the book has no value by definition: it is left out.
    """
    rows = table.select(table.valid) if isinstance(table, BookRows) else table
    columns, found = engine.own_columns(name), Values(len(rows))
    first: dict[tuple[str, str], Finding] = {}
    spread = torch.full((2, len(columns)), torch.inf, dtype=torch.float64, device=rows.device)
    state = engine.start_own(name, rows.device)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        values, state = engine.step_own(name, rows.select(slice(start, start + ROWS_AT_ONCE)), state)
        for finding in _wrong(engine, columns, values, start, len(rows)):
            first.setdefault((finding.check, finding.column), finding)
        spread = torch.minimum(spread, torch.stack((_least(values), _least(-values))))
    found.failures = list(first.values())
    found.warnings = list(_idle(engine, columns, len(rows), spread[0].tolist(), (-spread[1]).tolist()))
    return found


def check_warmup(choices: Sequence[Choice], tables: Tables) -> list[Finding]:
    """Whether each column of each resolution has a finite value from its declared row on, and none before."""
    engine = Engine(choices, tuple(tables))
    return [finding for name, table in tables.items() for finding in look_through(engine, name, table).failures]


def _least(values: Tensor) -> Tensor:
    return torch.where(torch.isfinite(values), values, torch.inf).amin(dim=0)


def _wrong(engine: Engine, columns: Sequence[str], values: Tensor, start: int, rows: int) -> Iterator[Finding]:
    declared = torch.tensor([engine.warmup[column] for column in columns], device=values.device)
    row = torch.arange(start, start + len(values), device=values.device)[:, None]
    empty = torch.isnan(values)
    early, late, infinite = ~empty & (row < declared), empty & (row >= declared), torch.isinf(values)
    for index in (early | late | infinite).any(dim=0).nonzero().flatten().tolist():
        column, until = columns[index], min(engine.warmup[columns[index]], rows)
        if bool(early[:, index].any()):
            yield Finding("warm-up", column, f"has a value within its {until:,} rows of warm-up")
        for mask, check, told in (
            (late, "warm-up", f"declares {until:,} rows, but row {{:,}} has no value"),
            (infinite, "finite", "is infinite at row {:,}"),
        ):
            if bool(mask[:, index].any()):
                yield Finding(check, column, told.format(start + int(mask[:, index].nonzero()[0])))


def _idle(
    engine: Engine, columns: Sequence[str], rows: int, least: Sequence[float], most: Sequence[float]
) -> Iterator[Finding]:
    for column, low, high in zip(columns, least, most, strict=True):
        warmup = engine.warmup[column]
        if rows <= warmup:
            yield Finding("no value", column, f"needs {warmup + 1:,} rows of {rows:,}")
        elif low == high and rows > warmup + 1:
            yield Finding("constant", column, f"is {low:g} in all {rows - warmup:,} rows")
