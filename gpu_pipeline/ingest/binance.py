"""Trades and aggregate trades as Binance publishes them: CSV, CSV in zip or gzip, of spot, USD-M and COIN-M.

With or without a header, in camel or snake case; times in ms or us, decided per file by their size. COIN-M files count
contracts: set `inverse: true` and `multiplier` (100 USD for BTCUSD contracts, 10 for the others) under `symbols`. A
`.CHECKSUM` beside a file is compared with it, unless `verify: false`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.ingest import _arrow, _csv
from gpu_pipeline.ingest._columns import FileColumns, Name, find, snake
from gpu_pipeline.ingest._csv import Layout
from gpu_pipeline.ingest._files import resolve, verify_checksum
from gpu_pipeline.ingest._raw import RawTrades, ReadRequest

_AGG = ("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id", "transact_time", "is_buyer_maker")
_TRADES = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker")
# Files without a header: known by the number of columns and by where the flag stands.
_BARE = {(6, 5): _TRADES, (7, 5): (*_TRADES, "is_best_match"), (7, 6): _AGG, (8, 6): (*_AGG, "is_best_match")}
_TYPES: dict[Name, pa.DataType] = {
    "timestamp": pa.int64(),
    "price": pa.float64(),
    "quantity": pa.float64(),
    "quote_quantity": pa.float64(),
    "base_quantity": pa.float64(),
    "is_buyer_maker": pa.bool_(),
    "trade_id": pa.int64(),
    "side": pa.string(),
}


class Config(Options):
    """Where the files are.

    Attributes:
        path: file, folder, glob or list of these; `{SYMBOL}` and `{symbol}` stand for the symbol.
        columns: our names -> the header's names, for trades CSV of another vendor.
    """

    path: str | list[str] = Field(examples=["data/{SYMBOL}-trades-*.zip"])
    columns: dict[Name, str | None] = {}


def files(config: Config, symbol: str) -> list[Path]:
    """The files that will be read."""
    return resolve(config.path, symbol, _csv.SUFFIXES)


def read(config: Config, request: ReadRequest) -> Iterator[RawTrades]:
    """Raw trades piece by piece.

    Raises:
        InputError: a file is damaged, has a wrong checksum or is no trades file.
    """
    kinds: dict[str, Path] = {}
    for path in files(config, request.symbol):
        checked = verify_checksum(path, request.verify)
        with _csv.damage(path):
            for member in _csv.members(path):
                yield from _read_member(path, member, checked, config, request, kinds)


def _read_member(
    path: Path, member: str, checked: str, config: Config, request: ReadRequest, kinds: dict[str, Path]
) -> Iterator[RawTrades]:
    label = path / member if member else path
    layout = _layout(_csv.first_lines(path, member), label, request.options.inverse)
    _one_kind(layout, label, kinds)
    found = find(layout.names, config.columns, label)
    types = {name: _TYPES[ours] for ours, name in found.items()}
    columns = FileColumns(label, checked=checked)
    for batch in _csv.batches(path, member, layout, types, str(label)):
        cells = {ours: _arrow.cells(batch.column(name), name, label) for ours, name in found.items()}
        raw = columns.piece(cells)
        yield raw if request.device.type == "cpu" else raw.map(lambda column: column.to(request.device))


def _layout(lines: list[str], label: Path, inverse: bool) -> Layout:
    """Names of the columns, from the header or from the shape of the first row."""
    if not lines:
        raise InputError.at(label, "is empty", fix="download it again")
    first = [cell.strip().strip('"') for cell in lines[0].split(",")]
    if not _is_number(first[0]):
        return _headed(tuple(snake(name) for name in first), label, inverse)
    flag = next((at for at, cell in enumerate(first) if cell.lower() in ("true", "false")), -1)
    names = _BARE.get((len(first), flag))
    if names is None:
        rule = f"has {len(first)} columns and no header, which is neither trades (6 or 7) nor aggTrades (7 or 8)"
        raise InputError.at(label, rule, value=lines[0][:200], fix="convert it to Parquet and name its columns")
    if inverse:
        names = tuple("base_qty" if name == "quote_qty" else name for name in names)
    return Layout(names, 0)


def _headed(names: tuple[str, ...], label: Path, inverse: bool) -> Layout:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError.at(label, "the header names a column twice", value=twice[0], fix="download it again")
    if "base_qty" in names and not inverse:
        rule = "is a COIN-M file: its quantities are contracts"
        fix = "set inverse: true and multiplier (100 for BTCUSD, 10 for others) under symbols"
        raise InputError.at(label, rule, fix=fix)
    return Layout(names, 1)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _one_kind(layout: Layout, label: Path, kinds: dict[str, Path]) -> None:
    kind = "aggTrades" if "agg_trade_id" in layout.names else "trades"
    other = next((path for known, path in kinds.items() if known != kind), None)
    if other is not None:
        rule = f"holds {kind}, but {other} does not"
        raise InputError.at(label, rule, fix="read trades or aggTrades: name one kind in path")
    kinds.setdefault(kind, label)
