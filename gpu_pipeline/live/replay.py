"""The first rows of a symbol one by one through bars and features: what an audit holds against one call over all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from gpu_pipeline.bars import _fold, _from_bars
from gpu_pipeline.bars._aggregate import to_bars
from gpu_pipeline.core.config import BarsSection
from gpu_pipeline.core.schema import Bars, Features, Trades
from gpu_pipeline.features._book import BOOK, BookRows
from gpu_pipeline.features.engine import Engine, Rows

# A bar costs what many trades cost: it closes bars of most resolutions.
ONE_BY_ONE: Mapping[type, int] = {Trades: 2_000, Bars: 200}
THEN, UP_TO = 197, 100_000
CPU = torch.device("cpu")


def replay(
    rows: Trades | Bars, section: BarsSection, engine: Engine, book: BookRows | None = None
) -> tuple[Features | None, str]:
    """Features of what closes, and how it was fed; None where no short bar closed.

    Args:
        rows: the first trades of a symbol, or bars made by others; those beyond `UP_TO` are left out.
        section: what bars are made of them.
        engine: the features.
        book: the cells of the whole run; each is fed when it is known.
    """
    fold = _Fold(section, engine)
    parts, state, cells = [], engine.start(CPU), 0
    for piece in in_pieces(rows):
        closed = fold.take(piece)
        if book is not None:
            last_ns = piece.time_ns[-1] if isinstance(piece, Trades) else piece.close_timestamp[-1]
            known = int(torch.searchsorted(book.known_ns, last_ns))
            closed[BOOK], cells = book.select(slice(cells, known)), known
        if any(len(table) for table in closed.values()):
            features, state = engine.step(closed, state)
            parts.append(features)
    kind, fed = "trades" if isinstance(rows, Trades) else "bars", min(len(rows), UP_TO)
    single = min(fed, ONE_BY_ONE[type(rows)])
    told = f"{single:,} {kind} one by one" + (f", then to {fed:,}" if fed > single else "")
    return (_joined(parts) if parts else None), told


def in_pieces(rows: Trades | Bars) -> Iterator[Trades | Bars]:
    """`ONE_BY_ONE` rows one by one, then `THEN` at a time, up to `UP_TO`."""
    start, end, single = 0, min(len(rows), UP_TO), ONE_BY_ONE[type(rows)]
    while start < end:
        stop = min(end, start + (1 if start < single else THEN))
        part = slice(start, stop)
        yield rows[part] if isinstance(rows, Trades) else rows.select(part)
        start = stop


class _Fold:
    """The bars that an engine needs, of trades or of bars made by others."""

    def __init__(self, section: BarsSection, engine: Engine) -> None:
        self._chains, self._needed = _fold.plan(section), engine.needed
        self._trades: Mapping[str, torch.Tensor] = {}
        self._bars: Mapping[str, Bars] = {}

    def take(self, piece: Trades | Bars) -> dict[str, Rows]:
        """What closes with a piece."""
        if isinstance(piece, Bars):
            made, self._bars = _from_bars.step(piece, self._chains, self._bars)
        else:
            sums, self._trades = _fold.step(piece, self._chains, self._trades)
            made = {
                chain.resolution: to_bars(sums[chain.resolution], piece.symbol, chain.name, has_side=piece.has_side)
                for chain in self._chains
                if chain.resolution in self._needed
            }
        return {name: table for name, table in made.items() if name in self._needed}


def _joined(parts: Iterable[Features]) -> Features:
    tables = list(parts)
    columns: dict[str, Any] = {
        name: torch.cat([getattr(table, name) for table in tables])
        for name in ("values", "time_ns", "known_ns", "last_trade_row")
    }
    return replace(tables[-1], **columns)
