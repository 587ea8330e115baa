"""The fold over resolutions: bars in, feature rows of the base resolution out, in any chunking.

Each resolution's features are computed on its own rows. A row of the base (the short bars) then sees, of every other
resolution, the last row that was known: of bars made of trades the last with `last_trade_row` <= its own, of time bars
the last that ended at or before its own closing trade, of the book the last cell that was known before that trade. Rows
that no base row has seen yet wait in the state.

Axes: B rows of the base, R rows of another resolution, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from gpu_pipeline.core.errors import InputError, nearest
from gpu_pipeline.core.schema import Bars, Features
from gpu_pipeline.core.store import digest_of
from gpu_pipeline.features._book import BOOK, BookRows, read_levels
from gpu_pipeline.features._columns import read_columns
from gpu_pipeline.features._evaluate import Program, State, collect, columns_of
from gpu_pipeline.features._set import TIME_BARS, Choice, is_time_step
from gpu_pipeline.features._tape import empty_columns
from gpu_pipeline.features.expression import Expression

SHORT_NAMES = {"short": "s", "medium": "m", "long": "l"}
BEFORE_ALL = torch.iinfo(torch.int64).min
# Whose rows are counted where nothing else is read.
ANCHORS = {BOOK: "bid_price_1"}
Rows: TypeAlias = Bars | BookRows


def suffix(resolution: str) -> str:
    """`_db_s _db_m _db_l` of short, medium and long bars, `_db_NAME` of others, `_tb_1min` of time bars, `_ob`."""
    if resolution == BOOK:
        return "_ob"
    if is_time_step(resolution):
        return f"_tb_{resolution}"
    return f"_db_{SHORT_NAMES.get(resolution, resolution)}"


class Engine:
    """A feature set compiled for one symbol's resolutions.

    Attributes:
        resolutions: the names whose bars every call gets; the first is the base.
        names: F columns, of the base first.
        levels: columns that are levels.
        warmup: column -> rows of its own resolution that are NaN.
        fingerprint: equal where one engine can go on from the other's state.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        resolutions: Sequence[str] = ("short",),
        *,
        suffixes: bool = True,
        include: Sequence[str] | None = None,
        grouped: bool = False,
    ) -> None:
        """Compiles `choices`; without suffixes there is one resolution, and the choices' `on` is not looked at.

        `grouped` computes on the CPU as CUDA does, operation after operation.

        Raises:
            InputError: a feature wants a resolution that is not there, two columns have one name, or `include` names
                a column that the set does not make.
        """
        if not suffixes and len(resolutions) > 1:
            raise InputError(
                "features of several resolutions need suffixes, or their columns would have the same names"
            )
        _check_book(choices, resolutions)
        if suffixes:
            _check_resolutions(choices, resolutions)
        outputs, levels = _outputs(choices, resolutions, suffixes)
        kept = _select(outputs, include)
        if not any(kept.values()):
            raise InputError(f"features: the set makes no column for the resolutions {', '.join(resolutions)}")
        self._programs = {
            name: Program(part, anchor=ANCHORS.get(name, "close"), grouped=grouped)
            for name, part in kept.items()
            if part
        }
        self._readers = {name: _readers(kept[name], ANCHORS.get(name, "close")) for name in self._programs}
        self.resolutions = tuple(resolutions)
        self.names = tuple(name for program in self._programs.values() for name in program.names)
        self.levels = tuple(name for name in self.names if name in levels)
        self.warmup = {
            name: rows
            for program in self._programs.values()
            for name, rows in zip(program.names, program.warmup, strict=True)
        }
        self.fingerprint = digest_of({name: program.fingerprint for name, program in self._programs.items()})

    @property
    def base(self) -> str:
        """The resolution whose rows come out."""
        return self.resolutions[0]

    @property
    def needed(self) -> tuple[str, ...]:
        """The resolutions that `step` reads: the base, and those that have a feature."""
        return tuple(name for name in self.resolutions if name == self.base or name in self._programs)

    def start(self, device: torch.device) -> State:
        """The state before the first bar."""
        state: State = {}
        for name, program in self._programs.items():
            state |= _under(name, program.start(device))
            if name != self.base:
                width = len(program.names)
                keys = torch.full((1,), BEFORE_ALL, dtype=torch.int64, device=device)
                state[f"{name}/seen"] = (keys, torch.full((1, width), torch.nan, dtype=torch.float64, device=device))
        return state

    def step(self, bars: Mapping[str, Rows], state: State) -> tuple[Features, State]:
        """Features [B, F] of the base rows in a chunk, and the state after it.

        `bars` holds every resolution of `needed`: what closed in the same stretch of trades. Partial rows are left out.

        Raises:
            InputError: a resolution is missing, or bars lack a column that a feature needs.
        """
        complete = {name: _complete(bars, name) for name in self.needed}
        base = complete[self.base]
        assert isinstance(base, Bars)
        made, after, first = empty_columns(len(self.names), len(base), base.device), State(), 0
        for name, program in self._programs.items():
            own = made[first : first + len(program.names)]
            first += len(program.names)
            target = own if name == self.base else None
            values, inner = self.step_own(name, complete[name], _inside(name, state), target)
            after |= _under(name, inner)
            if name != self.base:
                keys, wanted = _keys(name, complete[name], base)
                after[f"{name}/seen"] = _align(keys, values, wanted, state[f"{name}/seen"], own)
        return self._table(base, made.t()), after

    def own_rows(self, name: str, rows: Rows) -> Tensor:
        """[R, F] of one resolution on its own rows, from its first row on."""
        return self.step_own(name, rows, self.start_own(name, rows.device))[0]

    def own_columns(self, name: str) -> tuple[str, ...]:
        """The columns of one resolution."""
        return self._programs[name].names if name in self._programs else ()

    def start_own(self, name: str, device: torch.device) -> State:
        """The state of one resolution before its first row."""
        return self._programs[name].start(device)

    def step_own(self, name: str, bars: Rows, state: State, out: Tensor | None = None) -> tuple[Tensor, State]:
        """[R, F] of the next rows of one resolution, in `out` [F, R] where given, and the state after them."""
        program = self._programs[name]
        if len(bars) == 0:
            return torch.empty(0, len(program.names), dtype=torch.float64, device=bars.device), state
        readers = self._readers[name]
        columns = read_levels(bars, readers) if isinstance(bars, BookRows) else read_columns(bars, readers)
        return program.step(columns, state, out)

    def _table(self, base: Bars, values: Tensor) -> Features:
        closed = base.close_timestamp
        return Features(
            symbol=base.symbol,
            names=self.names,
            values=values,
            time_ns=closed,
            known_ns=closed,
            last_trade_row=base.last_trade_row,
            levels=self.levels,
            warmup=self.warmup,
        )


