"""Bars made by others (DESIGN 4.3, `ohlcv`): open, high, low, close and volume per time step, checked and scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import field_validator

from gpu_pipeline.core.config import Instant, Step, SymbolOptions, check_values
from gpu_pipeline.core.device import choose_device
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import BAR_COLUMNS, BAR_FLOATS, Bars, Scale, Symbol, Tensor
from gpu_pipeline.core.units import format_step, parse_duration, parse_instant
from gpu_pipeline.ingest import _bar_checks, _bar_files
from gpu_pipeline.ingest._bar_files import PRICES, RawBars
from gpu_pipeline.ingest._files import resolve
from gpu_pipeline.ingest._raw import ReadRequest, Units, Values
from gpu_pipeline.ingest._scales import MAX_PLACES, MAX_UNITS, OffStepError, finest, step_of, to_units

_COUNTS = ("num_ticks", "num_price_changes", "num_directional_changes")


class _Asked(Options):
    path: str | list[str]
    columns: dict[_bar_files.Name, str | None] = {}
    step: Step
    label: Literal["open", "close"] = "open"
    start: Instant = None
    end: Instant = None
    verify: bool = True

    @field_validator("step")
    @classmethod
    def _longer_than_nothing(cls, step: str) -> str:
        if parse_duration(step) <= 0:
            raise ValueError(f"step must be longer than 0, got {step}")
        return step


def read_bars(
    path: str | Path | list[str | Path],
    source: str = "ohlcv",
    symbol: str = "",
    step: str = "1min",
    columns: Mapping[str, str | None] | None = None,
    device: str = "auto",
    *,
    label: str = "open",
    start: str | None = None,
    end: str | None = None,
    verify: bool = True,
    **options: Any,
) -> Bars:
    """Reads bars that others made, from Parquet or CSV with a header, into one table.

    Gaps in time stay gaps; of rows with the same time the last one counts. A bar's own row number stands for its
    trades (`first_trade_row`, `last_trade_row`), so that streams align; what the files do not tell is NaN, counts -1,
    moves 0. A column of volume in quote currency gives `dollar_volume` and `vwap`. Prices are ticks / scale, and so
    are volumes of whole lots; a volume that is a float sum off the lot stays as the file has it, and is counted.

    Args:
        path: file, folder, glob or list in order of time; `{SYMBOL}` and `{symbol}` stand for the symbol.
        source: `ohlcv`.
        symbol: exchange name.
        step: duration of a bar.
        columns: our names (`timestamp open high low close volume quote_volume`) -> the file's names.
        device: `auto`, `cuda` or `cpu`.
        label: whether `timestamp` is the `open` or the `close` of the bar.
        start: bars that open before it are left out.
        end: bars that open at or after it are left out.
        verify: checksums of files are compared.
        options: keys of the symbol (`price_tick`, `quantity_lot`, `multiplier`, `inverse` ...), as in a run file.

    Returns:
        B bars named `time_STEP`; `report` counts rows in and out, duplicates, rows out of bounds, gaps
            and volumes off the lot.

    Raises:
        ConfigError: wrong options, a line each.
        InputError: bad data; names file, row, rule and value.
    """
    if source != "ohlcv":
        raise InputError(f"read_bars: no source of bars '{source}'; there is ohlcv")
    paths = [str(item) for item in path] if isinstance(path, list) else str(path)
    values = {"step": step, "columns": columns or {}, "label": label, "start": start, "end": end, "verify": verify}
    asked = check_values(_Asked, {"path": paths, **values}, "read_bars")
    known = check_values(SymbolOptions, options, "read_bars")
    request = ReadRequest("bars", symbol, known, choose_device(device).device, verify=asked.verify)
    return _read(asked, request)


def _read(asked: _Asked, request: ReadRequest) -> Bars:
    step_ns = parse_duration(asked.step)
    files = resolve(asked.path, request.symbol, _bar_files.SUFFIXES)
    pieces = [raw for file in files for raw in _bar_files.read(file, asked.columns, request) if len(raw)]
    if not pieces:
        raise InputError.at(files[0], "holds no bars", fix="check path")
    _bar_checks.same_columns(pieces)
    for raw in pieces:
        _bar_checks.check_cells(raw)
    _bar_checks.check_times(pieces, step_ns)
    symbol = _symbol(pieces, request)
    numbers, off_lot = _scaled(pieces, symbol)
    time_ns = torch.cat([raw.time_ns for raw in pieces])
    if asked.label == "close":
        time_ns = time_ns - step_ns
    rows, report = _kept(time_ns, asked)
    if not len(rows):
        raise InputError(f"{request.symbol}: no bars are left ({report}); check path, start and end")
    opened = time_ns[rows]
    report |= {"gaps": int((torch.diff(opened) > step_ns).sum()), "volumes_off_lot": off_lot}
    table = _table({name: column[rows] for name, column in numbers.items()}, opened, step_ns, symbol)
    return Bars(symbol, f"time_{format_step(step_ns)}", table, has_side=False, report=report)


def _symbol(pieces: Sequence[RawBars], request: ReadRequest) -> Symbol:
    """The symbol with the scales that are known, else the finest that the input needs."""
    known = request.options
    tick, lot = known.price_tick or _tick(pieces), known.quantity_lot or _lot(pieces)
    facts = known.model_dump(exclude={"price_tick", "quantity_lot"})
    return Symbol(name=request.symbol, price_tick=tick, quantity_lot=lot, **facts)


def _tick(pieces: Sequence[RawBars]) -> Decimal:
    places = 0
    for raw, name in product(pieces, PRICES):
        try:
            places = finest(raw.numbers[name], places)
        except OffStepError as error:
            raise _off_step(raw, name, error, "mend the file, or set price_tick") from error
    return step_of(places)


def _off_step(raw: RawBars, name: str, error: OffStepError, fix: str) -> InputError:
    row = raw.first_row + error.position + 1
    return InputError.at(raw.file, f"{name} {error.rule}", row=row, value=error.value, fix=fix)


def _lot(pieces: Sequence[RawBars]) -> Decimal:
    """The finest decimal step of the volumes, past the rounding noise of those that are sums of floats."""
    places = 0
    try:
        for raw in pieces:
            places = finest(raw.numbers["volume"], places)
    except OffStepError:
        volumes = [raw.numbers["volume"] for raw in pieces]
        while places < MAX_PLACES and not all(_near(values, places) for values in volumes):
            places += 1
    return step_of(places)


def _near(values: Values, places: int) -> bool:
    noise = 1e-6 if isinstance(values, Tensor) and values.dtype == torch.float32 else 1e-13
    wide = _as_float(values)
    off = torch.round(wide * 10.0**places) / 10.0**places - wide
    return bool((off.abs() <= noise * wide).all())


def _scaled(pieces: Sequence[RawBars], symbol: Symbol) -> tuple[dict[str, Tensor], int]:
    """Our name -> [B] float64; and how many volumes are no whole number of lots."""
    columns: dict[str, list[Tensor]] = {name: [] for name in pieces[0].numbers}
    off_lot = 0
    for raw in pieces:
        ticks = {name: _ticks(raw, name, symbol.price_tick) for name in PRICES}
        _bar_checks.check_ranges(raw, ticks)
        for name, values in raw.numbers.items():
            columns[name].append(symbol.price.to_float(ticks[name]) if name in ticks else _as_float(values))
        columns["volume"][-1], off = _volume(raw.numbers["volume"], symbol.quantity)
        off_lot += off
    return {name: torch.cat(parts) for name, parts in columns.items()}, off_lot


def _ticks(raw: RawBars, name: str, tick: Decimal) -> Tensor:
    try:
        return to_units(raw.numbers[name], tick)
    except OffStepError as error:
        raise _off_step(raw, name, error, "mend the file, or set a finer price_tick") from error


def _volume(values: Values, lots: Scale) -> tuple[Tensor, int]:
    """Lots / scale where that is what the file says, else its own number; and how many such there are."""
    wide = _as_float(values)
    whole = torch.round(wide / float(lots.step))
    large = whole >= MAX_UNITS
    scaled = lots.to_float(whole.masked_fill(large, 0).to(torch.int64))
    own = wide if isinstance(values, Units) else values
    same = ~large & (scaled.to(own.dtype) == own)
    return torch.where(same, scaled, wide), int((~same).sum())


def _as_float(values: Values) -> Tensor:
    return Scale(values.step).to_float(values.units) if isinstance(values, Units) else values.to(torch.float64)


def _kept(time_ns: Tensor, asked: _Asked) -> tuple[Tensor, dict[str, Any]]:
    """The rows that stay, and what was counted."""
    repeated = torch.zeros_like(time_ns, dtype=torch.bool)
    repeated[:-1] = time_ns[:-1] == time_ns[1:]
    early = torch.zeros_like(repeated) if asked.start is None else time_ns < parse_instant(asked.start)
    late = torch.zeros_like(repeated) if asked.end is None else time_ns >= parse_instant(asked.end)
    rows = (~(repeated | early | late)).nonzero().flatten()
    counts = {"duplicates": repeated, "before_start": early & ~repeated, "after_end": late & ~repeated & ~early}
    counted = {name: int(mask.sum()) for name, mask in counts.items()}
    return rows, {"rows_in": len(time_ns), "rows_out": len(rows), **counted}


def _table(numbers: Mapping[str, Tensor], opened: Tensor, step_ns: int, symbol: Symbol) -> dict[str, Tensor]:
    row = torch.arange(len(opened), device=opened.device)
    columns = {name: torch.full_like(numbers["close"], torch.nan) for name in BAR_FLOATS}
    columns |= {name: torch.full_like(row, -1) for name in _COUNTS}
    columns |= {"open_timestamp": opened, "close_timestamp": opened + step_ns}
    columns |= {"first_trade_row": row, "last_trade_row": row.clone()}
    columns |= {"first_move": torch.zeros_like(row), "last_move": torch.zeros_like(row)}
    columns |= {name: numbers[name] for name in (*PRICES, "volume")}
    columns["is_partial"] = torch.zeros_like(row, dtype=torch.bool)
    if "quote_volume" in numbers:
        columns["dollar_volume"] = numbers["quote_volume"]
        columns["vwap"] = _vwap(columns, symbol)
    return {name: columns[name] for name in BAR_COLUMNS}


def _vwap(columns: Mapping[str, Tensor], symbol: Symbol) -> Tensor:
    if symbol.inverse:
        return columns["vwap"]
    volume = columns["volume"]
    mean = columns["dollar_volume"] / (volume * float(symbol.multiplier))
    return torch.where(volume > 0, mean, columns["close"])
