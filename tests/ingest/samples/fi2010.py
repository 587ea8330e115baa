"""Two matrices of 149 rows: ten levels, features of zeros, labels."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.ingest.samples.books import Side, books
from tests.ingest.samples.rows import Message

HOLDS = "book"
LEVELS = 10


def matrix(made: list[tuple[Side, Side]]) -> list[str]:
    """The lines of the books, bids and asks of each."""
    none = (Decimal(0), Decimal(0))
    columns = []
    for bids, asks in made:
        both = zip([*asks, *[none] * LEVELS][:LEVELS], [*bids, *[none] * LEVELS][:LEVELS], strict=True)
        levels = [value for ask, bid in both for value in (*ask, *bid)]
        columns.append([*levels, *[0] * 104, *[2] * 5])
    return ["   ".join(f"{float(value):.7e}" for value in row) for row in zip(*columns, strict=True)]


def write(folder: Path, messages: list[Message]) -> dict[str, Any]:
    made = [(bids, asks) for _, _, bids, asks in books(messages)]
    half = len(made) // 2
    for at, part in enumerate((made[:half], made[half:]), start=1):
        (folder / f"Train_Dst_NoAuction_DecPre_CF_{at}.txt").write_text("\n".join(matrix(part)) + "\n")
    return {"path": str(folder)}