def _align(keys: Tensor, values: Tensor, wanted: Tensor, seen: tuple[Tensor, ...], out: Tensor) -> tuple[Tensor, ...]:
    """Writes out [F, B]: for each of `wanted` [B] the values [R, F] of the last row with key <= it.

    Returns the state: that row and all later ones.
    """
    if not len(keys) and len(seen[0]) == 1:
        # Nothing new: what was seen last is seen again.
        out.copy_(seen[1].t().expand(-1, out.shape[1]))
        return seen
    keys, columns = torch.cat((seen[0], keys)), torch.cat((seen[1].t(), values.t()), dim=1)
    last = torch.searchsorted(keys, wanted, right=True) - 1
    torch.index_select(columns, 1, last, out=out)
    first_kept = int(last[-1]) if len(last) else 0
    return keys[first_kept:].clone(), columns[:, first_kept:].t().clone()


def _keys(name: str, bars: Rows, base: Bars) -> tuple[Tensor, Tensor]:
    """What decides visibility: the trade row at which a bar closed, when a time bar ended, when a cell was known."""
    if isinstance(bars, BookRows):
        return bars.known_ns, base.close_timestamp - 1
    if is_time_step(name):
        return bars.close_timestamp, base.close_timestamp.contiguous()
    if bool((bars.last_trade_row < 0).any()) or bool((base.last_trade_row < 0).any()):
        raise InputError(
            f"features: the bars {bars.name} of {bars.symbol.name} do not say at which trade they closed"
            " (last_trade_row is -1), so it is unknown when they were known; make them from trades, or use time bars"
        )
    return bars.last_trade_row, base.last_trade_row.contiguous()


