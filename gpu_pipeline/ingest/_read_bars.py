"""Bars made by others (DESIGN 4.3, `ohlcv`) in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu_pipeline.core import plugins
from gpu_pipeline.core.config import SourceSection, SymbolOptions, check_values
from gpu_pipeline.core.device import choose_device
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars
from gpu_pipeline.ingest._read import open_stream, request_of


def read_bars(
    path: str | Path | list[str | Path],
    source: str = "ohlcv",
    symbol: str = "",
    step: str = "1min",
    columns: Mapping[str, str | None] | None = None,
    device: str = "auto",
    **options: Any,
) -> Bars:
    """Reads bars that others made, from Parquet or CSV with a header, into one table.

    Gaps in time stay gaps; of rows with the same time the last one counts; rows outside `sessions` and on `holidays`
    are left out. A bar's own row number stands for its trades (`first_trade_row`, `last_trade_row`), so that streams
    align; what the files do not tell is NaN, counts -1, moves 0. A column of volume in quote currency gives
    `dollar_volume` and `vwap`. Prices are ticks / scale, and so are volumes of whole lots; a volume that is a float sum
    off the lot stays as the file has it, and is counted.

    Args:
        path: file, folder, glob or list in order of time; `{SYMBOL}` and `{symbol}` stand for the symbol.
        source: `ohlcv`, or a dotted path to a source of bars.
        symbol: exchange name.
        step: duration of a bar.
        columns: our names (`timestamp open high low close volume quote_volume`) -> the file's names.
        device: `auto`, `cuda` or `cpu`.
        options: keys of the source (`label: open|close`), of its section (`start`, `end`: bounds of the opens; `limit`,
            `on_bad_row`, `verify`) and of the symbol (`sessions`, `holidays`, `timezone`, `price_tick`, `quantity_lot`,
            `multiplier`, `inverse` ...), as in a run file.

    Returns:
        B bars named `time_STEP`; `report` counts rows in and out, what was left out and why, gaps and volumes off the
            lot.

    Raises:
        ConfigError: wrong options, a line each.
        InputError: bad data; names file, row, rule and value.
    """
    where = "read_bars"
    own = _keys(source)
    known = {key: options.pop(key) for key in tuple(options) if key in SymbolOptions.model_fields or key not in own}
    paths = [str(item) for item in path] if isinstance(path, list) else str(path)
    given = {"source": source, "path": paths, "step": step, "columns": dict(columns or {}), **options}
    section = check_values(SourceSection, given, where)
    facts = check_values(SymbolOptions, known, where)
    request = request_of(section, "bars", symbol, facts, device=choose_device(device).device)
    stream = open_stream(source, section.options, request)
    if stream.kind is not Bars:
        raise InputError(f"{where}: source '{source}' holds no bars; there is ohlcv")
    pieces = list(stream.make(stream.symbol))
    return replace(Bars.concat(pieces), report=pieces[-1].report)


def _keys(source: str) -> set[str]:
    """The keys of a source and its section; sources of this project that hold no bars are refused."""
    if source in plugins.names("sources") and source != "ohlcv":
        raise InputError(f"read_bars: no source of bars '{source}'; there is ohlcv")
    return {*SourceSection.model_fields, *plugins.load("sources", source).config.model_fields}
