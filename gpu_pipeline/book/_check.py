"""What snapshots can be that no order book is: found, and refused, dropped or kept as configured."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Literal

import torch

from gpu_pipeline.book._grid import at_or_above
from gpu_pipeline.book._pieces import select
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookSnapshots, Tensor

OnBadBook = Literal["error", "drop", "keep"]
RULES: Mapping[str, str] = {
    "clock_back": "times must not fall",
    "bad_count": "bid_count must lie within its levels",
    "negative": "a quantity must not be negative",
    "unsorted": "levels must stand best first, each price once",
    "crossed": "the best bid must lie below the best ask (crossed book)",
}
# Only books of these kinds can stand in a tensor as they are.
KEPT = ("unsorted", "crossed")


def faults(books: BookSnapshots, latest_ns: int) -> dict[str, Tensor]:
    """[S] bool per kind of fault, in the order of RULES.

    Args:
        books: S consecutive snapshots.
        latest_ns: the latest time before them.
    """
    sizes, device = books.offsets.diff(), books.time_ns.device
    wrong_count = (books.bid_count < 0) | (books.bid_count > sizes)
    owner, negative, unsorted = level_faults(books)
    found = {"clock_back": _falls(books.time_ns, latest_ns), "bad_count": wrong_count}
    for name, levels in (("negative", negative), ("unsorted", unsorted)):
        found[name] = torch.zeros(len(books), dtype=torch.bool, device=device)
        found[name][owner[levels]] = True
    found["crossed"] = torch.zeros_like(wrong_count)
    if not bool(wrong_count.any()):
        found["crossed"] = at_or_above(books.price_ticks, books.offsets, books.bid_count)
    return found


def level_faults(books: BookSnapshots) -> tuple[Tensor, Tensor, Tensor]:
    """Per level: its snapshot (int64), whether its quantity is negative, whether it stands behind a worse one."""
    price = books.price_ticks
    owner = torch.repeat_interleave(books.offsets.diff())
    is_bid = torch.arange(len(owner), device=owner.device) < (books.offsets[:-1] + books.bid_count)[owner]
    unsorted = torch.zeros_like(is_bid)
    step, same_side = price.diff(), (owner.diff() == 0) & (is_bid[1:] == is_bid[:-1])
    unsorted[1:] = same_side & torch.where(is_bid[1:], step >= 0, step <= 0)
    return owner, books.quantity_lots < 0, unsorted


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
    found = faults(books, latest_ns)
    counts = {name: int(bad.sum()) for name, bad in found.items()}
    refused = {"error": tuple(RULES), "drop": (), "keep": tuple(name for name in RULES if name not in KEPT)}
    for name in refused[on_bad_book]:
        if counts[name]:
            raise _error(books, name, int(found[name].int().argmax()), first)
    if on_bad_book == "drop" and any(counts.values()):
        bad = torch.stack(list(found.values())).any(0)
        books = select(books, torch.nonzero(~bad)[:, 0])
    return books, counts


def moment_of(time_ns: int) -> str:
    """A time as messages show it."""
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_ns // 1000)
    return f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC"


def _error(books: BookSnapshots, name: str, index: int, first: tuple[int, int]) -> InputError:
    row, value = int(books.offsets[index]), None
    if name in ("negative", "unsorted"):
        owner, negative, unsorted = level_faults(books)
        bad = negative if name == "negative" else unsorted
        row = int((bad & (owner == index)).int().argmax())
        value = int((books.quantity_lots if name == "negative" else books.price_ticks)[row])
    where = (
        f"book of {books.symbol.name}, snapshot {first[0] + index:,} at {moment_of(int(books.time_ns[index]))}, level"
    )
    fix = "repair or cut the book file" + ("" if name in ("clock_back", "bad_count") else ", or book.on_bad_book: drop")
    return InputError.at(where, RULES[name], row=first[1] + row, value=value, fix=fix)
