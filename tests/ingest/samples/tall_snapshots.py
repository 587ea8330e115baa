"""Two Parquet files with small row groups: the symbol's snapshots between those of another one, levels in any order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.ingest.samples.books import books
from tests.ingest.samples.rows import Message

HOLDS = "book"
NAMES = ("snapshot_id", "timestamp", "symbol", "side", "level", "price", "quantity")


def write(folder: Path, messages: list[Message]) -> dict[str, Any]:
    draw = random.Random(1)
    made = books(messages)
    half = len(made) // 2
    for name, part in (("a", made[:half]), ("b", made[half:])):
        rows: list[tuple[Any, ...]] = []
        for ident, time, bids, asks in part:
            levels = [("bid", at, *level) for at, level in enumerate(bids)]
            levels += [("ask", at, *level) for at, level in enumerate(asks)]
            draw.shuffle(levels)
            rows += [(ident, time, "BTCUSDT", side, at, float(price), float(size)) for side, at, price, size in levels]
            rows.append((ident, time, "ETHUSDT", "ask", 0, 2_500.123, 1.0))
        columns = dict(zip(NAMES, zip(*rows, strict=True), strict=True))
        table = pa.table(columns | {"timestamp": pa.array(columns["timestamp"]).cast(pa.timestamp("ms", tz="UTC"))})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=31)
    return {"path": str(folder)}
