"""The fold over bars made by others: time bars and groups of them, in any chunking (DESIGN 4.3, 4.4).

A time bar is the rows whose open lies in its bucket. It is complete once a row reaches the bucket's end or a later
bucket begins, so a bar that ended at T is there when the row that ends at T is. State maps `NAME.open` to the rows of
the open bar, and `NAME.last` to the last bar that closed; an empty mapping is the beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from gpu_pipeline.bars import time as time_bars
from gpu_pipeline.bars._fold import Chain
from gpu_pipeline.bars._pool import pool_bars
from gpu_pipeline.bars._time_grid import Grid
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars, Tensor
from gpu_pipeline.core.units import format_step, parse_duration

State = Mapping[str, Bars]


def step(bars: Bars, chains: Sequence[Chain], state: State) -> tuple[dict[str, Bars], dict[str, Bars]]:
    """Folds one piece of a symbol's bars; pieces follow each other in time.

    Returns:
        (made, state): per resolution the bars that closed, and the state after the piece.

    Raises:
        InputError: a step that the bars do not fill, or a bar that reaches into the next bucket.
    """
    made: dict[str, Bars] = {}
    after: dict[str, Bars] = {}
    for chain in chains:
        name = chain.resolution
        source = bars if chain.of is None else made[chain.of]
        rows = _joined(state.get(f"{name}.open"), source)
        if chain.of is None:
            made[name], after[f"{name}.open"] = _time_bars(rows, chain, state.get(f"{name}.last"))
        else:
            ends = chain.bars * torch.arange(1, len(rows) // chain.bars + 1, device=rows.device)
            made[name], after[f"{name}.open"] = _pooled(rows, ends, chain)
        last = _joined(state.get(f"{name}.last"), made[name])
        after[f"{name}.last"] = last.select(slice(max(0, len(last) - 1), None))
    return made, after


def open_rest(chains: Sequence[Chain], state: State) -> dict[str, Bars]:
    """Each resolution's open bar, 0 or 1 rows with `is_partial`."""
    rest: dict[str, Bars] = {}
    for chain in chains:
        rows = state[f"{chain.resolution}.open"]
        if chain.of is not None:
            rows = _joined(rows, _as_complete(rest[chain.of]))
        rest[chain.resolution] = _whole_partial(rows, chain) if len(rows) else replace(rows, name=chain.name)
    return rest


def _whole_partial(rows: Bars, chain: Chain) -> Bars:
    pooled = pool_bars(rows, torch.zeros(0, dtype=torch.int64), name=chain.name).partial
    assert pooled is not None
    if chain.of is not None:
        return pooled
    return _stamped(pooled, *_grid(rows, chain).bucket(rows.open_timestamp[:1]))


def _joined(before: Bars | None, bars: Bars) -> Bars:
    return bars if before is None or not len(before) else Bars.concat([before, bars])


def _as_complete(bars: Bars) -> Bars:
    return replace(bars, columns={**bars.columns, "is_partial": torch.zeros_like(bars.is_partial)})


def _pooled(rows: Bars, ends: Tensor, chain: Chain) -> tuple[Bars, Bars]:
    made = replace(pool_bars(rows, ends, name=chain.name), partial=None)
    return made, rows.select(slice(int(ends[-1]) if len(ends) else 0, None))


def _options(chain: Chain) -> time_bars.Config:
    if not isinstance(chain.options, time_bars.Config):
        raise InputError(f"bars.type: of bars made by others only time bars can be made (value '{chain.plugin.name}')")
    return chain.options


def _grid(rows: Bars, chain: Chain) -> Grid:
    options = _options(chain)
    return Grid.of(parse_duration(options.step), rows.symbol, options.anchor)


def _time_bars(rows: Bars, chain: Chain, last: Bars | None) -> tuple[Bars, Bars]:
    """Closed bars, and the rows of the open one."""
    if not len(rows):
        return replace(rows, name=chain.name), rows
    grid, with_empty = _grid(rows, chain), _options(chain).empty
    length_ns = int(rows.close_timestamp[0] - rows.open_timestamp[0])
    _check_step(length_ns, grid.step_ns, rows)
    if length_ns == grid.step_ns and not with_empty:
        return replace(rows, name=chain.name, report={}), rows.select(slice(0, 0))
    start, end = grid.bucket(rows.open_timestamp)
    _check_inside(rows, end, grid.step_ns)
    ends = torch.diff(start).nonzero().flatten() + 1
    if int(rows.close_timestamp[-1]) >= int(end[-1]):
        ends = torch.cat((ends, ends.new_tensor([len(rows)])))
    made, rest = _pooled(rows, ends, chain)
    made = _stamped(made, start[ends - 1], end[ends - 1])
    if with_empty:
        made = _with_empty(made, int(start[-1]), last, grid)
    return made, rest


def _check_step(length_ns: int, step_ns: int, rows: Bars) -> None:
    if step_ns % length_ns:
        own, wanted = format_step(length_ns), format_step(step_ns)
        rule = f"a step must be a multiple of the {own} that the bars of {rows.symbol.name} last (value {wanted})"
        raise InputError(f"bars: {rule}; choose another step, or set step of the source to what its bars last")


def _check_inside(rows: Bars, end: Tensor, step_ns: int) -> None:
    over = rows.close_timestamp > end
    if bool(over.any()):
        row = int(over.nonzero()[0])
        rule = f"the bar of {rows.symbol.name} that opens at {int(rows.open_timestamp[row])} ns ends after its "
        fix = "so it would tell of the future; give shorter bars, or sessions that hold whole ones"
        raise InputError(f"bars: {rule}{format_step(step_ns)} bar does, {fix}")


def _stamped(bars: Bars, start: Tensor, end: Tensor) -> Bars:
    return replace(bars, columns={**bars.columns, "open_timestamp": start, "close_timestamp": end})


def _with_empty(made: Bars, open_start: int, last: Bars | None, grid: Grid) -> Bars:
    """The bars and, for every bucket without one from the last closed bar to the open one, a bar of no volume."""
    known = _joined(last, made)
    if not len(known):
        return made
    if bool((known.num_ticks >= 0).any()):
        raise InputError("bars.empty: empty bars are made of trades, or of bars without trade counts; leave it out")
    first, stop = int(known.open_timestamp[0]), max(open_start, int(known.open_timestamp[-1]))
    start, end = (edge.to(made.device) for edge in grid.between(first, stop))
    free = ~torch.isin(start, torch.cat((known.open_timestamp, known.open_timestamp.new_tensor([open_start]))))
    start, end = start[free], end[free]
    before = torch.searchsorted(known.open_timestamp.contiguous(), start, right=True) - 1
    blank = _blank(known.select(before), start, end)
    both = Bars.concat([made, replace(blank, name=made.name)])
    return both.select(torch.argsort(both.open_timestamp, stable=True))


def _blank(before: Bars, start: Tensor, end: Tensor) -> Bars:
    """Bars of no volume at the close of those before them; the rows (last + 1, last) are none."""
    columns, close = dict(before.columns), before.close
    columns |= {"open_timestamp": start, "close_timestamp": end, "first_trade_row": before.last_trade_row + 1}
    columns |= dict.fromkeys(("open", "high", "low"), close)
    columns["volume"] = torch.zeros_like(close)
    known = ~before.dollar_volume.isnan()
    columns["dollar_volume"] = torch.where(known, 0.0, torch.nan)
    columns["vwap"] = torch.where(before.vwap.isnan(), torch.nan, close)
    return replace(before, columns=columns)
