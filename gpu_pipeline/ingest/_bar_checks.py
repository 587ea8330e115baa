"""What bars made by others must hold: values that can be, ranges that fit, times that move on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.core.units import format_step
from gpu_pipeline.ingest._bar_files import PRICES, Name, RawBars
from gpu_pipeline.ingest._raw import Units, Values

_MEND = "mend the file"


def same_columns(pieces: Sequence[RawBars]) -> None:
    """All files have the optional column, or none."""
    for raw in pieces:
        if raw.numbers.keys() != pieces[0].numbers.keys():
            verb = "has" if "quote_volume" in raw.numbers else "lacks"
            fix = "read such files apart, or map the column to null"
            raise InputError.at(raw.file, f"{verb} the column quote_volume, unlike the files before it", fix=fix)


def check_cells(raw: RawBars) -> None:
    """Every cell holds a value that it may hold."""
    if raw.no_time is not None:
        _refuse(raw, raw.no_time, "a bar needs a time in the file's unit", raw.shown)
    for name, values in raw.numbers.items():
        for rule, wrong in _wrong(name, values, raw.nulls.get(name)):
            _refuse(raw, wrong, f"{name} {rule}", values)


def _wrong(name: str, values: Values, null: Tensor | None) -> Iterator[tuple[str, Tensor]]:
    plain = values.units if isinstance(values, Units) else values
    if null is not None:
        yield "must be a number", null
    if not isinstance(values, Units):
        yield "must be a number", torch.isnan(plain)
        yield "must be finite", torch.isinf(plain)
    if name in PRICES:
        yield "must be above 0", plain <= 0
    else:
        yield "must not be negative", plain < 0


def _refuse(raw: RawBars, wrong: Tensor, rule: str, values: Values | str) -> None:
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        raise InputError.at(raw.file, rule, row=raw.first_row + at + 1, value=_cell(values, at), fix=_MEND)


def _cell(values: Values | str, at: int) -> object:
    if isinstance(values, str):
        return values
    return f"{values.step * int(values.units[at]):f}" if isinstance(values, Units) else values[at].item()


def check_times(pieces: Sequence[RawBars], step_ns: int) -> None:
    """Times do not fall, over all files, and bars do not overlap."""
    before = pieces[0].time_ns[:1]
    for raw in pieces:
        apart = torch.diff(torch.cat([before, raw.time_ns]))
        wrong = (apart < 0) | ((apart > 0) & (apart < step_ns))
        if bool(wrong.any()):
            raise _time_error(raw, int(wrong.nonzero()[0]), apart, step_ns)
        before = raw.time_ns[-1:]


def _time_error(raw: RawBars, at: int, apart: Tensor, step_ns: int) -> InputError:
    row, shown = raw.first_row + at + 1, _instant(int(raw.time_ns[at]))
    if int(apart[at]) < 0:
        fix = "sort the file by time, and name files in order of time"
        return InputError.at(raw.file, "the time steps back", row=row, value=shown, fix=fix)
    rule = f"the bar begins {format_step(int(apart[at]))} after the one before, but step is {format_step(step_ns)}"
    return InputError.at(raw.file, rule, row=row, value=shown, fix="set step to the length of the bars")


def _instant(time_ns: int) -> str:
    return str(np.datetime_as_string(np.datetime64(time_ns, "ns"), unit="auto", timezone="UTC"))


def check_ranges(raw: RawBars, ticks: Mapping[Name, Tensor]) -> None:
    """Open and close of every bar lie between its low and its high."""
    body = torch.minimum(ticks["open"], ticks["close"]), torch.maximum(ticks["open"], ticks["close"])
    wrong = (ticks["low"] > body[0]) | (ticks["high"] < body[1])
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        shown = ", ".join(f"{name} {_cell(raw.numbers[name], at)}" for name in PRICES)
        _refuse(raw, wrong, "open and close must lie between low and high", shown)
