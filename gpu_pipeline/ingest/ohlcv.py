"""Bars made by others, from Parquet or CSV with a header: open, high, low, close and volume per time step.

Columns are found by the names that files of the field use (`timestamp ts time open_time datetime date`, `open high low
close`, `volume vol`, `quote_volume`), or by `columns:` from our names to the file's (null leaves an optional one out).
Times are ms, us or ns since 1970, a timestamp type, or ISO text in CSV; without a zone they are UTC.

Gaps in time stay gaps. Of rows with the same time the last one counts; the others, rows outside the sessions and those
that open on a holiday are dropped and counted, before anything is made of them. Rows of a file are sorted by time and
counted; a file that begins before the one before it ended is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from gpu_pipeline.core.config import Dates, Sessions, Step, Zone
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.units import parse_duration
from gpu_pipeline.ingest import _bar_files
from gpu_pipeline.ingest._bar_files import Name, RawBars, Rules
from gpu_pipeline.ingest._files import resolve
from gpu_pipeline.ingest._raw import ReadRequest


class Config(Options):
    """Where the files are, and what their rows mean.

    Attributes:
        path: file, folder, glob or list of these; `{SYMBOL}` and `{symbol}` stand for the symbol.
        step: duration of a bar.
        columns: our names -> the file's names.
        label: whether a row's time is the `open` or the `close` of its bar.
        sessions: when the venue trades, `sun-thu 17:00-16:00` (days of the open) or `{days, open, close}`; a bar
            belongs to the session in which it opens. Those of the symbol where absent; none means always.
        holidays: local dates whose bars are dropped; those of the symbol where absent.
        timezone: IANA zone of sessions and holidays; that of the symbol where absent.
    """

    path: str | list[str] = Field(examples=["data/{SYMBOL}_1m.parquet"])
    step: Step = "1min"
    columns: dict[Name, str | None] = {}
    label: Literal["open", "close"] = "open"
    sessions: Sessions | None = None
    holidays: Dates | None = None
    timezone: Zone | None = None


def files(config: Config, symbol: str) -> list[Path]:
    """The files that will be read."""
    return resolve(config.path, symbol, _bar_files.SUFFIXES)


def read(config: Config, request: ReadRequest) -> Iterator[RawBars]:
    """Raw bars piece by piece, in file order.

    Raises:
        InputError: a file is damaged, or lacks a column.
        EnvironmentProblem: Parquet on cuda was asked for and pylibcudf is missing.
    """
    step_ns, own = parse_duration(config.step), config.model_dump(include={"sessions", "holidays", "timezone"})
    options = request.options.model_copy(update={key: value for key, value in own.items() if value is not None})
    rules = Rules(step_ns, step_ns if config.label == "close" else 0, options)
    for path in files(config, request.symbol):
        for raw in _bar_files.read(path, config.columns, request):
            if len(raw):
                yield replace(raw, rules=rules)
