"""The features stage: bars of all resolutions in, one Parquet file per symbol and month of the close out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from gpu_pipeline.core.config import RunConfig
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars, Depth, Features, Symbol
from gpu_pipeline.core.store import file_metadata, read_table, write_table
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.core.units import month_of, parse_instant
from gpu_pipeline.features._book import BOOK, BookRows
from gpu_pipeline.features._set import is_time_step, read_include, read_set
from gpu_pipeline.features.engine import Engine, Rows

ROW_COLUMNS = ("time_ns", "known_ns", "last_trade_row")
TIMESTAMP = pa.timestamp("ns", tz="UTC")


def write(
    folder: Path,
    config: RunConfig,
    symbols: Mapping[str, Symbol],
    bars: Callable[[Symbol, str], Bars],
    book: Callable[[Symbol], Depth],
    device: torch.device,
    trace: Trace,
) -> dict[str, Any]:
    """Folds the engine over each symbol's months and writes them; returns what the manifest says of the content."""
    engine = compile_run(config)
    accounts = {}
    with trace.progress("features", len(symbols)) as ticker:
        for name, symbol in symbols.items():
            tables: dict[str, Rows] = {
                resolution: bars(symbol, resolution).complete() for resolution in engine.needed if resolution != BOOK
            }
            if BOOK in engine.needed:
                tables[BOOK] = BookRows.of(book(symbol))
            base = base_of(engine, tables)
            _refuse_nothing(base, name)
            rows = _write_symbol(folder, engine, tables, device)
            accounts[name] = {"bars": len(base), "rows": rows, "span": _span(base)}
            ticker.advance(1, name)
    return {
        "rows_in": sum(account["bars"] for account in accounts.values()),
        "rows_out": sum(account["rows"] for account in accounts.values()),
        "note": f"{len(engine.names)} columns over {', '.join(engine.needed)}",
        "columns": list(engine.names),
        "levels": list(engine.levels),
        "warmup": dict(engine.warmup),
        "symbols": accounts,
    }


def _refuse_nothing(base: Bars, symbol: str) -> None:
    if not len(base):
        fix = "use more trades or a smaller bars.threshold"
        raise InputError(f"features: the trades of {symbol} do not fill one bar {base.name}; {fix}")


def compile_run(config: RunConfig) -> Engine:
    """The engine of a run: its feature set over the resolutions of its bars, short bars first.

    Raises:
        ConfigError, InputError: the set or the list of columns is wrong, or wants a resolution that the run lacks.
    """
    if config.features is None or config.bars is None:
        raise InputError("features: the run file needs the sections 'bars' and 'features'")
    resolutions = ("short", *config.bars.resolutions, *config.bars.time)
    if config.book is not None:
        resolutions = (*resolutions, BOOK)
    return Engine(read_set(config.features.set), resolutions, include=read_include(config.features.include))


def reads_book(config: RunConfig) -> bool:
    """Whether the run has a book and the set features of it, told without compiling the set."""
    if config.book is None or config.features is None:
        return False
    return any(choice.feature.of_book for choice in read_set(config.features.set))


def load(folder: Path, symbol: Symbol, device: torch.device) -> Features:
    """All features of a symbol, in order, on a device.

    Raises:
        InputError: the stage wrote nothing for this symbol, or a file is damaged.
    """
    paths = sorted((folder / symbol.name).glob("*.parquet"))
    if not paths:
        raise InputError.at(folder / symbol.name, "holds no features", fix="run the stage 'features' first")
    about = json.loads(file_metadata(paths[0])["features"])
    table = pa.concat_tables([read_table(path) for path in paths])
    return Features(
        symbol=symbol,
        names=tuple(about["names"]),
        values=torch.stack([_tensor(table[name], device) for name in about["names"]], dim=1),
        levels=tuple(about["levels"]),
        warmup=about["warmup"],
        **{name: _tensor(table[name], device) for name in ROW_COLUMNS},
    )


def _tensor(column: pa.ChunkedArray, device: torch.device) -> Tensor:
    plain = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    return torch.tensor(plain.to_numpy(), device=device)


def base_of(engine: Engine, tables: Mapping[str, Rows]) -> Bars:
    """The bars whose rows come out."""
    base = tables[engine.base]
    assert isinstance(base, Bars)
    return base


def _write_symbol(folder: Path, engine: Engine, tables: Mapping[str, Rows], device: torch.device) -> int:
    state, rows = engine.start(device), 0
    for year, month, chunk in _months(tables, base_of(engine, tables), engine.base):
        features, state = engine.step(chunk, state)
        name = features.symbol.name
        _write_month(folder / name / f"{name}_{year:04d}_{month:02d}.parquet", features)
        rows += len(features)
    return rows


def _months(tables: Mapping[str, Rows], bars: Bars, base: str) -> Iterator[tuple[int, int, dict[str, Rows]]]:
    """The bars cut where the base enters another month; each piece holds what its base rows may see."""
    first = dict.fromkeys(tables, 0)
    closed = bars.close_timestamp
    while first[base] < len(closed):
        year, month = month_of(int(closed[first[base]]))
        end = parse_instant(f"{year + month // 12:04d}-{month % 12 + 1:02d}-01")
        stop = int(torch.searchsorted(closed, end))
        last = {name: _visible(name, table, bars, stop - 1) for name, table in tables.items()} | {base: stop}
        yield year, month, {name: table.select(slice(first[name], last[name])) for name, table in tables.items()}
        first = last


def _visible(name: str, table: Rows, base: Bars, row: int) -> int:
    """How many rows of a table the base's `row` may see."""
    if isinstance(table, BookRows):
        return int(torch.searchsorted(table.known_ns, base.close_timestamp[row]))
    key = "close_timestamp" if is_time_step(name) else "last_trade_row"
    return int(torch.searchsorted(table.columns[key], base.columns[key][row], right=True))


def _write_month(path: Path, features: Features) -> None:
    arrays = {name: pa.array(getattr(features, name).cpu().numpy()) for name in ROW_COLUMNS}
    times = {name: array.cast(TIMESTAMP) if name.endswith("_ns") else array for name, array in arrays.items()}
    values = features.values.t().contiguous().cpu().numpy()
    table = pa.table(times | {name: values[index] for index, name in enumerate(features.names)})
    about = {"names": features.names, "levels": features.levels, "warmup": dict(features.warmup)}
    metadata = {"symbol": json.dumps(features.symbol.to_json()), "features": json.dumps(about)}
    write_table(path, table, metadata)


def _span(bars: Bars) -> list[int]:
    closed = bars.close_timestamp
    return [int(closed[0]), int(closed[-1])] if len(closed) else []
