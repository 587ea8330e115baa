"""FI-2010: ten levels of five Nasdaq Nordic stocks, matrices of 149 rows and a column for every ten events.

Rows 1 to 40 are the book, `ask price, ask volume, bid price, bid volume` of levels 1 to 10; rows 41 to 144 features
made from it, 145 to 149 labels (1 up, 2 stationary, 3 down) for the next 10, 20, 30, 50 and 100 events. Only the book
is read, and the labels are checked, since they are made again from the book here. Prices and volumes must be those of
the decimal-precision files (`DecPre`); z-scores and min-max values are no prices. The matrices have no times: column i
gets `opening` + i x `step`, so that order is kept and durations mean nothing, nor do changes where one stock ends and
the next begins; `events` picks a range of columns. A level of price 0 and volume 0 is not there. Files are text as
published, `sha256` names their digests. Ntakaris, Magris, Kanniainen, Gabbouj and Iosifidis (2018), "Benchmark dataset
for mid-price forecasting of limit order book data with machine learning methods", Journal of Forecasting 37.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator

from gpu_pipeline.core.config import Duration
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.store import digest_file
from gpu_pipeline.core.units import parse_duration, parse_instant
from gpu_pipeline.ingest import _csv, _wide
from gpu_pipeline.ingest._files import resolve, verify_checksum
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._snapshots import RawSnapshots

SUFFIXES = (".txt", ".txt.gz")
ROWS, LEVELS, FIRST_LABEL = 149, 10, 144
_FIX = "give a decimal-precision (DecPre) matrix as it was published"


class Config(Options):
    """Where the files are, and which times their columns get.

    Attributes:
        path: file, folder, glob or list of these; `{SYMBOL}` and `{symbol}` stand for the symbol.
        sha256: name of a file -> the digest that it must have.
        opening: time of the first column of the first file, UTC; a file goes on where the one before it ends.
        step: distance of two columns in time.
        events: first column and the one after the last, in each file, counted from 0; null for all.
    """

    path: str | list[str] = Field(examples=["data/Train_Dst_NoAuction_DecPre_CF_7.txt"])
    sha256: dict[str, str] = {}
    opening: str = "2010-06-01"
    step: Duration = "1s"
    events: tuple[int, int] | None = None

    @field_validator("opening")
    @classmethod
    def _is_time(cls, value: str) -> str:
        parse_instant(value)
        return value

    @field_validator("events")
    @classmethod
    def _is_range(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 0 <= value[0] < value[1]:
            raise ValueError(f"events must be [first, stop] with 0 <= first < stop, got {list(value)}")
        return value


def files(config: Config, symbol: str) -> list[Path]:
    """The files that will be read."""
    return resolve(config.path, symbol, SUFFIXES)


def read(config: Config, request: ReadRequest) -> Iterator[RawSnapshots]:
    """Raw snapshots piece by piece; a file is taken whole, as its rows are the levels.

    Raises:
        InputError: a file is damaged, has another shape or digest, or holds no prices.
    """
    columns = 0
    for path in files(config, request.symbol):
        checked = _verified(path, config, request.verify)
        book = _matrix(path)
        first, stop = config.events or (0, book.shape[1])
        if stop > book.shape[1]:
            rule = f"has {book.shape[1]:,} columns"
            raise InputError.at(path, rule, value=[first, stop], fix="give events within the file, or leave it out")
        yield from _pieces(path, book, (first, stop), columns, config, checked)
        columns += stop - first


def _verified(path: Path, config: Config, verify: bool) -> str:
    wanted = config.sha256.get(path.name)
    if wanted is None or not verify:
        return verify_checksum(path, verify)
    if digest_file(path) != wanted.lower():
        raise InputError.at(path, "its sha256 is not the one under sha256", value=wanted, fix="download it again")
    return "checksum"


def _matrix(path: Path) -> np.ndarray:
    """[40, N] float64 levels; the number of rows and the labels are checked.

    Raises:
        InputError: another shape, a cell that is no number, or labels other than 1, 2 and 3.
    """
    book: list[np.ndarray] = []
    row, width = 0, 0
    with _csv.damage(path), _csv.opened(path, "") as file:
        for row, line in enumerate((line for line in file if line.strip()), start=1):
            cells = line.split()
            width = width or len(cells)
            if len(cells) != width:
                rule = f"has {len(cells):,} columns where {width:,} are due"
                raise InputError.at(path, rule, row=row, fix="download it again")
            if row <= 4 * LEVELS:
                book.append(_numbers(path, row, cells))
            elif row > FIRST_LABEL:
                _check_labels(path, row, _numbers(path, row, cells))
    if row != ROWS:
        rule = f"has {row:,} rows and {width:,} columns; a matrix has {ROWS} rows"
        raise InputError.at(path, rule, fix="give the text file as it was published, one feature a row")
    return np.stack(book)


def _numbers(path: Path, row: int, cells: Sequence[bytes]) -> np.ndarray:
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError as error:
        raise InputError.at(path, f"holds no number: {error}", row=row, fix="download it again") from error


def _check_labels(path: Path, row: int, labels: np.ndarray) -> None:
    wrong = np.flatnonzero(~np.isin(labels, (1, 2, 3)))
    if len(wrong):
        rule = f"column {int(wrong[0]) + 1:,}: a label must be 1, 2 or 3"
        raise InputError.at(path, rule, row=row, value=float(labels[wrong[0]]), fix=_FIX)


def _pieces(
    path: Path, book: np.ndarray, events: tuple[int, int], columns: int, config: Config, checked: str
) -> Iterator[RawSnapshots]:
    start, step = parse_instant(config.opening), parse_duration(config.step)
    size = max(1, _wide.PIECE_LEVELS // (2 * LEVELS))
    for begin in range(events[0], events[1], size):
        end = min(begin + size, events[1])
        values = torch.from_numpy(book[:, begin:end].copy())
        time_ns = start + step * (columns - events[0] + torch.arange(begin, end))
        # Of each level the rows ask price, ask volume, bid price, bid volume.
        prices: Any = [(row, None) for row in (*values[2::4], *values[0::4])]
        volumes: Any = [(row, None) for row in (*values[3::4], *values[1::4])]
        zeros = [(price == 0) & (volume == 0) for (price, _), (volume, _) in zip(prices, volumes, strict=True)]
        absent = torch.stack(zeros, 1)
        # What other files call a row is a column here.
        depth = _wide.snapshots((path / "columns", begin, checked), (time_ns, time_ns), prices, volumes, absent)
        yield RawSnapshots(depth)
