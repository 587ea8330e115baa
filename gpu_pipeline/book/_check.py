"""What snapshots can be that no order book is: found, and refused, dropped or kept as configured."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Literal

import torch

from gpu_pipeline.book._pieces import select
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookSnapshots, Tensor
from kernels import book_faults as op

OnBadBook = Literal["error", "drop", "keep"]
RULES: Mapping[str, str] = {
    "clock_back": "times must not fall",
    "bad_count": "bid_count must lie within its levels",
    "negative": "a quantity must not be negative",
    "unsorted": "levels must stand best first, each price once",
    "crossed": "the best bid must lie below the best ask (crossed book)",
    "locked": "the best bid must lie below the best ask (locked book)",
}
_BITS = {
    "bad_count": op.COUNTS,
    "negative": op.NEGATIVE,
    "unsorted": op.UNSORTED,
    "crossed": op.CROSSED,
    "locked": op.LOCKED,
}
# Only books of these kinds can stand in a tensor as they are.
KEPT = ("unsorted", "crossed", "locked")


def faults(books: BookSnapshots, latest_ns: int) -> tuple[dict[str, Tensor], Tensor]:
    """([S] bool per kind of fault in the order of RULES, [S] int64 first level at fault, -1 where none is).

    Args:
        books: S consecutive snapshots.
        latest_ns: the latest time before them.
    """
    kinds, level = op.book_faults(books.price_ticks, books.quantity_lots, books.offsets, books.bid_count)
    found = {"clock_back": _falls(books.time_ns, latest_ns)}
    return found | {name: (kinds & bit) != 0 for name, bit in _BITS.items()}, level


def _falls(time_ns: Tensor, latest_ns: int) -> Tensor:
    if not len(time_ns):
        return torch.zeros_like(time_ns, dtype=torch.bool)
    before = torch.cat((time_ns.new_full((1,), latest_ns), time_ns[:-1])).cummax(0).values
    return time_ns < before


def sound(
    books: BookSnapshots, latest_ns: int, on_bad_book: OnBadBook, first: tuple[int, int] = (0, 0)
) -> tuple[BookSnapshots, dict[str, int]]:
    """The snapshots that stay, and how many malformed ones there were of each kind (one may be of several).

    Args:
        books: consecutive snapshots.
        latest_ns: the latest time before them.
        on_bad_book: whether a malformed one is an error, left out, or stays.
        first: snapshots and levels before them, for messages.

    Raises:
        InputError: a malformed one with `error`, or one that cannot stay with `keep`. Names its time and row.
    """
    found, level = faults(books, latest_ns)
    counts = {name: int(bad.sum()) for name, bad in found.items()}
    refused = {"error": tuple(RULES), "drop": (), "keep": tuple(name for name in RULES if name not in KEPT)}
    for name in refused[on_bad_book]:
        if counts[name]:
            raise _error(books, name, int(found[name].int().argmax()), level, first)
    if on_bad_book == "drop" and any(counts.values()):
        bad = torch.stack(list(found.values())).any(0)
        books = select(books, torch.nonzero(~bad)[:, 0])
    return books, counts


def moment_of(time_ns: int) -> str:
    """A time as messages show it."""
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_ns // 1000)
    return f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC"


def _error(books: BookSnapshots, name: str, index: int, level: Tensor, first: tuple[int, int]) -> InputError:
    row, value = int(books.offsets[index]), None
    if name in ("negative", "unsorted"):
        row = int(level[index])
        value = int((books.quantity_lots if name == "negative" else books.price_ticks)[row])
    where = f"book of {books.symbol.name}, snapshot {first[0] + index:,} at {moment_of(int(books.time_ns[index]))}"
    fix = "repair or cut the book file, or leave such books out (book.on_bad_book: drop)"
    return InputError.at(f"{where}, level", RULES[name], row=first[1] + row, value=value, fix=fix)
