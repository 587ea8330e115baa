"""Bars in memory: the calls that people make in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch

from gpu_pipeline.bars import _fold, _from_bars
from gpu_pipeline.bars._account import Account
from gpu_pipeline.bars._aggregate import to_bars
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars, Symbol, Tensor, Trades


def make_bars(trades: Trades | Iterable[Trades] | Bars, type: str = "dollar", **options: Any) -> Bars:
    """Complete bars of trades; the open rest is `.partial`, one table of trades stays reachable as `.source`.

    Args:
        trades: one table, or consecutive pieces of one symbol; an iterator's are let go one by one. Bars made by others
            give longer time bars.
        type: a bar type (`gpu-pipeline list bars`), or a dotted path to a module.
        options: the bar type's `Config`, for example `threshold=50_000, on_close="reset"` or `step="1min"`.

    Raises:
        ConfigError: wrong options, a line each.
        InputError: no trades at all, or pieces out of order.
    """
    return make_resolutions(trades, type, resolutions={}, **options)["short"]


def make_resolutions(
    trades: Trades | Iterable[Trades] | Bars,
    type: str = "dollar",
    *,
    time: Sequence[str] = (),
    resolutions: dict[str, Any] | None = None,
    at_file_end: str = "continue",
    **options: Any,
) -> dict[str, Bars]:
    """Bars of several resolutions from one pass over the trades, as a run makes them.

    Args:
        trades: one table, or consecutive pieces of one symbol (each piece is a file to `at_file_end`), or bars made by
            others.
        type: a bar type.
        time: steps of time bars besides, for example `["1min"]`.
        resolutions: as in the run file; None means medium = 10 short, long = 16 medium.
        at_file_end: `continue` carries open bars over pieces, `flush` ends them there as rows with `is_partial`.
        options: the bar type's `Config`.

    Returns:
        resolution name (short, medium, long, 1min ...) -> bars; rows are complete but for flushed ones.

    Raises:
        ConfigError: wrong options, a line each.
        InputError: no trades at all, pieces out of order, or a bar whose volume or notional does not fit 63 bits.
    """
    given = {} if resolutions is None else {"resolutions": resolutions}
    values = {**options, **given, "time": list(time), "at_file_end": at_file_end}
    chains = _fold.plan(_fold.section_of(type, values, "make_bars"))
    if isinstance(trades, Bars):
        return _of_bars(trades, chains, flush=at_file_end == "flush")
    pieces = [trades] if isinstance(trades, Trades) else trades
    found = _fold_pieces(_following(pieces), chains, flush=at_file_end == "flush")
    return {chain.resolution: found.table(chain) for chain in chains}


def _of_bars(bars: Bars, chains: Sequence[_fold.Chain], flush: bool) -> dict[str, Bars]:
    if not len(bars):
        raise InputError("make_bars: no bars; give a table that holds some")
    made, state = _from_bars.step(bars, chains, {})
    rest = _from_bars.open_rest(chains, state)
    if flush:
        return {name: Bars.concat([table, rest[name]]) for name, table in made.items()}
    return {name: replace(table, partial=rest[name] if len(rest[name]) else None) for name, table in made.items()}


@dataclass
class _Found:
    """Integer sums of bars piece by piece, the open rest, and what the trades said of themselves."""

    rows: list[tuple[dict[str, Tensor], bool]] = field(default_factory=list)
    rest: dict[str, Tensor] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    device: torch.device | None = None
    source: Trades | None = None

    def add(self, sums: dict[str, Tensor], account: Account, *, partial: bool) -> None:
        account.take(sums, partial=partial)
        self.rows.append((sums, partial))

    def table(self, chain: _fold.Chain) -> Bars:
        def bars(sums: Tensor, partial: bool) -> Bars:
            return to_bars(sums.to(self.device), name=chain.name, is_partial=partial, **self.said)

        rest = self.rest[chain.resolution]
        alike = groupby(self.rows, key=itemgetter(1))
        tables = [bars(torch.cat([sums[chain.resolution] for sums, _ in some], 1), flag) for flag, some in alike]
        joined = tables[0] if len(tables) == 1 else Bars.concat(tables)
        return replace(joined, partial=bars(rest, True) if rest.shape[1] else None, source=self.source)


def _fold_pieces(pieces: Iterable[Trades], chains: Sequence[_fold.Chain], flush: bool) -> _Found:
    found = _Found()
    account: Account | None = None
    state: dict[str, Tensor] = {}
    for piece in pieces:
        account = account or Account(piece.symbol)
        account.input.add_trades(piece)
        found.source = None if found.rows else piece
        sums, state = _fold.step(piece, chains, state)
        found.add(sums, account, partial=False)
        if flush:
            found.add(_fold.open_rest(chains, state), account, partial=True)
            state = {}
        found.said, found.device = {"symbol": piece.symbol, "has_side": piece.has_side}, piece.device
    found.rest = _fold.open_rest(chains, state)
    if account is not None:
        account.close(found.rest)
    return found


def _following(pieces: Iterable[Trades]) -> Iterator[Trades]:
    """The pieces, each checked to begin where the one before ended."""
    end: tuple[int, Symbol] | None = None
    for piece in pieces:
        if end is not None and (piece.first_row, piece.symbol) != end:
            raise InputError(
                f"make_bars: pieces must follow each other: one of {end[1].name} ends before row "
                f"{end[0]:,}, the next is {piece.symbol.name} from row {piece.first_row:,}"
            )
        end = piece.first_row + len(piece), piece.symbol
        yield piece
    if end is None:
        raise InputError("make_bars: no trades; give a table of trades or a non-empty sequence of them")
