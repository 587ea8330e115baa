"""LOBSTER: messages of one day with the book after each of them, as published (two CSV files) or as one Parquet file.

The stream `trades` has the executions of visible (type 4) and hidden orders (type 5); every other stream, `book`, has
the book after every message, as deep as the file. A pair of CSV files is named by its message file: the other one has
`orderbook` in place of `message` in its name. Parquet has the columns `time_ns` (or `time`, in seconds), `type, size,
price, direction` and `ask_px_1, ask_sz_1, bid_px_1, bid_sz_1, ask_px_2 ...`. Formats: lobsterdata.com, "Output
Structure"; prices are USD x 10,000, and a level that is not there has price +-9,999,999,999 and size 0.

The direction is that of the resting order, so the taker is on its other side. Hidden executions leave the book as it
is and may lie between two cents: they decide the price step where none is given. They are counted; `hidden: drop`
leaves them out. Cross trades (type 6) and halts (type 7) are counted and are no trades. Rows of executions in messages
count the executions of the file alone. Times are nanoseconds (CSV: to the nearest one) after midnight of `date` in
`timezone`; one that steps back is set to the latest before it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import torch
from pydantic import Field, field_validator

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.ingest import _wide
from gpu_pipeline.ingest._files import resolve
from gpu_pipeline.ingest._lobster_files import BOOK, MESSAGES, SUFFIXES, Piece, partner, read_pieces
from gpu_pipeline.ingest._raw import RawTrades, ReadRequest
from gpu_pipeline.ingest._snapshots import RawSnapshots

NO_LEVEL = 9_999_999_999
VISIBLE, HIDDEN = 4, 5
COUNTED = {"executions_hidden": HIDDEN, "cross_trades": 6, "halts": 7}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SECOND_NS = 1_000_000_000


class Config(Options):
    """Where the files are and of which day.

    Attributes:
        path: file, folder, glob or list of message or Parquet files; `{SYMBOL}` and `{symbol}` stand for the symbol.
        date: the day, where the names of the files do not hold it (YYYY-MM-DD).
        timezone: IANA zone whose midnight the times count from.
        hidden: executions of hidden orders are trades, or are left out.
    """

    path: str | list[str] = Field(examples=["data/{SYMBOL}_2012-06-21_34200000_57600000_message_5.csv"])
    date: str | None = None
    timezone: str = "America/New_York"
    hidden: Literal["keep", "drop"] = "keep"

    @field_validator("date", mode="before")
    @classmethod
    def _is_date(cls, value: Any) -> Any:
        return value if value is None else dt.date.fromisoformat(str(value)).isoformat()

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError) as error:
            raise ValueError(f"'{value}' is no IANA time zone, for example America/New_York") from error
        return value


def files(config: Config, symbol: str) -> list[Path]:
    """The files that will be read."""
    found = _named(config, symbol)
    return [*found, *(beside for path in found if (beside := partner(path)) is not None and beside.is_file())]


def _named(config: Config, symbol: str) -> list[Path]:
    found = resolve(config.path, symbol, SUFFIXES)
    named = [path for path in found if path.name.endswith(".parquet") or MESSAGES in path.name]
    if not named:
        rule = f"is no message file: its name does not hold '{MESSAGES}'"
        raise InputError.at(found[0], rule, fix=f"name the {MESSAGES} files; '{BOOK}' files are found beside them")
    return named


def read(config: Config, request: ReadRequest) -> Iterator[RawTrades | RawSnapshots]:
    """Executions, or the book after every message, piece by piece.

    Raises:
        InputError: a file is damaged, the two files of a pair do not match, or the day is not known.
    """
    found = _named(config, request.symbol)
    days = {path: _midnight(path, config, len(found)) for path in found}
    for path in sorted(found, key=lambda path: days[path]):
        trades = request.stream == "trades"
        first = 0
        for piece in read_pieces(path, request.verify, book=not trades):
            if trades:
                raw = _executions(piece, days[path], first, config.hidden)
                first += len(raw)
                yield raw if request.device.type == "cpu" else raw.map(lambda column: column.to(request.device))
            else:
                yield _books(piece, days[path])


def _midnight(path: Path, config: Config, count: int) -> int:
    """Nanoseconds UTC of the midnight that the times of a file count from."""
    named = _DATE.search(path.name)
    if named is None and (config.date is None or count > 1):
        rule = "its name does not hold the day of its times"
        fix = "set date: 2012-06-21 under the source (one file), or put YYYY-MM-DD into the names"
        raise InputError.at(path, rule, fix=fix)
    text = named[0] if named else str(config.date)
    try:
        day = dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(config.timezone))
    except ValueError as error:
        raise InputError.at(path, "its name holds no date", value=text, fix="name it by its day") from error
    if config.date not in (None, text):
        raise InputError.at(path, f"is of {text}, but date is {config.date}", fix="leave date out")
    return int(day.timestamp()) * _SECOND_NS


def _executions(piece: Piece, midnight_ns: int, first_row: int, hidden: str) -> RawTrades:
    kind, direction = piece.whole("type"), piece.whole("direction")
    wanted = (kind == VISIBLE) | ((kind == HIDDEN) & (hidden == "keep"))
    price, no_price = piece.prices("price")
    quantity, no_quantity = piece.sizes("size")
    raw = RawTrades(
        # Its rows are those of the executions.
        piece.file / "executions",
        first_row,
        piece.time_ns(midnight_ns),
        price=price,
        quantity=quantity,
        is_buyer_maker=direction == 1,
        nulls={"price": no_price, "quantity": no_quantity, "is_buyer_maker": direction.abs() != 1},
        shown={"is_buyer_maker": "a direction other than 1 and -1"},
        checked=piece.checked,
        counted={name: int((kind == code).sum()) for name, code in COUNTED.items()},
    )
    return raw.map(lambda column: column[wanted])


def _books(piece: Piece, midnight_ns: int) -> RawSnapshots:
    time_ns = piece.time_ns(midnight_ns)
    names = [(side, level) for side in ("bid", "ask") for level in range(1, piece.levels + 1)]
    prices = [piece.prices(f"{side}_px_{level}") for side, level in names]
    sizes = [piece.sizes(f"{side}_sz_{level}") for side, level in names]
    absent = torch.stack([price.units.abs() == NO_LEVEL for price, _ in prices], 1)
    where = (piece.file, piece.first_row, piece.checked)
    return RawSnapshots(_wide.snapshots(where, (time_ns, time_ns), prices, sizes, absent))
