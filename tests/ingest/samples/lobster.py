"""A pair of CSV files in the published form: times after midnight in New York, sizes with decimals."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.ingest.samples.books import books
from tests.ingest.samples.rows import Message

HOLDS = "book"
LEVELS = 12
# 2024-01-31 in New York.
MIDNIGHT_MS = 1_706_677_200_000


def write(folder: Path, messages: list[Message]) -> dict[str, Any]:
    lines, rows = [], []
    for ident, time, bids, asks in books(messages):
        lines.append(f"{Decimal(time - MIDNIGHT_MS).scaleb(-3)},1,{ident},1,420000000,1")
        sides = [[*asks, *[(None, 0)] * LEVELS][:LEVELS], [*bids, *[(None, 0)] * LEVELS][:LEVELS]]
        cells = []
        for level in range(LEVELS):
            for (price, size), none in ((sides[0][level], 9_999_999_999), (sides[1][level], -9_999_999_999)):
                cells += [none if price is None else int(price * 10_000), size]
        rows.append(",".join(map(str, cells)))
    name = "BTCUSDT_2024-01-31_0_86400000_{}_12.csv"
    (folder / name.format("message")).write_text("\n".join(lines) + "\n")
    (folder / name.format("orderbook")).write_text("\n".join(rows) + "\n")
    return {"path": str(folder / "{SYMBOL}_*_message_*.csv")}
