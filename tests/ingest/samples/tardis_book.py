"""Two days of incremental_book_L2 as gz: changes before the first snapshot, and each day begins with a snapshot."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from tests.ingest.samples.books import books
from tests.ingest.samples.rows import Message

HOLDS = "book"
HEADER = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"


def line(time_ms: int, snapshot: bool, side: int, price: Any, amount: Any) -> str:
    words = ("true" if snapshot else "false", "bid" if side == 1 else "ask")
    return f"binance,BTCUSDT,{time_ms * 1_000},{time_ms * 1_000 + 250},{words[0]},{words[1]},{price},{amount}"


def write(folder: Path, messages: list[Message]) -> dict[str, Any]:
    half = len(messages) // 2
    _, time, bids, asks = books(messages[:half])[-1]
    again = [(side, *level) for side, levels in ((1, bids), (-1, asks)) for level in levels]
    days = ([(True, messages[0]), *((False, one) for one in messages[1:half])], [(True, (0, time, again))])
    days[1].extend((False, one) for one in messages[half:])
    for day, part in enumerate(days, start=1):
        rows = [line(messages[0][1] - 5, False, 1, 40_000, 7)] if day == 1 else []
        rows += [line(at, new, *level) for new, (_, at, levels) in part for level in levels]
        path = folder / f"binance_incremental_book_L2_2024-02-0{day}_BTCUSDT.csv.gz"
        path.write_bytes(gzip.compress(("\n".join([HEADER, *rows]) + "\n").encode(), mtime=0))
    return {"path": str(folder / "*_incremental_book_L2_*_{SYMBOL}.csv.gz")}