def _complete(bars: Mapping[str, Rows], name: str) -> Rows:
    if name not in bars:
        raise InputError(f"features: no bars of the resolution '{name}'; there are {', '.join(bars) or 'none'}")
    rows = bars[name]
    if isinstance(rows, BookRows):
        return rows
    partial = rows.columns.get("is_partial")
    return rows if partial is None or not bool(partial.any()) else rows.complete()


def _inside(name: str, state: State) -> State:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): part for key, part in state.items() if key.startswith(prefix)}


def _under(name: str, state: State) -> State:
    return {f"{name}/{key}": part for key, part in state.items()}


def _check_book(choices: Sequence[Choice], resolutions: Sequence[str]) -> None:
    wanted = [choice.feature.name for choice in choices if choice.feature.of_book]
    if wanted and BOOK not in resolutions:
        raise InputError(
            f"features: '{wanted[0]}' is a feature of the book, and there is none; add the section book to the run file"
            " (gp.make_features: the depth tensor under the name 'book'), or leave it out"
        )


def _check_resolutions(choices: Sequence[Choice], resolutions: Sequence[str]) -> None:
    allowed = (*resolutions, TIME_BARS)
    for choice in choices:
        for name in choice.on or ():
            if name not in allowed:
                hint = nearest(name, allowed)
                raise InputError(
                    f"features: '{choice.feature.name}' is wanted on '{name}', but there are {', '.join(resolutions)}"
                    + (f"; did you mean '{hint}'?" if hint else "; add it to the section bars")
                )


def _outputs(
    choices: Sequence[Choice], resolutions: Sequence[str], suffixes: bool
) -> tuple[dict[str, dict[str, Expression]], set[str]]:
    """Resolution -> column -> expression, and which columns are levels."""
    outputs: dict[str, dict[str, Expression]] = {name: {} for name in resolutions}
    levels: set[str] = set()
    for resolution in resolutions:
        tail = suffix(resolution) if suffixes else ""
        for choice in choices:
            if suffixes and not choice.wanted_on(resolution):
                continue
            levels.update(name + tail for name in choice.feature.level_columns(choice.parameters))
            for name, node in choice.feature.columns(choice.parameters).items():
                _add(outputs[resolution], name + tail, node, choice)
    return outputs, levels


def _add(columns: dict[str, Expression], name: str, node: Expression, choice: Choice) -> None:
    before = columns.setdefault(name, node)
    if before.name != node.name:
        raise InputError(
            f"features: '{choice.feature.name}' makes the column '{name}', which another feature makes too"
        )


def _select(
    outputs: dict[str, dict[str, Expression]], include: Sequence[str] | None
) -> dict[str, dict[str, Expression]]:
    made = [name for part in outputs.values() for name in part]
    for name in include or ():
        if name not in made:
            hint = nearest(name, made)
            raise InputError(f"features.include: no column '{name}'" + (f"; did you mean '{hint}'?" if hint else ""))
    kept = set(made if include is None else include)
    return {name: {key: node for key, node in part.items() if key in kept} for name, part in outputs.items()}


def _readers(outputs: Mapping[str, Expression], anchor: str) -> dict[str, list[str]]:
    """Column -> the feature columns that need it; the anchor is always read."""
    readers: dict[str, list[str]] = {anchor: []}
    for name, node in outputs.items():
        for column in sorted(columns_of(collect([node])) | {anchor}):
            readers.setdefault(column, []).append(name)
    return readers
