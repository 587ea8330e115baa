"""Where live rows go: JSON lines, a line per row as soon as it is known, or one Parquet file at the end."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.store import write_table
from gpu_pipeline.live.engine import to_json
from gpu_pipeline.live.fold import LiveRow
from gpu_pipeline.live.plan import Plan
from gpu_pipeline.live.session import Open

Predicted = Mapping[str, Mapping[str, float]]


class Lines:
    """Writes JSON lines."""

    def __init__(self, file: IO[str], plan: Plan) -> None:
        self._file, self._plan = file, plan

    def write(self, row: LiveRow, predicted: Predicted) -> None:
        """One line, flushed."""
        self._file.write(json.dumps(to_json(row, self._plan, predicted)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes a file; standard output stays open."""
        if self._file is not sys.stdout:
            self._file.close()


class Table:
    """Collects rows and writes a Parquet file with a column per stream and feature."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self._path, self._plan = path, plan
        self._columns: dict[str, list[Any]] = {}
        self._rows = 0

    def write(self, row: LiveRow, predicted: Predicted) -> None:
        """Keeps the row."""
        content = to_json(row, self._plan, predicted)
        plain = {key: content[key] for key in ("symbol", "time_ns", "known_ns", "last_trade_row", "sample")}
        for stream, values in content["input"].items():
            plain |= {f"{stream}/{column}": value for column, value in values.items()}
        for model, classes in content.get("predicted", {}).items():
            plain |= {f"{model}/{name}": value for name, value in classes.items()}
        for name, value in plain.items():
            held = self._columns.setdefault(name, [math.nan] * self._rows)
            held.append(value)
        self._rows += 1
        for held in self._columns.values():
            held += [math.nan] * (self._rows - len(held))

    def close(self) -> None:
        """Writes the file, whole or not at all."""
        write_table(self._path, pa.table(self._columns))


def opened(target: str) -> Open:
    """What opens an output: `-` standard output, a `.parquet` file, or any other file for JSON lines.

    Raises:
        InputError: the folder of the file is not there.
    """
    path = Path(target)
    if target != "-" and not path.parent.is_dir():
        raise InputError.at(path.parent, "is no folder", fix="make it, or write elsewhere")
    if target == "-":
        return lambda plan: Lines(sys.stdout, plan)
    if path.suffix == ".parquet":
        return lambda plan: Table(path, plan)
    return lambda plan: Lines(path.open("a"), plan)
