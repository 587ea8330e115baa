"""Monthly files of bars: a row lies in the file of the month of its close."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.bars._fold import Chain
from gpu_pipeline.core.schema import Bars, Symbol
from gpu_pipeline.core.store import TableFile, table_file
from gpu_pipeline.core.units import month_of, parse_instant

Month = tuple[int, int]


class Months:
    """The monthly files of one resolution, written while its bars come."""

    def __init__(self, folder: Path, symbol: Symbol, chain: Chain) -> None:
        self._folder, self._symbol, self._chain = folder, symbol, chain
        self._open = ExitStack()
        self._file: TableFile | None = None
        self.month: Month | None = None

    def __enter__(self) -> Months:
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def write(self, month: Month, bars: Bars) -> None:
        """Adds bars to a month; the one before is finished."""
        table = bars.to_arrow()
        if self._file is None or month != self.month:
            self._open.close()
            self._file = self._open.enter_context(table_file(self._path(month), table.schema, self._metadata(bars)))
            self.month = month
        self._file.write(table)

    def _path(self, month: Month) -> Path:
        name = f"{self._symbol.name}_{month[0]:04}_{month[1]:02}_{self._chain.title}.parquet"
        return self._folder / self._chain.name / name

    def _metadata(self, bars: Bars) -> dict[str, str]:
        return {
            "symbol": json.dumps(self._symbol.to_json(), sort_keys=True),
            "bars": self._chain.name,
            "resolution": self._chain.resolution,
            "has_side": json.dumps(bars.has_side),
        }


def by_month(bars: Bars) -> Iterable[tuple[Month, Bars]]:
    """The rows cut where the month of their close changes."""
    start = 0
    closes = bars.close_timestamp
    while start < len(bars):
        month = month_of(int(closes[start]))
        stop = int(torch.searchsorted(closes, _next_month_ns(month)))
        yield month, bars.select(slice(start, stop))
        start = stop


def _next_month_ns(month: Month) -> int:
    year, number = (month[0] + 1, 1) if month[1] == 12 else (month[0], month[1] + 1)
    return parse_instant(f"{year:04}-{number:02}-01")
