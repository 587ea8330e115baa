"""The first pass over bars made by others: the scales that they need, and which files are out of order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from pathlib import Path

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Scale, Symbol, Tensor
from gpu_pipeline.ingest._bar_checks import as_float, good_rows
from gpu_pipeline.ingest._bar_files import PRICES, RawBars, joined
from gpu_pipeline.ingest._order import is_sorted
from gpu_pipeline.ingest._raw import Units, Values
from gpu_pipeline.ingest._scales import MAX_PLACES, MAX_UNITS, OffStepError, finest, step_of, to_units


@dataclass
class BarScan:
    """What all the input needs.

    Attributes:
        name: of the symbol.
        on_bad_row: rows that are dropped need no scale.
        checked: how the bytes of files were verified -> how many files.
        unordered: files whose rows are not in time order.
    """

    name: str
    on_bad_row: str
    checked: dict[str, int] = field(default_factory=dict)
    unordered: set[Path] = field(default_factory=set)
    _first: RawBars | None = None
    _end: tuple[Path, int] | None = None
    _price_places: int = 0
    _lot_places: int = 0

    def add(self, raw: RawBars) -> None:
        """Takes a piece into account.

        Raises:
            InputError: a bad row, where it is an error; a price that is no decimal; other columns than before.
        """
        self._first = self._first or raw
        _same_columns(raw, self._first)
        if raw.first_row == 0:
            self.checked[raw.checked] = self.checked.get(raw.checked, 0) + 1
        good, _ = good_rows(raw, self.on_bad_row)
        if not len(good):
            return
        self._order(raw, raw.time_ns[good])
        if raw.rules.options.price_tick is None:
            for name in PRICES:
                try:
                    self._price_places = finest(raw.number(name, good), self._price_places)
                except OffStepError as error:
                    raise _off_step(raw, good, name, error, "mend the file, or set price_tick") from error
        if raw.rules.options.quantity_lot is None:
            self._lot_places = _lot_places(raw.number("volume", good), self._lot_places)

    def _order(self, raw: RawBars, time_ns: Tensor) -> None:
        falls = self._end is not None and self._end[0] == raw.file and int(time_ns[0]) < self._end[1]
        if falls or not is_sorted(time_ns):
            self.unordered.add(raw.file)
        self._end = (raw.file, int(time_ns.max()))

    def gathered(self, pieces: Iterable[RawBars]) -> Iterator[RawBars]:
        """Pieces as they come; those of a file that is out of order as one."""
        for file, group in groupby(pieces, key=lambda raw: raw.file):
            if file in self.unordered:
                yield joined(list(group))
            else:
                yield from group

    def symbol(self) -> Symbol:
        """The symbol with the scales that were given or found."""
        assert self._first is not None
        known = self._first.rules.options
        tick, lot = known.price_tick or step_of(self._price_places), known.quantity_lot or step_of(self._lot_places)
        facts = known.model_dump(exclude={"price_tick", "quantity_lot"})
        return Symbol(name=self.name, price_tick=tick, quantity_lot=lot, **facts)


def _same_columns(raw: RawBars, first: RawBars) -> None:
    """All files have the optional column, or none."""
    if raw.numbers.keys() != first.numbers.keys():
        verb = "has" if "quote_volume" in raw.numbers else "lacks"
        fix = "read such files apart, or map the column to null"
        raise InputError.at(raw.file, f"{verb} the column quote_volume, unlike the files before it", fix=fix)


def _off_step(raw: RawBars, rows: Tensor, name: str, error: OffStepError, fix: str) -> InputError:
    row = raw.first_row + int(rows[error.position]) + 1
    return InputError.at(raw.file, f"{name} {error.rule}", row=row, value=error.value, fix=fix)


def ticks(raw: RawBars, rows: Tensor, name: str, tick: Decimal) -> Tensor:
    """[B] int64 of some rows of a price.

    Raises:
        InputError: a price that is no multiple of the tick; names file and row.
    """
    try:
        return to_units(raw.number(name, rows), tick)
    except OffStepError as error:
        raise _off_step(raw, rows, name, error, "mend the file, or set a finer price_tick") from error


def _lot_places(volumes: Values, places: int) -> int:
    """The finest decimal step of the volumes, past the rounding noise of those that are sums of floats."""
    try:
        return finest(volumes, places)
    except OffStepError:
        while places < MAX_PLACES and not _near(volumes, places):
            places += 1
        return places


def _near(values: Values, places: int) -> bool:
    noise = 1e-6 if isinstance(values, Tensor) and values.dtype == torch.float32 else 1e-13
    wide = as_float(values)
    off = torch.round(wide * 10.0**places) / 10.0**places - wide
    return bool((off.abs() <= noise * wide).all())


def volumes(values: Values, lots: Scale) -> tuple[Tensor, Tensor]:
    """[B] lots / scale where that is what the file says, else its own number; and where that is."""
    wide = as_float(values)
    whole = torch.round(wide / float(lots.step))
    large = whole >= MAX_UNITS
    scaled = lots.to_float(whole.masked_fill(large, 0).to(torch.int64))
    own = wide if isinstance(values, Units) else values
    same = ~large & (scaled.to(own.dtype) == own)
    return torch.where(same, scaled, wide), ~same
