"""A peer that needs no environment: it misbehaves in every way that a process of a peer can."""

from __future__ import annotations

import os
import time

import numpy as np

from bench.peers._contract import RESIDENT, Call
from bench.peers._definition import columns_of

PACKAGES = ()
CALLS = {"bars": Call(RESIDENT, "rows and volumes", "none", row_bytes=16)}
HELD_MIB = 96


def prepare(trades, threshold):
    return {
        "bars": lambda: closed(trades, threshold),
        "sleeps": lambda: time.sleep(0.05),
        "prints": lambda: os.write(1, b"what libraries say\n"),
        "raises": lambda: 1 // 0,
        "dies": die,
        "holds": lambda: np.ones(HELD_MIB << 17).sum(),
        "threads": lambda: {"count": [int(os.environ["NUMBA_NUM_THREADS"])]},
        "liar": lambda: {**closed(trades, threshold), "volume": np.ones(len(closed(trades, threshold)["volume"]))},
    }


def die():
    os.write(2, b"out of everything\n")
    os._exit(7)


def closed(trades, threshold):
    """Reset bars in Python's integers."""
    total, first, rows = 0, 0, []
    for row, value in enumerate(trades.notional.tolist()):
        total += value
        if total >= threshold:
            rows.append((first, row))
            total, first = 0, row + 1
    names = ("first_trade_row", "last_trade_row", "volume")
    columns = columns_of(trades, *([row[place] for row in rows] for place in (0, 1)))
    return {name: columns[name] for name in names} if rows else {name: [] for name in names}


def table(result):
    return result


def definition(trades, threshold, call):
    return closed(trades, threshold)
