"""What is wrong with snapshots, against the definitions in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.book_faults as module
from kernels.book_faults import KINDS, book_faults, launch_book_faults

PRICES = st.one_of(st.integers(96, 104), st.sampled_from([-(2**63), 2**63 - 1]))
SIDE = st.lists(st.tuples(PRICES, st.integers(-1, 8)), max_size=5)


def flat(books):
    levels = [level for bids, asks in books for level in (*bids, *asks)]
    price, quantity = np.array(levels, np.int64).reshape(-1, 2).T.copy()
    offsets = np.cumsum([0, *(len(bids) + len(asks) for bids, asks in books)])
    return price, quantity, offsets, np.array([len(bids) for bids, _ in books], np.int64)


def brute(books):
    found, start = [], 0
    for bids, asks in books:
        names, rows = set(), []
        for side, sign, begin in ((bids, -1, start), (asks, 1, start + len(bids))):
            wrong = [row for row in range(1, len(side)) if (side[row][0] - side[row - 1][0]) * sign <= 0]
            negative = [row for row, (_, lots) in enumerate(side) if lots < 0]
            names |= ({"unsorted"} if wrong else set()) | ({"negative"} if negative else set())
            rows += [begin + row for row in wrong + negative]
        names |= {name for name, side in (("no_bids", bids), ("no_asks", asks)) if not side}
        if bids and asks and bids[0][0] >= asks[0][0]:
            names.add("crossed" if bids[0][0] > asks[0][0] else "locked")
        found.append((names, min(rows, default=-1)))
        start += len(bids) + len(asks)
    return found


def named(kinds, level):
    names = [{name for bit, name in enumerate(KINDS) if kind >> bit & 1} for kind in kinds.tolist()]
    return list(zip(names, level.tolist(), strict=True))


def judged(books):
    return named(*book_faults(*(torch.from_numpy(x) for x in flat(books))))


@given(books=st.lists(st.tuples(SIDE, SIDE), max_size=5))
def test_faults_are_the_definitions(books):
    assert judged(books) == brute(books)


def test_sound_books_have_none():
    bids, asks = [(100 - level, level) for level in range(30)], [(101 + level, 1) for level in range(30)]
    assert judged([(bids, asks)] * 3) == [(set(), -1)] * 3


def test_threads_do_not_change_a_bit():
    random = np.random.default_rng(2)
    books = [
        ([(9, 1), (8, int(lots))], [(int(ask), 1)])
        for lots, ask in zip(random.integers(-1, 9, 999), random.integers(8, 12, 999), strict=True)
    ]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert judged(books) == brute(books)
    finally:
        torch.set_num_threads(threads)


COUNTS = [([0, 3], [1]), ([1, 0], [0]), ([-1, 2], [1]), ([0, 2], [3]), ([0, 2], [-1])]


@pytest.mark.parametrize(("offsets", "bids"), COUNTS)
def test_counts_that_do_not_fit_are_a_fault_and_nothing_is_read(offsets, bids):
    kinds, level = book_faults(*(torch.tensor(x) for x in ([9, 10], [1, -1], offsets, bids)))
    assert named(kinds, level) == [({"counts"}, -1)]


def test_the_op_keeps_its_contract_with_torch():
    torch.library.opcheck(module._book_faults, tuple(torch.from_numpy(x) for x in flat([([(9, 1)], [(9, 2)])])))


@pytest.mark.sim
def test_the_cuda_kernel_is_the_rule():
    random = np.random.default_rng(4)
    for count in (0, 1, 5):
        books = []
        for _ in range(count):
            sides = [np.cumsum(random.integers(-1, 5, random.integers(0, 14))).tolist() for _ in range(2)]
            books.append([[(sign * price, int(random.integers(-1, 20))) for price in side] for sign, side in
                          zip((-1, 1), sides, strict=True)])  # fmt: skip
        assert named(*launch_book_faults(*flat(books))) == brute(books)
    for offsets, bids in COUNTS:
        call = [np.array(x) for x in ([9, 10], [1, -1], offsets, bids)]
        assert named(*launch_book_faults(*call)) == [({"counts"}, -1)]


@pytest.mark.gpu
def test_cuda_is_the_cpu():
    random = np.random.default_rng(6)
    price = np.cumsum(random.integers(-1, 40, 20_000))
    book = [price, random.integers(-1, 3000, 20_000), np.arange(0, 20_001, 500), random.integers(-1, 502, 40)]
    book = [torch.from_numpy(x) for x in book]
    got = book_faults(*(x.cuda() for x in book))
    assert all(torch.equal(one, other.cpu()) for one, other in zip(book_faults(*book), got, strict=True))
