"""Two Parquet files with small row groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.ingest.samples.rows import Row


def write(folder: Path, rows: list[Row]) -> dict[str, Any]:
    half = len(rows) // 2
    for name, part in (("a", rows[:half]), ("b", rows[half:])):
        ids, times, prices, sizes, makers = zip(*part, strict=True)
        table = pa.table(
            {
                "tid": ids,
                "time": pa.array(times).cast(pa.timestamp("ms", tz="UTC")),
                "price": [float(price) for price in prices],
                "quantity": [float(size) for size in sizes],
                "side": ["sell" if maker else "buy" for maker in makers],
            }
        )
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=31)
    return {"path": str(folder), "columns": {"trade_id": "tid"}}
