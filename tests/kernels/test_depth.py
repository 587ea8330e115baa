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
    bids, asks = [(BIG, 1), (-BIG, BIG - 1)], [(-BIG, 1), (BIG, BIG - 1)]
    depth, _ = depth_tensor(*flat([(bids, asks)]), torch.tensor([0]), 0, [2])
    mean = float(Fraction(-BIG + BIG * (BIG - 1), BIG))
    assert depth[0, 0].tolist() == [-mean, BIG, mean, BIG]


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
    call = (*flat([([(9, 1)], [(10, 2)])]), torch.tensor([0, 0]), 1, [2])
    torch.library.opcheck(torch.ops.gpu_pipeline.depth_tensor, call)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"near_levels": 0}, "at least one level or bin must be asked for, got near_levels 0"),
        ({"near_levels": -1, "bin_sizes": [1]}, "at least one level or bin must be asked for, got near_levels -1"),
        ({"bin_sizes": [2, 0]}, r"every bin must hold at least 1 level, got bin_sizes \[2, 0\]"),
        ({"offsets": torch.tensor([0, 3])}, "offsets must never fall and stay within the rows; broken at index 0"),
        ({"offsets": torch.tensor([-1, 2])}, "offsets must never fall .* index 0"),
        (
            {"offsets": torch.tensor([0, 2, 1]), "bid_count": torch.tensor([1, 0]), "rows": torch.tensor([0, 1])},
            "offsets must never fall .* index 1",
        ),
        ({"bid_count": torch.tensor([3])}, "bid_count must be between 0 and the snapshot's rows; broken at index 0"),
        ({"bid_count": torch.tensor([-1])}, "bid_count must be between 0 and the snapshot's rows"),
        ({"rows": torch.tensor([0, 1])}, "rows must be -1 or the number of a snapshot; broken at index 1"),
        ({"rows": torch.tensor([0, 0, -2])}, "rows must be -1 .* broken at index 2"),
        ({"price_ticks": torch.tensor([9, -(2**53)])}, r"price_ticks must be below 2\^53 .* index 1"),
        ({"price_ticks": torch.tensor([-(2**63), 9])}, r"price_ticks must be below 2\^53 .* index 0"),
        ({"quantity_lots": torch.tensor([2**53, 1])}, r"quantity_lots must be in \[0, 2\^53\); .* index 0"),
        ({"quantity_lots": torch.tensor([1, -1])}, r"quantity_lots must be in \[0, 2\^53\); .* index 1"),
        ({"quantity_lots": torch.tensor([1, -1]), "near_levels": 0, "bin_sizes": [3]}, "quantity_lots .* index 1"),
        (
            {
                "bid_count": torch.tensor([2]),
                "near_levels": 0,
                "bin_sizes": [2],
                "quantity_lots": torch.tensor([BIG] * 2),
            },
            r"quantity of a bin must be below 2\^53; use a coarser lot; broken at grid time 0",
        ),
    ],
)
def test_what_is_refused(change, words):
    names = ("price_ticks", "quantity_lots", "offsets", "bid_count")
    call = dict(zip(names, flat([([(9, 1)], [(10, 2)])]), strict=True))
    call |= {"rows": torch.tensor([0]), "near_levels": 1, "bin_sizes": ()} | change
    with pytest.raises(ValueError, match=f"depth_tensor: {words}"):
        depth_tensor(**call)


def launched(book, rows, near, bins, lanes=None):
    """Run the kernel, and the plain loop, in the simulator's process; both with the faults that they found."""
    book = [np.asarray(x) for x in (*book, np.array(rows, np.int64))]
    edges = np.array(module._edges(near, bins, len(book[0])))
    made = [(np.full((len(rows), near + len(bins), 4), -99.0), np.full((len(rows), 2), -99)) for _ in range(2)]
    found = module.launch(book, edges, lanes or module.lanes_of(bins), *made[0])
    wanted = module.spec(*book, edges, *made[1], 0, len(rows))
    return made, found.tolist(), wanted.tolist()


@pytest.mark.sim
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("times", [0, 1, 2, 3, 5])
@pytest.mark.parametrize(("near", "bins"), [(2, []), (0, [2, 3]), (1, [2, 1, 4]), (6, [1]), (3, [9, 7, 1, 1, 2])])
def test_the_cuda_kernel_is_the_rule(times, near, bins):
    random = np.random.default_rng(times)
    bids = [(2**50 - 2**40 * level, int(random.integers(0, 2**40))) for level in range(6)]
    asks = [(2**50 + 3 * level, int(random.integers(0, 5))) for level in range(1, 23)]
    snapshots = [(bids, asks), ([], asks[:1]), (bids[:2], []), (bids, asks[:5])]
    rows = random.integers(-1, 4, times).tolist()
    wanted, rest = brute(snapshots, rows, near, bins)
    for lanes in (1, 2, 4):
        (ours, plain), *faults = launched([x.numpy() for x in flat(snapshots)], rows, near, bins, lanes)
        assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(ours, plain, strict=True))
        np.testing.assert_allclose(ours[0], wanted, rtol=4e-16)
        assert np.array_equal(ours[1], rest)
        assert faults == [[module.NO_ROW] * module.KINDS] * 2


@pytest.mark.sim
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize(
    ("change", "kind", "where"),
    [
        ((4, 2, 7), module.ROWS, 2),
        ((4, 1, -2), module.ROWS, 1),
        ((2, 2, 9), module.OFFSETS, 1),
        ((2, 1, 9), module.OFFSETS, 0),
        ((3, 1, 5), module.COUNT, 1),
        ((3, 0, -1), module.COUNT, 0),
        ((0, 1, 2**53), module.LEVEL, 1),
        ((0, 5, -(2**63)), module.LEVEL, 5),
        ((1, 7, -1), module.LEVEL, 7),
        ((1, 6, 2**53), module.LEVEL, 6),
        ((1, slice(4, 8), 2**52), module.BIN, 1),
    ],
)
def test_the_kernel_finds_the_faults_that_the_plain_loop_finds(change, kind, where):
    column, index, value = change
    book = [np.arange(8), np.ones(8, np.int64), np.array([0, 4, 8]), np.array([2, 0]), np.array([0, 1, 1])]
    book[column][index] = value
    _, found, wanted = launched(book[:4], book[4].tolist(), 1, [1, 4])
    assert found == wanted and found[kind] == where


@pytest.mark.sim
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize(("count", "fault"), [(513, module.BEYOND), (511, None)])
def test_lots_beyond_the_bins_do_not_wrap(count, fault):
    book = [np.arange(count + 1), np.full(count + 1, BIG), np.array([0, count + 1]), np.array([0])]
    (_, (_, beyond)), found, wanted = launched(book, [0], 1, [])
    assert found == wanted
    if fault is None:
        assert beyond.tolist() == [[0, count * BIG]] and set(found) == {module.NO_ROW}
    else:
        assert found[fault] == 0


def test_bins_share_threads_by_their_size():
    sizes = {(): 1, (1,): 1, (7,) * 3: 1, (8,) * 10: min(2, module.LANES), (10**6,): module.LANES}
    assert {bins: module.lanes_of(bins) for bins in sizes} == sizes


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
