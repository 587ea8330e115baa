"""Where figures go: one CSV per machine, only ever appended to, and a short table."""

from __future__ import annotations

import csv
import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench._measure import COLUMNS, ROOT, Record

RESULTS = ROOT / "bench" / "results"


def append(records: Sequence[Record], folder: Path | None = None) -> Path:
    """Appends records to <machine>.csv; the header is written once.

    Raises:
        SystemExit: the file's header names other columns.
    """
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{slug(records[0].machine)}.csv"
    fresh = not path.exists()
    if not fresh and path.read_text().partition("\n")[0] != ",".join(COLUMNS):
        raise SystemExit(f"{path}: its header is not {','.join(COLUMNS)}; move the file away")
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(COLUMNS)
        writer.writerows([_text(value) for value in dataclasses.astuple(record)] for record in records)
    return path


def _text(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def slug(machine: str) -> str:
    """A file name made of a machine's name."""
    return re.sub(r"[^a-z0-9]+", "_", machine.lower()).strip("_")


def list_reasons(reasons: Mapping[str, str]) -> None:
    """One line for each benchmark without figures: never silent about what did not run."""
    for name, reason in reasons.items():
        sys.stdout.write(f"{name}: {reason}\n")


def show(records: Sequence[Record]) -> None:
    """A table: median rate, how many times as fast ours is, spread, bandwidth and its share of the copy ceiling."""
    head = ("op", "implementation", "shape", "median", "ours is", "p20 .. p80", "GB/s", "of copy", "peak MiB")
    ours = {(record.op, record.shape): record.p50 for record in records if record.implementation == "ours"}
    rows = [
        (
            record.op,
            record.implementation,
            record.shape,
            f"{quantity(record.p50)} {record.unit}",
            _ratio(ours.get((record.op, record.shape)), record),
            f"{quantity(record.p20)} .. {quantity(record.p80)}",
            f"{record.bytes_per_s / 1e9:,.1f}" if record.bytes_per_s else "",
            f"{record.share_of_copy:.0%}" if record.share_of_copy else "",
            f"{record.peak_mib:,.0f}" if record.peak_mib else "",
        )
        for record in records
    ]
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    for row in (head, *rows):
        sys.stdout.write("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n")


def _ratio(ours: float | None, record: Record) -> str:
    return "" if ours is None or record.implementation == "ours" else f"{ours / record.p50:.3g} x"


def quantity(value: float) -> str:
    """Three digits and a letter: 12.3 M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g} "
