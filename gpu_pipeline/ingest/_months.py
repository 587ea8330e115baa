"""Tables in time order, cut at the borders of UTC months."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.core.units import month_of, parse_instant


def months(time_ns: Tensor) -> Iterator[tuple[str, slice]]:
    """`YYYY_MM` and the rows of each month in it, for times that do not fall."""
    start = 0
    while start < len(time_ns):
        year, month = month_of(int(time_ns[start]))
        stop = int(torch.searchsorted(time_ns, _next_month(year, month)))
        yield f"{year}_{month:02d}", slice(start, stop)
        start = stop


def _next_month(year: int, month: int) -> int:
    return parse_instant(dt.date(year + month // 12, month % 12 + 1, 1).isoformat())


def monthly_files(folder: Path, symbol: str) -> list[Path]:
    """`{SYMBOL}_{YYYY}_{MM}.parquet` of a folder, in time order.

    Raises:
        InputError: there are none.
    """
    files = sorted(folder.glob(f"{symbol}_[0-9][0-9][0-9][0-9]_[0-9][0-9].parquet"))
    if not files:
        raise InputError.at(folder, f"holds no monthly file of {symbol}", fix="run the stage ingest")
    return files
