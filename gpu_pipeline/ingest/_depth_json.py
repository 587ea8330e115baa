"""Depth feeds as a recorder takes them from the exchange: JSON snapshots, and JSON lines of updates.

A line may be the exchange's message alone, be wrapped in {"stream", "data"}, and carry the time at which it was
recorded: before the message (`1723161254206652067 {...}`), or under one of the names in `LOCAL`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.ingest import _arrow, _csv
from gpu_pipeline.ingest._columns import UNITS_NS
from gpu_pipeline.ingest._depth import RawDepth
from gpu_pipeline.ingest._raw import Units, Values
from gpu_pipeline.ingest.parquet import PIECE_ROWS

LOCAL = ("local_timestamp", "local_ts", "local_time", "received_at", "recv_ts", "timestamp")
MAX_LINE_BYTES = 1 << 26
_DECIMAL = pa.decimal128(38, 18)
_FIX = "mend or remove the line"


@dataclass
class _Piece:
    """Messages as they are gathered."""

    file: Path
    checked: str
    begins: bool
    messages: list[tuple[int, int, int, int, int, bool, int]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    side: list[int] = field(default_factory=list)
    price: list[str | None] = field(default_factory=list)
    quantity: list[str | None] = field(default_factory=list)

    def add(self, ids: tuple[int, int, int], clocks: tuple[int, int], message: Mapping[str, Any], row: int) -> None:
        """One message; the names of its sides are those of a snapshot or of an update."""
        snapshot = "lastUpdateId" in message
        before = len(self.side)
        for side, name in ((1, "bids" if snapshot else "b"), (-1, "asks" if snapshot else "a")):
            for level in message.get(name) or ():
                self.side.append(side)
                self.price.append(_text(level[0]))
                self.quantity.append(_text(level[1]))
        self.messages.append((*ids, *clocks, snapshot, row))
        self.sizes.append(len(self.side) - before)

    def raw(self) -> RawDepth:
        """What was gathered."""
        first, final, previous, time_ns, known_ns, is_snapshot, row = (
            torch.tensor(column) for column in zip(*self.messages, strict=True)
        )
        sizes = torch.tensor(self.sizes)
        return RawDepth(
            file=self.file,
            first_id=first,
            final_id=final,
            previous_id=previous,
            time_ns=time_ns,
            known_ns=known_ns,
            is_snapshot=is_snapshot,
            row=row,
            offsets=torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(sizes, 0)]),
            side=torch.tensor(self.side, dtype=torch.int64),
            price=_values(self.price, "price", self),
            quantity=_values(self.quantity, "quantity", self),
            level_row=torch.repeat_interleave(row, sizes),
            checked=self.checked,
            begins=self.begins,
        )


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _values(texts: list[str | None], name: str, piece: _Piece) -> Values:
    """Decimal text exactly; as floats where one is no decimal (NaN, Infinity), so that the error names its row."""
    try:
        cells = _arrow.cells(pa.array(texts, pa.string()).cast(_DECIMAL), name, piece.file)
    except (pa.ArrowException, InputError):
        return torch.tensor([_float(text) for text in texts], dtype=torch.float64)
    if cells.null is not None:
        return torch.tensor([_float(text) for text in texts], dtype=torch.float64)
    return Units(cells.values, cells.step)


def _float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def read(path: Path, instrument: str | None, checked: str, *, snapshots: bool) -> Iterator[RawDepth]:
    """Snapshots (each a piece of its own), or updates piece by piece; lines of other kinds are passed over.

    Raises:
        InputError: a line is no JSON or no message of its kind, or the file mixes instruments; names the line.
    """
    seen: dict[str, int] = {}
    piece = _Piece(path, checked, True)
    for row, local_ns, message in _lines(path):
        if ("lastUpdateId" in message) != snapshots or (not snapshots and message.get("e") != "depthUpdate"):
            continue
        if not _wanted(message, instrument, path, row, seen):
            continue
        try:
            piece.add(_ids(message, snapshots), _clocks(message, local_ns), message, row)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            kind = "snapshot (lastUpdateId, bids, asks)" if snapshots else "depthUpdate (U, u, E, b, a)"
            rule = f"is no complete {kind}: {type(error).__name__} {error}"
            raise InputError.at(path, rule, row=row, fix=_FIX) from error
        if snapshots or len(piece.side) >= PIECE_ROWS:
            yield piece.raw()
            piece = _Piece(path, checked, False)
    if piece.messages:
        yield piece.raw()


def _lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(line, time recorded or -1, the exchange's message) of a file; a whole document counts as line 1."""
    with _csv.damage(path), _csv.opened(path, "") as file:
        for row, line in enumerate(file, 1):
            text = line.strip()
            if not text:
                continue
            if row == 1 and (whole := _document(text, file)) is not None:
                yield row, *_unwrapped(whole, -1)
                return
            yield row, *_unwrapped(*_parsed(text, path, row))


def _document(first: bytes, file: IO[bytes]) -> dict[str, Any] | None:
    """A document spread over lines, which its first line alone is not."""
    if first[:1] != b"{" or first[-1:] == b"}":
        return None
    try:
        found = json.loads(first + file.read(MAX_LINE_BYTES), parse_float=str)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _parsed(text: bytes, path: Path, row: int) -> tuple[dict[str, Any], int]:
    head, _, rest = text.partition(b" ") if text[:1].isdigit() else (b"-1", b"", text)
    try:
        message, local = json.loads(rest, parse_float=str), int(head)
        if not isinstance(message, dict):
            raise ValueError("a message is an object")
        return message, local if local < 0 else _ns(local)
    except ValueError as error:
        raise InputError.at(path, f"is no JSON message: {error}", row=row, value=text[:60], fix=_FIX) from error


def _unwrapped(message: dict[str, Any], local_ns: int) -> tuple[int, dict[str, Any]]:
    inner = message.get("data", message)
    for values in (message, inner):
        local = next((values[name] for name in LOCAL if isinstance(values.get(name), int)), None)
        if local_ns < 0 and local is not None:
            local_ns = _ns(local)
    return local_ns, inner


def _ns(value: int) -> int:
    unit = next((unit for unit in UNITS_NS if unit[0] <= value < unit[1]), None)
    if unit is None:
        raise ValueError(f"{value} is no time in ms, us or ns since 1970")
    return value * unit[2]


def _wanted(message: Mapping[str, Any], instrument: str | None, path: Path, row: int, seen: dict[str, int]) -> bool:
    name = message.get("s", message.get("symbol"))
    if name is None:
        return True
    if instrument is not None:
        return str(name) == instrument
    seen.setdefault(str(name), row)
    if len(seen) > 1:
        rule = f"holds messages of {' and '.join(seen)}"
        raise InputError.at(path, rule, row=row, fix="say which one: set instrument, for example instrument: BTCUSDT")
    return True


def _ids(message: Mapping[str, Any], snapshots: bool) -> tuple[int, int, int]:
    if snapshots:
        return int(message["lastUpdateId"]), int(message["lastUpdateId"]), -1
    return int(message["U"]), int(message["u"]), int(message.get("pu", -1))


def _clocks(message: Mapping[str, Any], local_ns: int) -> tuple[int, int]:
    event, venue = (_ns(int(message[name])) if message.get(name) else -1 for name in ("E", "T"))
    return (venue if venue >= 0 else event), max(event, venue, local_ns)
