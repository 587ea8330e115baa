"""The integer columns of a bar, and how two stretches of one bar's trades become one."""

from __future__ import annotations

from kernels._int128 import add
from kernels._op import jit

COLUMNS = (
    "first_time",
    "last_time",
    "first_row",
    "last_row",
    "open",
    "high",
    "low",
    "close",
    "count",
    "volume",
    "notional",
    "buy_volume",
    "s1",
    "s2_hi",
    "s2_lo",
    "s3_hi",
    "s3_lo",
    "s4_hi",
    "s4_lo",
    "price_changes",
    "directional_changes",
    "first_move",
    "last_move",
)
K = len(COLUMNS)
FIRST_TIME, LAST_TIME, FIRST_ROW, LAST_ROW, OPEN, HIGH, LOW, CLOSE, COUNT, VOLUME, NOTIONAL, BUYS = range(12)
S1, S2, S3, S4, CHANGES, TURNS, FIRST_MOVE, LAST_MOVE = 12, 13, 15, 17, 19, 20, 21, 22


@jit
def merge(parts, left, right):
    """Add parts[:, right] to parts[:, left]: the same bar's rows just after, power sums about the same origin."""
    if parts[COUNT, right] == 0:
        return
    if parts[COUNT, left] == 0:
        for column in range(K):
            parts[column, left] = parts[column, right]
        return
    for column in (LAST_TIME, LAST_ROW, CLOSE):
        parts[column, left] = parts[column, right]
    for column in (COUNT, VOLUME, NOTIONAL, BUYS, S1, CHANGES, TURNS):
        parts[column, left] += parts[column, right]
    for word in (S2, S3, S4):
        parts[word, left], parts[word + 1, left] = add(
            parts[word, left], parts[word + 1, left], parts[word, right], parts[word + 1, right]
        )
    parts[HIGH, left] = max(parts[HIGH, left], parts[HIGH, right])
    parts[LOW, left] = min(parts[LOW, left], parts[LOW, right])
    parts[TURNS, left] += 1 if parts[LAST_MOVE, left] * parts[FIRST_MOVE, right] < 0 else 0
    parts[FIRST_MOVE, left] = parts[FIRST_MOVE, left] if parts[FIRST_MOVE, left] != 0 else parts[FIRST_MOVE, right]
    parts[LAST_MOVE, left] = parts[LAST_MOVE, right] if parts[LAST_MOVE, right] != 0 else parts[LAST_MOVE, left]
