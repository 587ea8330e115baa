"""A snapshot and two files of updates of a USD-M book, in tall form with small row groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.ingest.samples.rows import Message

HOLDS = "book"


def write(folder: Path, messages: list[Message]) -> dict[str, Any]:
    (ident, time, levels), *updates = messages
    table = _table([(ident, time, *level) for level in levels], ["last_update_id", "exch_ts"])
    pq.write_table(table, folder / "BTCUSDT_snapshot.parquet")
    half, rows, before = len(updates) // 2, [], ident
    for ident, time, levels in updates:
        rows.append([(before + 1, ident, before, time, *level) for level in levels])
        before = ident
    for name, part in (("a", rows[:half]), ("b", rows[half:])):
        flat = [row for message in part for row in message]
        table = _table(flat, ["first_id", "final_id", "prev_final_id", "trans_ts"])
        pq.write_table(table, folder / f"BTCUSDT_depth_{name}.parquet", row_group_size=31)
    paths = {"snapshot": "{SYMBOL}_snapshot.parquet", "diffs": "{SYMBOL}_depth_*.parquet"}
    return {**{key: str(folder / path) for key, path in paths.items()}, "market": "usdm"}


def _table(rows: list[tuple[Any, ...]], names: list[str]) -> pa.Table:
    *heads, sides, prices, sizes = zip(*rows, strict=True)
    columns = dict(zip(names, heads, strict=True))
    return pa.table({**columns, "side": sides, "price": list(map(float, prices)), "qty": list(map(float, sizes))})
