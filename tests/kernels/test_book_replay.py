"""Replayed books against a dictionary per side, and against the best bid and ask that the exchange itself sent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import kernels.book_replay as module
from kernels import _sorted_blocks as blocks
from kernels.book_replay import ASK, BID, CLEAR, last_writes, launch_replay, new_state, replay
from tests.kernels import feeds

LOWEST, HIGHEST = -(2**63), 2**63 - 1
NEAR = st.integers(95, 105)
PRICES = st.one_of(NEAR, NEAR, st.sampled_from([LOWEST, LOWEST + 1, -1, 0, HIGHEST - 1, HIGHEST]))
LOTS = st.one_of(st.just(0), st.integers(1, 9), st.just(HIGHEST))
EVENTS = st.lists(st.tuples(st.sampled_from([BID, ASK] * 6 + [CLEAR]), PRICES, LOTS), max_size=60)


class Book:
    """A dictionary per side."""

    def __init__(self) -> None:
        self.sides = {BID: {}, ASK: {}}

    def apply(self, side: int, price: int, quantity: int) -> None:
        if side == CLEAR:
            self.__init__()
        elif quantity:
            self.sides[side][price] = quantity
        else:
            self.sides[side].pop(price, None)

    def top(self, levels: int) -> tuple[list, list]:
        bids, asks = (sorted(self.sides[side].items(), reverse=side == BID) for side in (BID, ASK))
        return bids[: levels or None], asks[: levels or None]


def brute(events, ends, levels):
    """Outputs as (bids, asks), each a list of (price, quantity); and the whole book at the end."""
    book, shown, applied = Book(), [], 0
    for end in [*ends, len(events)]:
        for event in events[applied:end]:
            book.apply(*event)
        applied = end
        shown.append(book.top(levels))
    return shown[:-1], book.top(0)


def columns(events):
    return torch.tensor(events, dtype=torch.int64).reshape(-1, 3).T.contiguous()


def unpack(offsets, bid_count, ticks, lots):
    assert offsets[-1] == len(ticks)
    rows = list(zip(ticks.tolist(), lots.tolist(), strict=True))
    cuts = zip(offsets.tolist(), bid_count.tolist(), offsets.tolist()[1:], strict=False)
    return [(rows[begin : begin + bids], rows[begin + bids : stop]) for begin, bids, stop in cuts]


def as_book(state):
    bid_ticks, bid_lots, ask_ticks, ask_lots = (part.tolist() for part in state)
    return list(zip(bid_ticks, bid_lots, strict=True)), list(zip(ask_ticks, ask_lots, strict=True))


def fold(events, ends, levels, spans):
    state, shown = new_state(), []
    for begin, stop in spans:
        # An output after the last event of a chunk may be asked of that chunk or of the next one.
        inside = [end - begin for end in ends if begin < end <= stop or end == begin == 0]
        asked = torch.tensor(inside, dtype=torch.int64)
        *made, state = replay(*columns(events[begin:stop]), asked, levels, state)
        shown += unpack(*made)
    return shown, as_book(state)


@given(events=EVENTS, data=st.data(), levels=st.integers(0, 4), cuts=st.lists(st.integers(0, 10**6), max_size=5))
def test_any_chunking_is_the_dictionary(chunks_of, events, data, levels, cuts):
    ends = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=8)))
    wanted = brute(events, ends, levels)
    assert fold(events, ends, levels, [(0, len(events))]) == wanted
    # Without empty chunks each end belongs to one chunk.
    spans = [(begin, stop) for begin, stop in chunks_of(len(events), cuts) if begin < stop] or [(0, 0)]
    assert fold(events, ends, levels, spans) == wanted


@given(seed=st.integers(0, 2**32), wide=st.booleans())
@example(seed=0, wide=True)
def test_large_books_split_and_drop_blocks_as_the_plain_loop_and_the_dictionary_say(seed, wide):
    random = np.random.default_rng(seed)
    rows = int(random.integers(1, 1500))
    middle = np.cumsum(random.integers(-3, 4, rows)) * (20 if wide else 1)
    side = random.choice([BID, ASK], rows)
    side[random.random(rows) < 0.002] = CLEAR
    price = middle - side * random.integers(0, 400, rows)
    quantity = random.integers(1, 50, rows) * (random.random(rows) < 0.7)
    events = list(zip(side.tolist(), price.tolist(), quantity.tolist(), strict=True))
    ends = np.sort(random.integers(0, rows + 1, 20))
    *made, state = replay(*columns(events), torch.from_numpy(ends), 7, new_state())
    shown, left = brute(events, ends.tolist(), 7)
    assert unpack(*made) == shown and as_book(state) == left
    for mine, wanted in ((BID, left[0]), (ASK, left[1])):
        ticks, lots = np.empty((2, rows), np.int64)
        size = module.spec(mine, side, price, quantity, 0, rows, ticks, lots, 0)
        assert list(zip(ticks[:size].tolist(), lots[:size].tolist(), strict=True)) == wanted


def test_more_levels_than_a_block_in_every_order():
    count = 5 * blocks.BLOCK
    for order in (range(count), reversed(range(count)), [(37 * row) % count for row in range(count)]):
        order = list(order)
        add = [(side, price, 1 + price) for price in order for side in (BID, ASK)]
        remove = [(side, price, 0) for price in order[: count - 3] for side in (BID, ASK)]
        *_, state = replay(*columns(add), torch.tensor([], dtype=torch.int64), 0, new_state())
        ascending = [(price, 1 + price) for price in range(count)]
        assert as_book(state) == (ascending[::-1], ascending)
        *_, state = replay(*columns(remove), torch.tensor([], dtype=torch.int64), 0, state)
        rest = sorted((price, 1 + price) for price in order[count - 3 :])
        assert as_book(state) == (rest[::-1], rest)
        *_, state = replay(*columns(add + remove + add), torch.tensor([], dtype=torch.int64), 0, new_state())
        assert as_book(state) == (ascending[::-1], ascending)


def test_a_crossed_book_and_a_missing_side_are_shown_as_they_are():
    events = [(ASK, 100, 5), (BID, 103, 1), (BID, 99, 2), (ASK, 98, 4), (CLEAR, 0, 0), (BID, 7, 1)]
    *made, state = replay(*columns(events), torch.tensor([0, 1, 4, 5, 6]), 0, new_state())
    assert unpack(*made) == [
        ([], []),
        ([], [(100, 5)]),
        ([(103, 1), (99, 2)], [(98, 4), (100, 5)]),
        ([], []),
        ([(7, 1)], []),
    ]
    assert as_book(state) == ([(7, 1)], [])


def test_a_level_far_away_costs_no_memory_and_the_state_given_is_not_touched():
    state = tuple(torch.tensor(part) for part in ([100, LOWEST], [1, 2], [101, HIGHEST], [3, 4]))
    kept = [part.clone() for part in state]
    *made, after = replay(*columns([(BID, 100, 0), (ASK, HIGHEST, 0), (ASK, LOWEST, 9)]), torch.tensor([3]), 1, state)
    assert unpack(*made) == [([(LOWEST, 2)], [(LOWEST, 9)])]
    assert as_book(after) == ([(LOWEST, 2)], [(LOWEST, 9), (101, 3)])
    assert all(torch.equal(part, before) for part, before in zip(state, kept, strict=True))


def test_outputs_grow_beyond_the_first_room(monkeypatch):
    monkeypatch.setattr(module, "one_side", module.one_side.py_func)
    monkeypatch.setattr(module, "ROWS_AT_FIRST", 2)
    events = [(side, price, 1) for price in range(9) for side in (BID, ASK)]
    ends = list(range(len(events) + 1))
    *made, _ = replay(*columns(events), torch.tensor(ends), 0, new_state())
    assert unpack(*made) == brute(events, ends, 0)[0]


def test_threads_do_not_change_a_bit():
    random = np.random.default_rng(3)
    rows = 4 * module.EVENTS_EACH
    events = torch.from_numpy(np.stack((random.choice([BID, ASK], rows), *random.integers(0, 300, (2, rows)))))
    ends = torch.arange(0, rows, 3)
    threads = torch.get_num_threads()
    try:
        made = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            *shown, state = replay(*events, ends, 3, new_state())
            made.append([*shown, *state])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for others in made[1:] for one, other in zip(made[0], others, strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"levels": -1}, r"levels must be 0 \(all\) or more, got -1"),
        ({"ends": [2, 1]}, r"ends must not fall and must lie in \[0, 3\], ends\[1\] is 1"),
        ({"ends": [0, 4]}, r"ends must not fall and must lie in \[0, 3\], ends\[1\] is 4"),
        ({"ends": [-1]}, r"ends\[0\] is -1"),
        ({"side": [1, 2, 1]}, "side must be 1 .* event 1 of the chunk is not"),
        ({"quantity_lots": [1, 1, -1]}, "a quantity 0 or more, event 2 of the chunk is not"),
        ({"price_ticks": [1, 2]}, r"price_ticks must have shape \[3\], got \[2\]"),
        ({"state": [[1], [], [], []]}, "the state has 1 bid_ticks but 0 bid_lots"),
        ({"state": [[1, 2], [1, 1], [], []]}, "the state's bids must stand best first, .* broken at level 1"),
        ({"state": [[], [], [2, 2], [1, 1]]}, "the state's asks must stand best first, .* broken at level 1"),
        ({"state": [[], [], [2], [0]]}, "quantities above 0; broken at level 0"),
    ],
)
def test_what_is_refused(change, words):
    call = {"side": [1, 1, -1], "price_ticks": [1, 2, 3], "quantity_lots": [1, 1, 1], "ends": [3]} | change
    call = {name: x if name in ("levels", "state") else torch.tensor(x) for name, x in call.items()}
    state = tuple(torch.tensor(part, dtype=torch.int64) for part in call.pop("state", [[], [], [], []]))
    with pytest.raises(ValueError, match=f"replay: .*{words}"):
        replay(**({"levels": 0} | call), state=state)


def test_the_op_keeps_its_contract_with_torch():
    events = columns([(BID, 5, 1), (ASK, 6, 1), (BID, 4, 2)])
    torch.library.opcheck(module._replay, (*events, torch.tensor([1, 3]), 1, *new_state()))


def tops(folder, name, *, by_id=True):
    """Best bids and asks with their lots: replayed after every message, and at equal update ids ours and theirs."""
    feed = feeds.parts(folder, name)
    table = feeds.messages(feed, by_id=by_id)
    used = table[int(table.is_snapshot.to_numpy().argmax()) :]
    used = used[used.is_snapshot | (used.final_id > used.final_id.iloc[0] - name.startswith("usdm"))]
    # The rows of the snapshot come first; an event that empties the book stands before them.
    levels = feeds.rows(feed).to_numpy(np.int64)
    picked = [levels[begin:stop] for begin, stop in zip(used.begin, used.stop, strict=True)]
    events = torch.from_numpy(np.concatenate([np.zeros((1, 3), np.int64), *picked])).T.contiguous()
    ends = torch.tensor((used.stop - used.begin).cumsum().to_numpy(np.int64)) + 1
    offsets, bid_count, ticks, lots, _ = replay(*events, ends, 1, new_state())
    assert (bid_count == 1).all() and (offsets.diff() == 2).all(), "a side is missing"
    quotes = feed["bbo"].drop_duplicates("update_id").set_index("update_id")[["bid", "bid_qty", "ask", "ask_qty"]]
    ours = torch.stack((ticks[0::2], lots[0::2], ticks[1::2], lots[1::2]), 1).numpy()
    known = used.final_id.isin(quotes.index).to_numpy()
    return ours, ours[known], quotes.loc[used.final_id[known]].to_numpy()


@pytest.mark.parametrize("name", feeds.PLACES)
def test_the_top_of_book_is_the_exchanges_own(market_data, name):
    every, ours, theirs = tops(market_data, name)
    assert (every[:, 0] < every[:, 2]).all(), "the book is crossed"
    assert np.array_equal(ours, theirs) and len(ours) > 500


def test_a_book_reset_when_the_snapshot_arrives_is_another_one(market_data):
    every, ours, theirs = tops(market_data, "spot_btcusdt", by_id=False)
    assert (every[:, 0] >= every[:, 2]).sum() > 5000 and (ours != theirs).any(1).sum() > 900


def simulated(events, ends, levels, state):
    """Run the kernels in the simulator; returns what `fold` does."""
    writes, starts, emptied = (x.numpy() for x in last_writes(*columns(events), torch.tensor(ends).long()))
    book = np.array([[*state[0], *state[2]], [*state[1], *state[3]]], np.int64).reshape(2, -1)
    offsets, counts, ticks, lots, bids, after = launch_replay(writes, starts, emptied, book, len(state[0]), levels)
    shown = unpack(offsets, counts[0, :-1], ticks, lots)
    left = [list(zip(*half.tolist(), strict=True)) for half in (after[:, :bids], after[:, bids:])]
    return shown, tuple(left)


@pytest.mark.sim
@pytest.mark.parametrize("trial", range(40))
def test_the_cuda_kernels_are_the_dictionary(trial):
    random = np.random.default_rng(trial)
    before, rows = (int(random.choice([0, 3, 14])), int(random.choice([0, 1, 5, 26])))
    prices = np.array([LOWEST, -5, 0, 1, 2, 3, 4, 5, 6, HIGHEST])
    draws = [random.choice([BID, BID, BID, ASK, ASK, ASK, CLEAR], before + rows, p=[0.16] * 6 + [0.04])]
    draws += [random.choice(prices, before + rows), random.integers(0, 4, before + rows)]
    events = [tuple(event) for event in np.stack(draws, 1).tolist()]
    bids, asks = brute(events[:before], [], 0)[1]
    state = [[price for price, _ in bids], [lots for _, lots in bids]]
    state += [[price for price, _ in asks], [lots for _, lots in asks]]
    ends = np.sort(random.integers(0, rows + 1, int(random.choice([0, 1, 4])))).tolist()
    levels = int(random.choice([0, 1, 3]))
    shown, left = brute(events, [before + end for end in ends], levels)
    assert simulated(events[before:], ends, levels, state) == (shown, left)


@pytest.mark.sim
@pytest.mark.parametrize("step", [1, -1])
def test_blocks_never_run_out(step):
    # In this process loops are plain Python, which checks every index.
    price = step * np.arange(8 * blocks.BLOCK)
    one, none = np.ones_like(price), np.empty(0, np.int64)
    *_, ticks, lots = module.one_side(ASK, -one, price, one, none, 0, none, none)
    assert ticks.tolist() == sorted(price) and lots.tolist() == one.tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [0, 1, 511, 513, 200_003])
@pytest.mark.parametrize("levels", [0, 1, 100])
def test_cuda_is_the_cpu(rows, levels):
    random = np.random.default_rng(rows)
    side = random.choice([BID, ASK], rows)
    side[random.random(rows) < 1e-4] = CLEAR
    price = np.cumsum(random.integers(-1, 2, rows)) - side * random.integers(0, 3000, rows)
    events = torch.from_numpy(np.stack((side, price, random.integers(0, 5, rows))))
    ends = torch.from_numpy(np.sort(random.integers(0, rows + 1, 97)))
    for state in (new_state(), replay(*events, ends, levels, new_state())[4]):
        *wanted, wanted_state = replay(*events, ends, levels, state)
        *got, got_state = replay(*events.cuda(), ends.cuda(), levels, tuple(part.cuda() for part in state))
        pairs = zip((*wanted, *wanted_state), (*got, *got_state), strict=True)
        assert all(torch.equal(one, other.cpu()) for one, other in pairs)
