"""Two files of best bids and offers: Parquet with small row groups, and CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.ingest.samples.rows import Quote

HOLDS = "quotes"
NAMES = ("u", "transaction_time", "best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty")


def write(folder: Path, quotes: list[Quote]) -> dict[str, Any]:
    half = len(quotes) // 2
    columns = [list(column) for column in zip(*quotes[:half], strict=True)]
    whole = dict(zip(NAMES, [*columns[:2], *(list(map(float, column)) for column in columns[2:])], strict=True))
    pq.write_table(pa.table(whole), folder / "a.parquet", row_group_size=31)
    lines = [",".join(NAMES), *(",".join(map(str, quote)) for quote in quotes[half:])]
    (folder / "b.csv").write_text("\n".join(lines) + "\n")
    return {"path": str(folder), "columns": {"update_id": "u"}}
