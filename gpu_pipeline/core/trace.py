"""Progress, log and the account of what a run did: seconds, rows, peak memory. Nothing here enters a manifest."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = logging.getLogger("gpu_pipeline")
QUIET_SECONDS, LOG_SECONDS = 2.0, 5.0


@dataclass
class StageRecord:
    """What one stage did."""

    stage: str
    rows_in: int | None = None
    rows_out: int | None = None
    seconds: float = 0.0
    peak_bytes: int = 0
    reused: bool = False
    note: str = ""


@dataclass
class Trace:
    """Collects stage records and shows progress: bars on a terminal, plain log lines elsewhere."""

    console: Console = field(default_factory=lambda: Console(stderr=True))
    records: list[StageRecord] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageRecord]:
        """Times a stage and notes the process's peak memory after it."""
        record = StageRecord(name)
        started = time.perf_counter()
        try:
            yield record
        finally:
            record.seconds = time.perf_counter() - started
            record.peak_bytes = peak_bytes()
        self.records.append(record)

    @contextmanager
    def progress(self, title: str, total: int | None = None) -> Iterator[Ticker]:
        """A ticker for long work; silent where the work ends within two seconds."""
        ticker = Ticker(title, total, self.console)
        try:
            yield ticker
        finally:
            ticker.close()


class Ticker:
    """Counts steps; draws a bar after two seconds on a terminal, logs a line every five elsewhere."""

    def __init__(self, title: str, total: int | None, console: Console) -> None:
        self._title, self._total, self._console = title, total, console
        self._done = 0
        self._started = self._logged = time.perf_counter()
        self._bar: Progress | None = None

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Reports that `steps` more are done."""
        self._done += steps
        if time.perf_counter() - self._started < QUIET_SECONDS:
            return
        if self._console.is_terminal:
            self._draw(note)
        else:
            self._log(note)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()

    def _draw(self, note: str) -> None:
        if self._bar is None:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.add_task(self._title, total=self._total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=self._done, description=f"{self._title} {note}".strip())

    def _log(self, note: str) -> None:
        if time.perf_counter() - self._logged < LOG_SECONDS:
            return
        self._logged = time.perf_counter()
        of = f" of {self._total:,}" if self._total else ""
        log.info("%s: %s%s %s", self._title, f"{self._done:,}", of, note)


def peak_bytes() -> int:
    """Peak memory so far: of the GPU where one is in use, else of this process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
