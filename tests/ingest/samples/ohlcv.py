"""Two files of minute bars: Parquet with small row groups, and CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.ingest.samples.rows import Minute

HOLDS = "bars"
NAMES = ("open_time", "open", "high", "low", "close", "volume", "quoteVolume")


def write(folder: Path, minutes: list[Minute]) -> dict[str, Any]:
    half = len(minutes) // 2
    columns = [list(column) for column in zip(*minutes[:half], strict=True)]
    numbers = [list(map(float, column)) for column in columns[1:]]
    pq.write_table(
        pa.table(dict(zip(NAMES, [columns[0], *numbers], strict=True))), folder / "a.parquet", row_group_size=31
    )
    lines = [",".join(NAMES), *(",".join(map(str, minute)) for minute in minutes[half:])]
    (folder / "b.csv").write_text("\n".join(lines) + "\n")
    return {"path": str(folder), "step": "1min"}
