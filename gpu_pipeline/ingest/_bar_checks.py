"""What rows of bars made by others must hold: a time, values that can be, and prices within their range."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Scale, Tensor
from gpu_pipeline.ingest._bar_files import PRICES, RawBars
from gpu_pipeline.ingest._faults import WAY_OUT
from gpu_pipeline.ingest._raw import Units, Values

# (what a count of such rows is called, the rule, True where it is broken, what shows the value)
_Fault = tuple[str, str, Tensor, Values | str]


def good_rows(raw: RawBars, on_bad_row: str) -> tuple[Tensor, dict[str, int]]:
    """Positions of the rows that may be bars, and how many break which rule first.

    Raises:
        InputError: a row breaks one, where that is an error; names file and row.
    """
    bad = torch.zeros_like(raw.time_ns, dtype=torch.bool)
    dropped: dict[str, int] = {}
    for name, rule, wrong, values in _faults(raw):
        if not bool(wrong.any()):
            continue
        if on_bad_row == "error":
            at = int(wrong.nonzero()[0])
            raise InputError.at(raw.file, rule, row=raw.first_row + at + 1, value=_cell(raw, values, at), fix=WAY_OUT)
        dropped[name] = dropped.get(name, 0) + int((wrong & ~bad).sum())
        bad |= wrong
    return (~bad).nonzero().flatten(), {name: count for name, count in dropped.items() if count}


def _faults(raw: RawBars) -> Iterator[_Fault]:
    if raw.no_time is not None:
        yield "time_missing", "a bar needs a time in the file's unit", raw.no_time, raw.shown
    for name, values in raw.numbers.items():
        for kind, rule, wrong in _wrong_numbers(name, values, raw.nulls.get(name)):
            yield f"{name}_{kind}", f"{name} {rule}", wrong, values
    opened, high, low, closed = (as_float(raw.numbers[name]) for name in PRICES)
    outside = (low > torch.minimum(opened, closed)) | (high < torch.maximum(opened, closed))
    yield "outside_range", "open and close must lie between low and high", outside, ""


def _wrong_numbers(name: str, values: Values, null: Tensor | None) -> Iterator[tuple[str, str, Tensor]]:
    plain = values.units if isinstance(values, Units) else values
    if null is not None:
        yield "missing", "must be a number", null
    if not isinstance(values, Units):
        yield "missing", "must be a number", torch.isnan(plain)
        yield "infinite", "must be finite", torch.isinf(plain)
    if name in PRICES:
        yield "not_positive", "must be above 0", plain <= 0
    else:
        yield "negative", "must not be negative", plain < 0


def as_float(values: Values) -> Tensor:
    """[N] float64."""
    return Scale(values.step).to_float(values.units) if isinstance(values, Units) else values.to(torch.float64)


def _cell(raw: RawBars, values: Values | str, at: int) -> object:
    if isinstance(values, str):
        return values or ", ".join(f"{name} {_cell(raw, raw.numbers[name], at)}" for name in PRICES)
    return f"{values.step * int(values.units[at]):f}" if isinstance(values, Units) else values[at].item()
