"""Malformed snapshots are errors with their time and row."""

from __future__ import annotations

import datetime as dt

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookSnapshots, Tensor


def check(snapshots: BookSnapshots) -> None:
    """Refuses snapshots that no order book can show.

    Raises:
        InputError: times that fall; counts that do not fit; a negative quantity; levels that are not best first
            (or stand twice); a best bid at or above the best ask. Names the snapshot's time and the level's row.
    """
    sizes = snapshots.offsets.diff()
    _refuse(snapshots, _falls(snapshots.time_ns), "times must not fall")
    _refuse(
        snapshots, (snapshots.bid_count < 0) | (snapshots.bid_count > sizes), "bid_count must lie within its levels"
    )
    owner = torch.repeat_interleave(sizes)
    is_bid = torch.arange(len(owner), device=owner.device) < (snapshots.offsets[:-1] + snapshots.bid_count)[owner]
    price = snapshots.price_ticks
    _refuse_level(
        snapshots, owner, snapshots.quantity_lots < 0, "a quantity must not be negative", snapshots.quantity_lots
    )
    unsorted = torch.zeros_like(is_bid)
    step = price.diff()
    same_side = (owner.diff() == 0) & (is_bid[1:] == is_bid[:-1])
    unsorted[1:] = same_side & torch.where(is_bid[1:], step >= 0, step <= 0)
    _refuse_level(snapshots, owner, unsorted, "levels must stand best first, each price once", price)
    _refuse_crossed(snapshots, sizes)


def _falls(time_ns: Tensor) -> Tensor:
    falls = torch.zeros_like(time_ns, dtype=torch.bool)
    falls[1:] = time_ns.diff() < 0
    return falls


def _refuse_crossed(snapshots: BookSnapshots, sizes: Tensor) -> None:
    both = (snapshots.bid_count > 0) & (snapshots.bid_count < sizes)
    which = torch.nonzero(both)[:, 0]
    bid = snapshots.price_ticks[snapshots.offsets[which]]
    ask = snapshots.price_ticks[snapshots.offsets[which] + snapshots.bid_count[which]]
    crossed = torch.zeros_like(both)
    crossed[which] = bid >= ask
    _refuse(snapshots, crossed, "the best bid must lie below the best ask (crossed book)")


def _refuse(snapshots: BookSnapshots, bad: Tensor, rule: str) -> None:
    if bool(bad.any()):
        index = int(bad.int().argmax())
        raise _error(snapshots, index, int(snapshots.offsets[index]), rule, None)


def _refuse_level(snapshots: BookSnapshots, owner: Tensor, bad: Tensor, rule: str, values: Tensor) -> None:
    if bool(bad.any()):
        row = int(bad.int().argmax())
        raise _error(snapshots, int(owner[row]), row, rule, int(values[row]))


def _error(snapshots: BookSnapshots, index: int, row: int, rule: str, value: int | None) -> InputError:
    time_ns = int(snapshots.time_ns[index])
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_ns // 1000)
    where = f"book of {snapshots.symbol.name}, snapshot {index:,} at {moment:%Y-%m-%d %H:%M:%S.%f} UTC, level"
    return InputError.at(where, rule, row=row, value=value, fix="repair or cut the book file")
