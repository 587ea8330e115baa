"""Which checks an audit of features runs on which rows of a symbol, and what comes of them.

A fold is repeated many times, so it is checked on the first and on the last `SLICE_ROWS` rows of the base, each as if
it were all there is. Values are looked through on the first and last `VALUE_ROWS` rows of every resolution. Everything
runs on the CPU; where there is a GPU its numbers are compared with those.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Features
from gpu_pipeline.features import _audit, _state
from gpu_pipeline.features._audit import Finding, Tables, arrival, base_of
from gpu_pipeline.features._audit_values import Values, look_through
from gpu_pipeline.features._book import BookRows
from gpu_pipeline.features._evaluate import State
from gpu_pipeline.features._set import Choice
from gpu_pipeline.features.engine import Engine, Rows, suffix

SLICE_ROWS, VALUE_ROWS = 10_000, 500_000
RANDOM_ROWS, ROWS_BY_CLOSES, CUTS, SINGLE_ROWS = 3, 6, 12, 100
CPU = torch.device("cpu")
ENDS = (slice(None, VALUE_ROWS), slice(-VALUE_ROWS, None))

Check = tuple[str, Callable[[], Iterable[Finding]]]


@dataclass
class Result:
    """What an audit found about one symbol.

    Attributes:
        rows: of the base.
        audited: rows of the base on which folds were repeated.
        checks: how many were run.
        notes: what else is worth saying: what did not run, and why.
    """

    symbol: str
    columns: int
    rows: int
    audited: int
    checks: int = 0
    failures: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """One line per column that fails: its first finding, and in which other checks it fails."""
        for column, found in by_column(self.failures).items():
            others = dict.fromkeys(other.check for other in found if other.check != found[0].check)
            more = f"; also {', '.join(others)}" if others else ""
            yield f"{self.symbol}: {column}: {found[0].check}: {found[0].detail}{more}"

    def remarks(self) -> Iterator[str]:
        """Warnings and notes, a line each; columns without a value are named together."""
        short = [found for found in self.warnings if found.check == "no value"]
        if short:
            columns = ", ".join(f"{found.column} ({found.detail})" for found in short)
            yield f"{self.symbol}: warning: {len(short):,} columns have no value: {columns}"
        alone = [found for found in self.warnings if found.check != "no value"]
        yield from (f"{self.symbol}: warning: {found.column} {found.detail}" for found in alone)
        yield from (f"{self.symbol}: {note}" for note in self.notes)

    def summary(self) -> str:
        """Columns, rows, checks, failures."""
        part = "" if self.audited == self.rows else f", folds on {self.audited:,} of them"
        failed = f"{self.checks:,} checks, {len(by_column(self.failures)):,} failures"
        return f"{self.symbol}: {self.columns:,} columns, {self.rows:,} rows{part}, {failed}"


class Slice:
    """A stretch of a symbol's rows with the checks of its folds; what one call gives is computed once."""

    def __init__(self, engine: Engine, tables: Tables, tolerance: Mapping[str, float], seed: int) -> None:
        self.engine, self.tables, self.tolerance = engine, tables, tolerance
        self._random = np.random.default_rng(seed)
        self._arrivals = {name: arrival(name, table, base_of(tables)) for name, table in tables.items()}

    @cached_property
    def whole(self) -> Features:
        """One call over everything."""
        return _audit.run_whole(self.engine, self.tables)

    def checks(self, grouped: Engine, device: torch.device, folder: Path) -> Iterator[Check]:
        """The checks by name; `folder` is for states."""
        chunks = partial(_audit.check_chunks, self.engine, self.tables, whole=self.whole)
        for row in self._rows():
            yield "look-ahead", partial(_audit.check_future, self.engine, self.tables, row, self.whole)
        yield "chunks", partial(chunks, self._cuts(CUTS))
        yield "bar by bar", partial(chunks, self._single(), check="bar by bar")
        yield "restored state", partial(chunks, self._cuts(2), check="restored state", between=self._through(folder))
        yield "grouped", partial(self._against, "grouped against tape", grouped, CPU)
        if device.type == "cuda":
            yield "cuda", partial(self._against, "cuda against cpu", self.engine, device)

    def _rows(self) -> list[int]:
        """Trade rows: some at random, and some at which a row of another resolution arrives or is about to."""
        base = self._arrivals[self.engine.base]
        closes = [rows[self._random.integers(0, len(rows))] for rows in self._others() if len(rows)]
        near = [int(row) - before for row in closes for before in (0, 1)]
        chosen = self._random.permutation(near)[:ROWS_BY_CLOSES].tolist()
        return sorted({int(base[0]), *self._cuts(RANDOM_ROWS), *chosen})

    def _others(self) -> list[torch.Tensor]:
        return [rows for name, rows in self._arrivals.items() if name != self.engine.base]

    def _cuts(self, count: int) -> list[int]:
        base = self._arrivals[self.engine.base]
        return sorted(self._random.integers(int(base[0]), int(base[-1]) + 1, count).tolist())

    def _single(self) -> list[int]:
        """Every arrival within a stretch of `SINGLE_ROWS` rows of the base."""
        base = self._arrivals[self.engine.base]
        first = int(self._random.integers(0, max(1, len(base) - SINGLE_ROWS)))
        low, high = int(base[first]), int(base[min(first + SINGLE_ROWS, len(base) - 1)])
        return sorted({row for rows in self._arrivals.values() for row in rows.tolist() if low <= row <= high})

    def _through(self, folder: Path) -> Callable[[State], State]:
        def through(state: State) -> State:
            return _state.load_state(_state.save_state(folder, self.engine, state), self.engine, CPU)

        return through

    def _against(self, check: str, engine: Engine, device: torch.device) -> list[Finding]:
        tables = {name: moved(table, device) for name, table in self.tables.items()}
        got = _audit.run_whole(engine, tables).values
        return _audit.check_devices(check, self.engine, self.tolerance, self.whole.values, got)


