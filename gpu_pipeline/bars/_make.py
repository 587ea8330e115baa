"""Bars in memory: the calls that people make in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from gpu_pipeline.bars import _fold
from gpu_pipeline.bars._aggregate import to_bars
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars, Tensor, Trades


def make_bars(trades: Trades | Iterable[Trades], type: str = "dollar", **options: Any) -> Bars:
    """Complete bars of trades; the open rest is `.partial`, one table of trades stays reachable as `.source`.

    Args:
        trades: one table, or consecutive pieces of one symbol.
        type: a bar type: `dollar`, `time`, or a dotted path to a module.
        options: the bar type's `Config`, for example `threshold=50_000, on_close="reset"` or `step="1min"`.

    Raises:
        ConfigError: wrong options, a line each.
        InputError: no trades at all, or pieces out of order.
    """
    return make_resolutions(trades, type, resolutions={}, **options)["short"]


def make_resolutions(
    trades: Trades | Iterable[Trades],
    type: str = "dollar",
    *,
    time: Sequence[str] = (),
    resolutions: dict[str, Any] | None = None,
    at_file_end: str = "continue",
    **options: Any,
) -> dict[str, Bars]:
    """Bars of several resolutions from one pass over the trades, as a run makes them.

    Args:
        trades: one table, or consecutive pieces of one symbol (each piece is a file to `at_file_end`).
        type: a bar type.
        time: steps of time bars besides, for example `["1min"]`.
        resolutions: as in the run file; None means medium = 10 short, long = 16 medium.
        at_file_end: `continue` carries open bars over pieces, `flush` ends them there as rows with `is_partial`.
        options: the bar type's `Config`.

    Returns:
        resolution name (short, medium, long, 1min ...) -> bars; rows are complete but for flushed ones.

    Raises:
        ConfigError: wrong options, a line each.
        InputError: no trades at all, or pieces out of order.
    """
    given = {} if resolutions is None else {"resolutions": resolutions}
    values = {**options, **given, "time": list(time), "at_file_end": at_file_end}
    chains = _fold.plan(_fold.section_of(type, values, "make_bars"))
    pieces = [trades] if isinstance(trades, Trades) else list(trades)
    _check_pieces(pieces)
    rows, rest = _fold_pieces(pieces, chains, flush=at_file_end == "flush")
    source = pieces[0] if len(pieces) == 1 else None
    return {chain.resolution: _table(chain, rows, rest[chain.resolution], pieces[0], source) for chain in chains}


Piece = tuple[dict[str, Tensor], bool]


def _fold_pieces(
    pieces: Sequence[Trades], chains: Sequence[_fold.Chain], flush: bool
) -> tuple[list[Piece], dict[str, Tensor]]:
    rows: list[Piece] = []
    state: dict[str, Tensor] = {}
    for piece in pieces:
        sums, state = _fold.step(piece, chains, state)
        rows.append((sums, False))
        if flush:
            rows.append((_fold.open_rest(chains, state), True))
            state = {}
    return rows, _fold.open_rest(chains, state)


def _table(chain: _fold.Chain, rows: Sequence[Piece], rest: Tensor, like: Trades, source: Trades | None) -> Bars:
    def bars(sums: Tensor, partial: bool) -> Bars:
        return to_bars(sums, like.symbol, chain.name, has_side=like.has_side, is_partial=partial)

    tables = [bars(sums[chain.resolution].to(like.device), partial) for sums, partial in rows]
    joined = tables[0] if len(tables) == 1 else Bars.concat(tables)
    return replace(joined, partial=bars(rest, True) if rest.shape[1] else None, source=source)


def _check_pieces(pieces: Sequence[Trades]) -> None:
    if not pieces:
        raise InputError("make_bars: no trades; give a table of trades or a non-empty sequence of them")
    for before, after in pairwise(pieces):
        if after.first_row != before.first_row + len(before) or after.symbol != before.symbol:
            raise InputError(
                f"make_bars: pieces must follow each other: one of {before.symbol.name} ends before row "
                f"{before.first_row + len(before):,}, the next is {after.symbol.name} from row {after.first_row:,}"
            )
