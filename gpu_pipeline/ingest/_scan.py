"""The first pass over all the input: which scales it needs and which files are in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from gpu_pipeline.core.config import SymbolOptions
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Symbol, Tensor
from gpu_pipeline.ingest._faults import faults
from gpu_pipeline.ingest._order import is_sorted
from gpu_pipeline.ingest._raw import RawTrades, Values
from gpu_pipeline.ingest._scales import OffStepError, finest, merged, step_of

_DECIMALS = "store decimals of up to 15 digits (float32: 7), or decimal columns"


@dataclass
class Scan:
    """What all the input needs.

    Attributes:
        options: scales that are known beforehand; only the others are inferred.
        places: decimal places that the values of a column need so far.
        steps: scales that files declare, merged.
        unordered: files whose rows are not in trade order.
        checked: how many files were verified in which way.
        quote: the quote column still reads as decimals.
        counted: what sources counted, by name.
    """

    options: SymbolOptions
    places: dict[str, int] = field(default_factory=dict)
    steps: dict[str, Decimal] = field(default_factory=dict)
    unordered: set[Path] = field(default_factory=set)
    checked: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    quote: bool = True
    counted: dict[str, int] = field(default_factory=dict)
    _end: tuple[Path, int] | None = None

    def add(self, raw: RawTrades) -> None:
        """Takes one piece into account.

        Raises:
            InputError: a value that is no decimal; names its row.
        """
        self.check(raw.checked, raw.first_row == 0)
        self.count(raw.counted)
        self.rows += len(raw)
        broken = faults(raw)
        place = None if broken is None else (broken == 0).nonzero().flatten()
        good = raw if place is None else raw.map(lambda column: column[place])
        if not len(good):
            return
        self._order(good)
        for name, known in (("price", self.options.price_tick), ("quantity", self.options.quantity_lot)):
            if known is None:
                try:
                    self._infer(name, getattr(good, name), raw)
                except OffStepError as error:
                    raise _no_decimal(
                        raw, name, error, error.position if place is None else int(place[error.position])
                    ) from error
        self._infer_quote(good)

    def check(self, how: str, begins: bool) -> None:
        """Counts how a file was verified, with its first piece."""
        if begins:
            self.checked[how] = self.checked.get(how, 0) + 1

    def count(self, counted: Mapping[str, int]) -> None:
        """Adds what a source counted in a piece."""
        for name, many in counted.items():
            self.counted[name] = self.counted.get(name, 0) + many

    def infer(self, name: str, values: Values, file: Path, rows: Tensor) -> None:
        """Takes good values of `price` or `quantity` into account, where that scale is to be found.

        Args:
            name: `price` or `quantity`.
            values: [N] finite values.
            file: where they stand.
            rows: [N] their rows in the file, counted from 1.

        Raises:
            InputError: a value that is no decimal; names its row.
        """
        if (self.options.price_tick if name == "price" else self.options.quantity_lot) is not None:
            return
        try:
            self.places[name] = finest(values, self.places.get(name, 0))
        except OffStepError as error:
            row = int(rows[error.position])
            raise InputError.at(file, f"{name} {error.rule}", row=row, value=error.value, fix=_DECIMALS) from error

    def _order(self, good: RawTrades) -> None:
        key = good.time_ns if good.trade_id is None else good.trade_id
        falls = self._end is not None and self._end[0] == good.file and int(key[0]) < self._end[1]
        if falls or not is_sorted(key):
            self.unordered.add(good.file)
        self._end = (good.file, int(key.max()))

    def _infer(self, name: str, values: Values, raw: RawTrades) -> None:
        if raw.declared is not None:
            step = raw.declared.price_tick if name == "price" else raw.declared.quantity_lot
            self.steps[name] = merged(self.steps.get(name), step)
        else:
            self.places[name] = finest(values, self.places.get(name, 0))

    def _infer_quote(self, good: RawTrades) -> None:
        values = good.base_quantity if self.options.inverse else good.quote_quantity
        if values is None or not self.quote:
            return
        try:
            self.places["quote"] = finest(values, self.places.get("quote", 0))
        except OffStepError:
            self.quote = False

    @property
    def quote_step(self) -> Decimal | None:
        """Last decimal of the quote quantities, None where they are no decimals."""
        return step_of(self.places["quote"]) if self.quote and "quote" in self.places else None

    def symbol(self, name: str) -> Symbol:
        """The symbol with the scales that were given or found."""
        options = self.options
        return Symbol(
            name=name,
            price_tick=options.price_tick or self._step("price"),
            quantity_lot=options.quantity_lot or self._step("quantity"),
            multiplier=options.multiplier,
            inverse=options.inverse,
            quote=options.quote,
            timezone=options.timezone,
            fee_bps=options.fee_bps,
            sessions=options.sessions,
            holidays=options.holidays,
        )

    def _step(self, name: str) -> Decimal:
        if name not in self.places:
            return self.steps.get(name, Decimal(1))
        return merged(self.steps.get(name), step_of(self.places[name]))


def _no_decimal(raw: RawTrades, name: str, error: OffStepError, position: int) -> InputError:
    row = raw.first_row + position + 1
    return InputError.at(raw.file, f"{name} {error.rule}", row=row, value=error.value, fix=_DECIMALS)


def scan(pieces: Iterable[RawTrades], options: SymbolOptions) -> Scan:
    """Scales and order over all pieces."""
    found = Scan(options)
    for raw in pieces:
        found.add(raw)
    return found