def audit(
    choices: Sequence[Choice],
    tables: Tables,
    *,
    resolutions: Sequence[str] | None = None,
    include: Sequence[str] | None = None,
    live: Callable[[Engine], tuple[Features | None, str]] | None = None,
    device: torch.device = CPU,
    seed: int = 0,
    slice_rows: int = SLICE_ROWS,
    told: Callable[[str], None] = lambda note: None,
) -> Result:
    """Runs every check of a feature set on one symbol's bars (and book) on the CPU.

    Args:
        choices: the set.
        tables: resolution -> rows, the base first, complete bars only.
        resolutions: all there are, where `tables` holds those alone that have a feature.
        include: columns that are kept; None keeps all.
        live: gives the features of the first trades folded one by one (None: no bar closed), and how that was done.
        device: whose numbers are compared with the CPU's where it is a GPU.
        seed: of the random rows.
        slice_rows: rows of the base at either end on which folds are checked.
        told: hears the name of every check that is done.

    Raises:
        InputError: there is no bar.
    """
    names = tuple(resolutions or tables)
    engine, grouped = (Engine(choices, names, include=include, grouped=flag) for flag in (False, True))
    base = base_of(tables)
    if not len(base):
        raise InputError(
            f"features: there is no complete bar {base.name} of {base.symbol.name} to audit; use more trades"
        )
    parts = slices(tables, slice_rows)
    result = Result(base.symbol.name, len(engine.names), len(base), sum(len(base_of(part)) for part in parts))
    for name, table in tables.items():
        _values(result, engine, name, table)
        told("values")
    tolerance = tolerances(choices, names)
    with tempfile.TemporaryDirectory() as folder:
        for number, part in enumerate(parts):
            for check, run in Slice(engine, part, tolerance, seed + number).checks(grouped, device, Path(folder)):
                result.failures += run()
                result.checks += 1
                told(check)
    if device.type != "cuda":
        result.notes.append("CPU against CUDA did not run: the device of the run is cpu")
    if live is not None:
        _live(result, engine, tables, *live(engine))
        told("live")
    return result


def slices(tables: Tables, rows: int) -> list[Tables]:
    """The first and the last `rows` rows of the base with what arrives beside them; everything where that is more."""
    base = base_of(tables)
    if len(base) <= 2 * rows:
        return [tables]
    closes = arrival(next(iter(tables)), base, base)
    return [_audit.cut(tables, -1, int(closes[rows - 1])), _audit.cut(tables, int(closes[-rows - 1]), _audit.LAST)]


def tolerances(choices: Sequence[Choice], resolutions: Iterable[str]) -> dict[str, float]:
    """Column -> the largest difference between devices that its feature declares."""
    return {
        name + suffix(resolution): choice.feature.tolerance
        for resolution in resolutions
        for choice in choices
        for name in choice.feature.columns(choice.parameters)
    }


def moved(table: Rows, device: torch.device) -> Rows:
    """The rows on a device."""
    if isinstance(table, BookRows):
        return replace(table, **{name: getattr(table, name).to(device) for name in ("depth", "known_ns", "valid")})
    return replace(table, columns={name: column.to(device) for name, column in table.columns.items()})


def _values(result: Result, engine: Engine, name: str, table: Rows) -> None:
    if not engine.own_columns(name):
        return
    ends = [table] if len(table) <= 2 * VALUE_ROWS else [table.select(part) for part in ENDS]
    seen: list[Values] = [look_through(engine, name, end) for end in ends]
    for values in seen:
        result.checks += 1
        result.failures += values.failures
    kept = set.intersection(*({(found.check, found.column) for found in values.warnings} for values in seen))
    result.warnings += [found for found in seen[0].warnings if (found.check, found.column) in kept]


def _live(result: Result, engine: Engine, tables: Tables, live: Features | None, told: str) -> None:
    if live is None or not len(live):
        result.notes.append(f"live against batch: no bar closed ({told})")
        return
    until = int(live.last_trade_row[-1]) + 1
    whole = _audit.run_whole(engine, _audit.cut(tables, -1, until))
    result.failures += _audit.check_live(engine, whole, live)
    result.checks += 1
    result.notes.append(f"live against batch: {len(live):,} rows ({told})")


def by_column(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """The findings of each column."""
    columns: dict[str, list[Finding]] = {}
    for finding in findings:
        columns.setdefault(finding.column, []).append(finding)
    return columns
