"""Order books of Binance: depth updates and the REST snapshots that they apply to, of spot, USD-M and COIN-M.

Files are tables in tall form (Parquet, CSV; one row per level, found by the names that recorders use or by `columns`),
or the exchange's JSON as it was recorded: snapshots of one document or line each, updates one in a line, plain or gz,
also wrapped in {"stream", "data"} or behind the time at which they were recorded. One file may be named for both.

The chain of update ids decides what applies, by the rules of "How to manage a local order book correctly" of the
exchange's documentation for each market: a snapshot stands before the first update that does not end before it,
whenever it was recorded. `spot` chains by first_id = previous final_id + 1, `usdm` and `coinm` by the final_id of the
message before, which each update names. What is dropped is counted by reason. Times are those of the transaction, else
of the event, else the recorder's; one that steps back is set to the latest before it. An event is known at the latest
of its clocks. What comes before `start` makes the book that is there at `start`; `limit` counts messages that apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.ingest import _depth_json, _depth_tables
from gpu_pipeline.ingest._book_sequence import DepthRules, RawBook
from gpu_pipeline.ingest._depth import RawDepth, in_order
from gpu_pipeline.ingest._files import resolve, verify_checksum
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._tall import SUFFIXES as TABLES

SUFFIXES = (*TABLES, ".json", ".jsonl", ".ndjson", ".gz")
DiffName = Literal[
    "transaction_time",
    "event_time",
    "local_time",
    "first_id",
    "final_id",
    "previous_id",
    "side",
    "price",
    "quantity",
]
Market = Literal["spot", "usdm", "coinm"]
SnapshotName = Literal["transaction_time", "event_time", "local_time", "update_id", "side", "price", "quantity"]


class Config(Options):
    """Where the files are and how their messages chain.

    Attributes:
        snapshot: file, folder, glob or list of REST snapshots; `{SYMBOL}` and `{symbol}` stand for the symbol.
        diffs: the same of depth updates, in the order in which they were recorded.
        market: whose rules of chaining hold, one for all symbols or one for each.
        on_gap: updates that are missing are an error, or the book is empty until the next snapshot.
        on_time_back: a time that steps back in the sequence is set to the latest before it and counted, or an error.
        columns: our names -> those of the tables of updates.
        snapshot_columns: our names -> those of the tables of snapshots.
        instrument: exchange name in JSON lines of several instruments; `{SYMBOL}` stands for the symbol.
    """

    snapshot: str | list[str] = Field(examples=["data/{SYMBOL}_snapshot.parquet"])
    diffs: str | list[str] = Field(examples=["data/{SYMBOL}_depth_*.parquet"])
    market: Market | dict[str, Market] = Field(examples=["usdm"])
    on_gap: Literal["error", "wait"] = "error"
    on_time_back: Literal["count", "error"] = "count"
    columns: dict[DiffName, str | None] = {}
    snapshot_columns: dict[SnapshotName, str | None] = {}
    instrument: str | None = None


def files(config: Config, symbol: str) -> list[Path]:
    """The files that will be read, each once."""
    snapshots, diffs = (resolve(path, symbol, SUFFIXES) for path in (config.snapshot, config.diffs))
    return list(dict.fromkeys([*snapshots, *diffs]))


def read(config: Config, request: ReadRequest) -> Iterator[RawBook]:
    """Messages with each snapshot in its place, piece by piece.

    Raises:
        InputError: a file is damaged or holds no depth feed.
    """
    market = _market(config, request)
    rules = DepthRules("spot" if market == "spot" else "futures", config.on_gap, config.on_time_back)
    for piece in in_order(_snapshots(config, request), _diffs(config, market, request)):
        yield RawBook(piece, rules)


def _market(config: Config, request: ReadRequest) -> Market:
    if not isinstance(config.market, dict):
        return config.market
    if request.symbol not in config.market:
        there = ", ".join(config.market) or "none"
        raise InputError(f"ingest.{request.stream}.market: no market for {request.symbol}; there are {there}")
    return config.market[request.symbol]


def _snapshots(config: Config, request: ReadRequest) -> Iterator[RawDepth]:
    """Every snapshot as a piece of its own, by update id, which rises within a file."""
    paths = resolve(config.snapshot, request.symbol, SUFFIXES)
    firsts = ((_first_id(path, config, request), place) for place, path in enumerate(paths))
    order = sorted((first, place) for first, place in firsts if first is not None)
    if not order:
        raise InputError.at(paths[0], "holds no snapshot", fix="name the files of REST snapshots under 'snapshot'")
    last: RawDepth | None = None
    for _, place in order:
        for piece in _read(paths[place], config, request, snapshots=True):
            for at in range(len(piece)):
                one = piece.part(at, at + 1)
                _check_rises(one, last)
                yield one
                last = one


def _first_id(path: Path, config: Config, request: ReadRequest) -> int | None:
    piece = next(_read(path, config, request, snapshots=True), None)
    return None if piece is None else int(piece.final_id[0])


def _check_rises(one: RawDepth, last: RawDepth | None) -> None:
    if last is not None and int(one.final_id[0]) < int(last.final_id[0]):
        rule = f"the update id of a snapshot falls below {int(last.final_id[0])} of {last.file}"
        fix = "give snapshots in the order of their ids, each file without overlap"
        raise InputError.at(one.file, rule, row=int(one.row[0]), value=int(one.final_id[0]), fix=fix)


def _diffs(config: Config, market: Market, request: ReadRequest) -> Iterator[RawDepth]:
    none = True
    paths = resolve(config.diffs, request.symbol, SUFFIXES)
    for path in paths:
        for piece in _read(path, config, request, snapshots=False):
            _check_previous(piece, market)
            none = False
            yield piece
    if none:
        raise InputError.at(paths[0], "holds no depth update", fix="name the files of updates under 'diffs'")


def _check_previous(piece: RawDepth, market: Market) -> None:
    if market != "spot" and bool((piece.previous_id < 0).all()):
        rule = f"has no previous final_id, by which updates of {market} chain"
        fix = "name its column under columns (previous_id), or set market: spot"
        raise InputError.at(piece.file, rule, row=int(piece.row[0]), fix=fix)


def _read(path: Path, config: Config, request: ReadRequest, *, snapshots: bool) -> Iterator[RawDepth]:
    if path.name.endswith(TABLES):
        columns: Mapping[Any, str | None] = config.snapshot_columns if snapshots else config.columns
        yield from _depth_tables.read(path, columns, request.verify, snapshots=snapshots)
        return
    name = config.instrument and config.instrument.replace("{SYMBOL}", request.symbol)
    checked = verify_checksum(path, request.verify)
    yield from _depth_json.read(path, name, checked, snapshots=snapshots)
