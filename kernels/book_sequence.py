"""Which messages of a depth feed apply to an order book, decided by the venue's update ids.

A message brings the updates [first_id, final_id]; a snapshot is the whole book after update final_id. They come in the
order in which they are to be applied: a snapshot stands before the first message that reaches beyond it, whenever it
was recorded. A message that does not apply is dropped whole, and its code says why:

    APPLY            its levels are set; a snapshot replaces the book
    STALE            it ends before the snapshot that the book was made from; or a snapshot older than the book
    DUPLICATE        it ends at the last update applied: the same message again
    OUT_OF_ORDER     it ends before the last update applied, so the book already holds it
    GAP              updates are missing before it: there is no book from here to the next snapshot
    BEFORE_SNAPSHOT  there is no book yet, or none since the last gap

The rules are those of Binance's API documentation, "How to manage a local order book correctly", of each market.

`spot`     drop final_id <= the snapshot's id; apply while first_id <= the book's id + 1. A message that overlaps what
           the book holds applies too: quantities are absolute.
`futures`  (USD-M, COIN-M) drop final_id < the snapshot's id; the first one applied has first_id <= that id <= final_id,
           or names it as its previous_id; then previous_id == final_id of the message before. Ids are not consecutive.
`none`     no ids: whatever follows a snapshot applies.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import cuda
from torch import Tensor

from kernels._blocks import NO_ROW
from kernels._op import jit, launch, new_filled, new_rows, require, require_one_device

CODES = ("apply", "stale", "duplicate", "out_of_order", "gap", "before_snapshot")
APPLY, STALE, DUPLICATE, OUT_OF_ORDER, GAP, BEFORE_SNAPSHOT = range(len(CODES))
RULES = ("none", "spot", "futures")
NONE, SPOT, FUTURES = range(len(RULES))
NO_BOOK, FRESH, CHAINED = range(3)


def book_sequence(
    first_id: Tensor,  # [M] int64
    final_id: Tensor,  # [M] int64; a snapshot's id
    previous_id: Tensor,  # [M] int64, final_id of the message before as the venue says; read under `futures` alone
    is_snapshot: Tensor,  # [M] bool
    rule: str,
    state: Tensor,  # [2] int64: id of the book, and NO_BOOK, FRESH (nothing since its snapshot) or CHAINED
) -> tuple[Tensor, Tensor]:
    """Return (codes [M] int64, indices into CODES, and the state [2]); zeros(2) is the state at the beginning.

    Any chunking gives the same codes. On CUDA one thread walks the messages, of which there are few beside their
    levels, and the call waits for it.

    Raises:
        ValueError: an unknown rule; under a rule with ids, a negative id or a message that ends before it begins.
    """
    columns = {"first_id": first_id, "final_id": final_id, "previous_id": previous_id}
    size = first_id.shape[0] if isinstance(first_id, Tensor) and first_id.dim() else None
    columns = {name: require("book_sequence", name, x, torch.int64, size) for name, x in columns.items()}
    columns["is_snapshot"] = require("book_sequence", "is_snapshot", is_snapshot, torch.bool, size)
    columns["state"] = require("book_sequence", "state", state, torch.int64, 2)
    require_one_device("book_sequence", **columns)
    if rule not in RULES:
        raise ValueError(f"book_sequence: rule must be one of {', '.join(RULES)}, got '{rule}'")
    return _book_sequence(*columns.values(), RULES.index(rule))


@jit
def follows(first, previous, rule, book_id, phase):
    """Whether no update is missing between the book and a message that ends beyond it."""
    if rule == SPOT:
        return first - 1 <= book_id
    return previous == book_id or (phase == FRESH and first <= book_id)


@jit
def judge(first, final, previous, is_snapshot, rule, book_id, phase):
    """Return (code, id of the book, phase) after one message."""
    if is_snapshot:
        if rule != NONE and phase != NO_BOOK and final < book_id:
            return STALE, book_id, phase
        return APPLY, final, FRESH
    if phase == NO_BOOK:
        return BEFORE_SNAPSHOT, book_id, phase
    if rule == NONE:
        return APPLY, book_id, CHAINED
    if phase == FRESH and (final < book_id or (final == book_id and rule == SPOT)):
        return STALE, book_id, phase
    if phase == CHAINED and final <= book_id:
        return DUPLICATE if final == book_id else OUT_OF_ORDER, book_id, phase
    if follows(first, previous, rule, book_id, phase):
        return APPLY, final, CHAINED
    return GAP, book_id, NO_BOOK


@jit
def spec(first_id, final_id, previous_id, is_snapshot, state, rule, codes, after):
    """Write the codes and the state; return the first row whose ids make no sense, or NO_ROW."""
    book_id, phase = state[0], state[1]
    for row in range(codes.shape[0]):
        first, final = final_id[row] if is_snapshot[row] else first_id[row], final_id[row]
        if rule != NONE and not 0 <= first <= final:
            return row
        codes[row], book_id, phase = judge(first, final, previous_id[row], is_snapshot[row], rule, book_id, phase)
    after[0], after[1] = book_id, phase
    return NO_ROW


@torch.library.custom_op("gpu_pipeline::book_sequence", mutates_args=(), device_types="cpu")
def _book_sequence(
    first_id: Tensor, final_id: Tensor, previous_id: Tensor, is_snapshot: Tensor, state: Tensor, rule: int
) -> tuple[Tensor, Tensor]:
    columns = [x.numpy() for x in (first_id, final_id, previous_id, is_snapshot, state)]
    codes, after = np.empty(len(columns[0]), np.int64), np.empty(2, np.int64)
    _refuse(spec(*columns, rule, codes, after))
    return torch.from_numpy(codes), torch.from_numpy(after)


@_book_sequence.register_kernel("cuda")
def _(
    first_id: Tensor, final_id: Tensor, previous_id: Tensor, is_snapshot: Tensor, state: Tensor, rule: int
) -> tuple[Tensor, Tensor]:
    return launch_book_sequence(first_id, final_id, previous_id, is_snapshot, state, rule)


@_book_sequence.register_fake
def _(
    first_id: Tensor, final_id: Tensor, previous_id: Tensor, is_snapshot: Tensor, state: Tensor, rule: int
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(first_id), torch.empty_like(state)


def _refuse(row: int) -> None:
    if row != NO_ROW:
        raise ValueError(
            f"book_sequence: ids must satisfy 0 <= first_id <= final_id, they do not at message {row} of the chunk; "
            "drop that message, or use the rule none where the venue has no ids"
        )


def launch_book_sequence(first_id, final_id, previous_id, is_snapshot, state, rule: int):
    """Run the kernel on torch's current stream, or in the simulator on numpy arrays; return (codes, state)."""
    codes, after, bad = new_rows(state, first_id.shape[0]), new_rows(state, 2), new_filled(state, NO_ROW)
    launch(_sequence_kernel, 1, 1, first_id, final_id, previous_id, is_snapshot, state, rule, codes, after, bad)
    _refuse(int(bad[0]))
    return codes, after


@cuda.jit
def _sequence_kernel(first_id, final_id, previous_id, is_snapshot, state, rule, codes, after, bad):
    """One thread: each message is judged by what the ones before it left."""
    bad[0] = spec(first_id, final_id, previous_id, is_snapshot, state, rule, codes, after)
