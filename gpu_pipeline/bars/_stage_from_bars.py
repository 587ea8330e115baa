"""The stage for bars made by others: monthly files per symbol and resolution, and the account of their rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.bars import _fold, _from_bars
from gpu_pipeline.bars._months import Month, Months, by_month
from gpu_pipeline.bars._stage import INDEX
from gpu_pipeline.core.config import RunConfig
from gpu_pipeline.core.errors import InputError, PipelineError
from gpu_pipeline.core.schema import Bars, Symbol, Tensor
from gpu_pipeline.core.store import write_json
from gpu_pipeline.core.sums import exact_sum
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.core.units import month_of


def write(
    folder: Path,
    config: RunConfig,
    symbols: Mapping[str, Symbol],
    bars: Callable[[Symbol], Iterable[Bars]],
    trace: Trace,
) -> dict[str, Any]:
    """Writes what `_stage.write` writes, from bars made by others in place of trades.

    Args:
        folder: where to write.
        config: the run file.
        symbols: by name.
        bars: the bars of a symbol in pieces, in time order; no piece holds two months.
        trace: shows the progress.

    Returns:
        what the manifest says: rows, folders, and per symbol the account of input, bars and open rest.

    Raises:
        InputError: the plan of resolutions does not hold, or the bars do not fill a step.
        PipelineError: the account does not balance.
    """
    assert config.bars is not None
    chains = _fold.plan(config.bars)
    accounts = {}
    with trace.progress("bars", None) as ticker:
        for name, symbol in symbols.items():
            with _Writer(folder, symbol, chains, config.bars.at_file_end == "flush") as writer:
                for piece in bars(symbol):
                    writer.add(piece)
                    ticker.advance(len(piece), name)
                accounts[name] = writer.finish()
    folders = {chain.resolution: chain.name for chain in chains}
    write_json(folder / INDEX, folders)
    return {
        "rows_in": sum(account["input"]["rows"] for account in accounts.values()),
        "rows_out": sum(account["resolutions"]["short"]["bars"] for account in accounts.values()),
        "note": f"{chains[0].name}; rows are short bars, made of bars",
        "folders": folders,
        "symbols": accounts,
    }


@dataclass
class _Totals:
    """Rows of the input and their volume: exact in lots while all volumes are whole lots, else a float sum."""

    rows: int = 0
    lots: int = 0
    volume: float = 0.0
    whole: bool = True

    def add(self, bars: Bars, rows: int) -> None:
        self.rows += rows
        scale = bars.symbol.quantity
        fraction = scale.fraction
        lots = (bars.volume * float(fraction.denominator) / float(fraction.numerator)).round().to(torch.int64)
        self.whole &= bool((scale.to_float(lots) == bars.volume).all())
        self.lots += exact_sum(lots)
        self.volume = math.fsum((self.volume, *bars.volume.tolist()))

    def to_json(self, symbol: Symbol) -> dict[str, Any]:
        volume = format(symbol.quantity.exact(self.lots), "f") if self.whole else repr(self.volume)
        return {"rows": self.rows, "volume": volume}


@dataclass
class _Account:
    """Input, bars and open rest of one symbol."""

    symbol: Symbol
    input: _Totals = field(default_factory=_Totals)
    bars: dict[str, _Totals] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def take(self, made: Mapping[str, Bars], *, partial: bool) -> None:
        for name, bars in made.items():
            self.bars.setdefault(name, _Totals()).add(bars, _rows(bars))
            counts = self.counts.setdefault(name, {"bars": 0, "partial_rows": 0})
            counts["partial_rows" if partial else "bars"] += len(bars)

    def close(self, rest: Mapping[str, Bars]) -> dict[str, Any]:
        resolutions = {}
        for name, bars in rest.items():
            closed, opened = self.bars[name], _Totals()
            opened.add(bars, _rows(bars))
            self._check(name, closed, opened)
            told = {"in_bars": closed.to_json(self.symbol), "in_open_rest": opened.to_json(self.symbol)}
            resolutions[name] = {**self.counts[name], **told}
        return {"input": self.input.to_json(self.symbol), "resolutions": resolutions}

    def _check(self, name: str, closed: _Totals, opened: _Totals) -> None:
        whole = self.input.whole and closed.whole and opened.whole
        found = (closed.rows + opened.rows, closed.lots + opened.lots if whole else 0)
        if found != (self.input.rows, self.input.lots if whole else 0):
            raise PipelineError(
                f"bars of {self.symbol.name}, {name}: rows and lots over bars and the open rest are not the input's: "
                f"{found} against {self.input}; this is a bug, keep the input"
            )


def _rows(bars: Bars) -> int:
    """How many rows of the input bars hold."""
    held: Tensor = bars.last_trade_row - bars.first_trade_row + 1
    return int(held.sum())


class _Writer:
    """Folds one symbol's pieces and writes what closes."""

    def __init__(self, folder: Path, symbol: Symbol, chains: Sequence[_fold.Chain], flush: bool) -> None:
        self.symbol, self.chains, self.flush = symbol, chains, flush
        self.months = {chain.resolution: Months(folder, symbol, chain) for chain in chains}
        self.account = _Account(symbol)
        self.state: dict[str, Bars] = {}
        self.month: Month | None = None
        self._open = ExitStack()

    def __enter__(self) -> _Writer:
        for months in self.months.values():
            self._open.enter_context(months)
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(self, piece: Bars) -> None:
        """Takes the next piece; with `flush` a new month ends the open bars and starts anew."""
        month = month_of(int(piece.open_timestamp[0]))
        if self.flush and self.month not in (None, month):
            self._take(_from_bars.open_rest(self.chains, self.state), partial=True)
            self.state = {}
        self.month = month
        self.account.input.add(piece, len(piece))
        made, self.state = _from_bars.step(piece, self.chains, self.state)
        self._take(made, partial=False)

    def finish(self) -> dict[str, Any]:
        """Writes an empty file where a resolution has no bar, and closes the account."""
        if self.month is None:
            raise InputError(f"bars: there are no bars of {self.symbol.name}; check ingest's start, end and limit")
        rest = _from_bars.open_rest(self.chains, self.state)
        if self.flush:
            self._take(rest, partial=True)
            rest = {name: bars.select(slice(0, 0)) for name, bars in rest.items()}
        for chain in self.chains:
            if self.months[chain.resolution].month is None:
                self.months[chain.resolution].write(self.month, rest[chain.resolution].select(slice(0, 0)))
        return self.account.close(rest)

    def _take(self, made: Mapping[str, Bars], *, partial: bool) -> None:
        self.account.take(made, partial=partial)
        assert self.month is not None
        for name, bars in made.items():
            for own, part in [(self.month, bars)] if self.flush and len(bars) else by_month(bars):
                self.months[name].write(own, part)
