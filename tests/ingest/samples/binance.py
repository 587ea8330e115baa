"""Two zips of trades as the exchange publishes them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from tests.ingest.samples.rows import Row


def write(folder: Path, rows: list[Row]) -> dict[str, Any]:
    half = len(rows) // 2
    for month, part in (("2024-01", rows[:half]), ("2024-02", rows[half:])):
        name = f"BTCUSDT-trades-{month}"
        lines = [
            f"{at},{price},{size},{price * size:f},{time},{str(maker).lower()}" for at, time, price, size, maker in part
        ]
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.writestr(f"{name}.csv", "\n".join(["id,price,qty,quote_qty,time,is_buyer_maker", *lines, ""]))
    return {"path": str(folder / "{SYMBOL}-trades-*.zip")}
