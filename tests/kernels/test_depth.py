"""Depth tensors against exact fractions; nothing lost; the simulator."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.depth as module
from kernels.depth import depth_tensor

BIG = 2**53 - 1
LOTS = st.one_of(st.integers(0, 50), st.integers(0, 2**48))


@st.composite
def books(draw):
    """Snapshots as (bids, asks), each a list of (price, quantity), best first."""
    middle = draw(st.sampled_from([1000, 10**9, 2**52]))

    def side(sign):
        steps = draw(st.lists(st.tuples(st.integers(1, 2**40), LOTS), max_size=12))
        prices = np.cumsum([sign * step for step, _ in steps], dtype=np.int64) + middle
        return [(int(price), lots) for price, (_, lots) in zip(prices, steps, strict=True)]

    return [(side(-1), side(1)) for _ in range(draw(st.integers(0, 4)))]


def flat(snapshots):
    levels = [level for bids, asks in snapshots for level in (*bids, *asks)]
    price, quantity = torch.tensor(levels, dtype=torch.int64).reshape(-1, 2).T
    sizes = [len(bids) + len(asks) for bids, asks in snapshots]
    offsets = torch.tensor([0, *np.cumsum(sizes, dtype=np.int64).tolist()], dtype=torch.int64)
    counts = torch.tensor([len(bids) for bids, _ in snapshots], dtype=torch.int64)
    return price.contiguous(), quantity.contiguous(), offsets, counts


def brute_side(levels, near, bins):
    cells, last = [], math.nan
    for size in [1] * near + list(bins):
        taken, levels = levels[:size], levels[size:]
        total = sum(lots for _, lots in taken)
        last = float(taken[-1][0]) if taken else last
        price = float(Fraction(sum(p * lots for p, lots in taken), total)) if total and len(taken) > 1 else last
        cells.append((price, float(total)))
    return cells, sum(lots for _, lots in levels)


def brute(snapshots, rows, near, bins):
    depth, beyond = [], []
    for row in rows:
        bids, asks = snapshots[row] if row >= 0 else ([], [])
        (left, bid_rest), (right, ask_rest) = brute_side(bids, near, bins), brute_side(asks, near, bins)
        depth.append([(*b, *a) for b, a in zip(left, right, strict=True)])
        beyond.append((bid_rest, ask_rest))
    shape = (len(rows), near + len(bins), 4)
    return np.array(depth, np.float64).reshape(shape), np.array(beyond, np.int64).reshape(-1, 2)


@st.composite
def calls(draw):
    snapshots = draw(books())
    rows = draw(st.lists(st.integers(-1, len(snapshots) - 1), max_size=8))
    near = draw(st.integers(0, 6))
    bins = draw(st.lists(st.integers(1, 5), min_size=int(near == 0), max_size=4))
    return snapshots, rows, near, bins


@given(call=calls())
def test_a_tensor_is_the_definition(call):
    snapshots, rows, near, bins = call
    depth, beyond = depth_tensor(*flat(snapshots), torch.tensor(rows, dtype=torch.int64), near, bins)
    wanted, rest = brute(snapshots, rows, near, bins)
    np.testing.assert_allclose(depth[..., 0::2], wanted[..., 0::2], rtol=4e-16)
    assert np.array_equal(depth[..., 1::2].numpy(), wanted[..., 1::2])
    assert np.array_equal(beyond.numpy(), rest)


@given(call=calls())
def test_kept_and_binned_and_beyond_are_everything(call):
    snapshots, rows, near, bins = call
    depth, beyond = depth_tensor(*flat(snapshots), torch.tensor(rows, dtype=torch.int64), near, bins)
    for time, row in enumerate(rows):
        for side in (0, 1):
            total = sum(lots for _, lots in snapshots[row][side]) if row >= 0 else 0
            seen = sum(int(lots) for lots in depth[time, :, 2 * side + 1].tolist())
            assert seen + beyond[time, side].item() == total


def test_by_hand():
    bids, asks = [(100, 5), (99, 1), (98, 3), (96, 1)], [(101, 2)]
    depth, beyond = depth_tensor(*flat([(bids, asks)]), torch.tensor([0, -1]), 1, [2, 1, 4])
    assert depth[0, :, 0].tolist() == [100, 98.25, 96, 96]
    assert depth[0, :, 1].tolist() == [5, 4, 1, 0]
    assert depth[0, :, 2].tolist() == [101, 101, 101, 101]
    assert depth[0, :, 3].tolist() == [2, 0, 0, 0]
    assert depth[1, :, 0::2].isnan().all() and (depth[1, :, 1::2] == 0).all()
    assert beyond.tolist() == [[0, 0], [0, 0]]


def test_a_side_without_levels_has_no_price():
    depth, beyond = depth_tensor(*flat([([], [(101, 2), (102, 7)])]), torch.tensor([0]), 1, [])
    assert depth[0, 0, 0].isnan() and depth[0, 0, 1:].tolist() == [0, 101, 2]
    assert beyond.tolist() == [[0, 7]]


def test_products_beyond_64_bits_are_exact():
    asks = [(-BIG, 1), (BIG, BIG - 1)]
    depth, _ = depth_tensor(*flat([([], asks)]), torch.tensor([0]), 0, [2])
    assert depth[0, 0, 2].item() == float(Fraction(-BIG + BIG * (BIG - 1), BIG))


def test_threads_do_not_change_a_bit():
    random = np.random.default_rng(0)
    one = [(int(p), int(q)) for p, q in zip(100 - np.arange(40), random.integers(0, 99, 40), strict=True)]
    book = flat([(one, [(201 - p, q) for p, q in one])] * 5)
    rows = torch.from_numpy(random.integers(-1, 5, 3001))
    whole = depth_tensor(*book, rows, 10, [5, 5])
    parts = [depth_tensor(*book, part, 10, [5, 5]) for part in rows.split(700)]
    for full, cut in zip(whole, zip(*parts, strict=True), strict=True):
        assert np.array_equal(full.numpy(), torch.cat(cut).numpy(), equal_nan=True)


def test_opcheck():
    bins, rows = torch.tensor([2]), torch.tensor([0, 0])
    torch.library.opcheck(torch.ops.gpu_pipeline.depth_tensor, (*flat([([(9, 1)], [(10, 2)])]), rows, 1, bins))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"near_levels": 0}, "at least one level or bin must be asked for, got near_levels 0"),
        ({"near_levels": -1, "bin_sizes": [1]}, "at least one level or bin must be asked for, got near_levels -1"),
        ({"bin_sizes": [2, 0]}, r"every bin must hold at least 1 level, got bin_sizes \[2, 0\]"),
        ({"offsets": torch.tensor([0, 3])}, "offsets must run from 0 to the 2 rows, got 0 to 3"),
        (
            {"offsets": torch.tensor([0, 3, 2]), "bid_count": torch.tensor([1, 0])},
            "offsets must never fall; .* index 1",
        ),
        ({"bid_count": torch.tensor([3])}, "bid_count must be between 0 and the snapshot's rows"),
        ({"rows": torch.tensor([0, 1])}, "rows must be -1 or one of the 1 snapshots; broken at index 1"),
        ({"price_ticks": torch.tensor([9, -(2**53)])}, r"price_ticks must be below 2\^53"),
        ({"quantity_lots": torch.tensor([2**53, 1])}, r"quantity_lots must be in \[0, 2\^53\); .* index 0"),
        ({"quantity_lots": torch.tensor([1, -1])}, r"quantity_lots must be in \[0, 2\^53\); .* index 1"),
        (
            {
                "bid_count": torch.tensor([2]),
                "near_levels": 0,
                "bin_sizes": [2],
                "quantity_lots": torch.tensor([BIG] * 2),
            },
            r"quantity of a bin must be below 2\^53",
        ),
    ],
)
def test_what_is_refused(change, words):
    names = ("price_ticks", "quantity_lots", "offsets", "bid_count")
    call = dict(zip(names, flat([([(9, 1)], [(10, 2)])]), strict=True))
    call |= {"rows": torch.tensor([0]), "near_levels": 1, "bin_sizes": ()} | change
    with pytest.raises(ValueError, match=f"depth_tensor: {words}"):
        depth_tensor(**call)


def launched(snapshots, rows, near, bins):
    rows, bins = np.array(rows, np.int64), np.array(bins, np.int64)
    depth = np.full((len(rows), near + len(bins), 4), -99.0)
    beyond = np.full((len(rows), 2), -99)
    module.launch([x.numpy() for x in flat(snapshots)] + [rows], near, bins, depth, beyond)
    return depth, beyond


@pytest.mark.sim
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("times", [0, 1, 2, 3, 5])
@pytest.mark.parametrize(("near", "bins"), [(2, []), (0, [2, 3]), (1, [2, 1, 4])])
def test_the_cuda_kernel_is_the_rule(times, near, bins):
    random = np.random.default_rng(times)
    bids = [(2**50 - 2**40 * level, int(random.integers(0, 2**40))) for level in range(6)]
    asks = [(2**50 + 3 * level, int(random.integers(0, 5))) for level in range(1, 4)]
    snapshots = [(bids, asks), ([], asks[:1]), (bids[:2], [])]
    rows = random.integers(-1, 3, times).tolist()
    depth, beyond = launched(snapshots, rows, near, bins)
    wanted, rest = brute(snapshots, rows, near, bins)
    np.testing.assert_allclose(depth, wanted, rtol=4e-16)
    assert np.array_equal(beyond, rest)


@pytest.mark.gpu
def test_the_gpu_gives_the_same_bits():
    random = np.random.default_rng(0)
    lots = random.integers(0, 2**45, 300).tolist()
    side = [(10**6 - 2**30 * level, lots[level]) for level in range(300)]
    book = flat([(side, [(10**7 - p, q) for p, q in side])] * 7)
    rows = torch.from_numpy(random.integers(-1, 7, 1001))
    wanted = depth_tensor(*book, rows, 50, [10] * 10)
    got = depth_tensor(*(x.cuda() for x in (*book, rows)), 50, [10] * 10)
    for one, other in zip(wanted, got, strict=True):
        assert np.array_equal(one.numpy(), other.cpu().numpy(), equal_nan=True)
