"""Depth feeds against the updates that they are made of, and against the venue's text."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kernels.book_sequence as module
from kernels.book_sequence import CODES, RULES, book_sequence, launch_book_sequence
from tests.kernels import feeds

IDS = ("spot", "futures")


def columns_of(messages):
    """Messages as (first, final, previous, is_snapshot) -> tensors."""
    numbers = torch.tensor([message[:3] for message in messages], dtype=torch.int64).reshape(-1, 3)
    return *numbers.T.contiguous(), torch.tensor([bool(message[3]) for message in messages], dtype=torch.bool)


def judged(messages, rule, spans=None):
    state, codes = torch.zeros(2, dtype=torch.int64), []
    for begin, stop in spans or [(0, len(messages))]:
        found, state = book_sequence(*columns_of(messages[begin:stop]), rule, state)
        codes += [CODES[code] for code in found.tolist()]
    return codes, state.tolist()


def snapshot(update):
    return (0, update, 0, True)


@st.composite
def venues(draw):
    """A symbol's updates, packed into messages with snapshots between them; then lost, repeated and moved messages."""
    rule = draw(st.sampled_from(IDS))
    count = draw(st.integers(1, 20))
    steps = draw(st.lists(st.integers(1, 3), min_size=count, max_size=count)) if rule == "futures" else [1] * count
    updates = np.cumsum([draw(st.integers(1, 5)), *steps]).tolist()
    cuts = sorted(draw(st.sets(st.integers(1, count - 1), max_size=8))) if count > 1 else []
    packed = [updates[1:][low:high] for low, high in zip([0, *cuts], [*cuts, count], strict=True)]
    feed, previous = [], updates[0]
    for part in packed:
        feed.append(("message", part, previous))
        previous = part[-1]
    for update in draw(st.lists(st.sampled_from(updates), max_size=3)):
        feed.insert(draw(st.integers(0, len(feed))), ("snapshot", update, None))
    for kind in draw(st.lists(st.sampled_from(["lose", "repeat", "move"]), max_size=3)):
        item = feed[draw(st.integers(0, len(feed) - 1))] if feed else None
        if item and kind != "repeat":
            feed.remove(item)
        if item and kind != "lose":
            feed.insert(draw(st.integers(0, len(feed))), item)
    return rule, updates, feed


def as_messages(feed):
    return [
        snapshot(part) if kind == "snapshot" else (part[0], part[-1], previous, False) for kind, part, previous in feed
    ]


def expected_by_updates(rule, updates, feed):
    """What must happen, from the very updates that a book holds: no ids are chained here."""
    held, synced, fresh, codes = set(), False, False, []
    for kind, part, _ in feed:
        last = max(held, default=-1)
        if kind == "snapshot":
            older = synced and part < last
            codes.append("stale" if older else "apply")
            if not older:
                held, synced, fresh = {update for update in updates if update <= part}, True, True
        elif not synced:
            codes.append("before_snapshot")
        elif fresh and (part[-1] < last or (part[-1] == last and rule == "spot")):
            codes.append("stale")
        elif not fresh and set(part) <= held:
            codes.append("duplicate" if part[-1] == last else "out_of_order")
        elif {update for update in updates if update <= part[-1]} <= held | set(part):
            codes.append("apply")
            held, fresh = held | set(part), False
        else:
            codes.append("gap")
            synced = False
    return codes


@given(venue=venues())
def test_a_book_never_misses_an_update_and_never_gives_up_without_need(venue):
    rule, updates, feed = venue
    assert judged(as_messages(feed), rule)[0] == expected_by_updates(rule, updates, feed)


@given(venue=venues(), cuts=st.lists(st.integers(0, 10**6), max_size=6), rule=st.sampled_from(RULES))
def test_any_chunking_gives_the_same_codes(chunks_of, venue, cuts, rule):
    messages = as_messages(venue[2])
    whole = judged(messages, rule)
    assert judged(messages, rule, chunks_of(len(messages), cuts)) == whole
    assert judged(messages, rule, [(row, row + 1) for row in range(len(messages))]) == whole or not messages


def test_spot_by_hand():
    feed = {
        (5, 9, -1, False): "before_snapshot",
        snapshot(20): "apply",
        (10, 19, -1, False): "stale",
        (11, 20, -1, False): "stale",
        (18, 23, -1, False): "apply",
        (24, 24, -1, False): "apply",
        (24, 24, -2, False): "duplicate",
        (18, 23, -2, False): "out_of_order",
        (22, 30, -1, False): "apply",
        (32, 33, -1, False): "gap",
        (34, 35, -1, False): "before_snapshot",
        snapshot(33): "apply",
        (34, 35, -2, False): "apply",
        snapshot(34): "stale",
        snapshot(35): "apply",
    }
    assert judged(list(feed), "spot") == (list(feed.values()), [35, module.FRESH])


def test_futures_by_hand():
    feed = {
        snapshot(200): "apply",
        (150, 199, 149, False): "stale",
        (180, 200, 171, False): "apply",
        (207, 230, 200, False): "apply",
        (240, 250, 239, False): "gap",
        (251, 260, 250, False): "before_snapshot",
        snapshot(258): "apply",
        (251, 260, 251, False): "apply",
        snapshot(300): "apply",
        (305, 309, 300, False): "apply",
        snapshot(320): "apply",
        (322, 330, 319, False): "gap",
    }
    assert judged(list(feed), "futures") == (list(feed.values()), [320, module.NO_BOOK])


def test_a_futures_message_that_chains_to_another_one_is_a_gap_even_where_it_overlaps():
    assert judged([snapshot(5), (4, 9, 3, False), (8, 12, 7, False)], "futures")[0] == ["apply", "apply", "gap"]


def test_without_ids_everything_after_a_snapshot_applies():
    nothing = (-1, -1, -1, False)
    codes, _ = judged([nothing, snapshot(-1), nothing, nothing, snapshot(-1), nothing], "none")
    assert codes == ["before_snapshot"] + ["apply"] * 5


@pytest.mark.parametrize("rule", IDS)
def test_the_largest_ids_do_not_wrap(rule):
    top = 2**63 - 1
    assert judged([snapshot(top), (top, top, top - 1, False)], rule)[0] == [
        "apply",
        "stale" if rule == "spot" else "apply",
    ]
    assert judged([snapshot(0), (top, top, top - 1, False)], rule)[0] == ["apply", "gap"]


@pytest.mark.parametrize("rule", IDS)
@pytest.mark.parametrize("bad", [(9, 8, 7, False), (-1, 8, -2, False), snapshot(-1)])
def test_ids_that_make_no_sense_are_refused(rule, bad):
    with pytest.raises(ValueError, match="0 <= first_id <= final_id, they do not at message 1 of the chunk"):
        judged([snapshot(3), bad], rule)


def test_an_unknown_rule_and_wrong_columns_are_refused():
    columns, state = columns_of([snapshot(3)]), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="rule must be one of none, spot, futures, got 'spots'"):
        book_sequence(*columns, "spots", state)
    with pytest.raises(ValueError, match=r"final_id must have shape \[1\], got \[0\]"):
        book_sequence(columns[0], columns[1][:0], *columns[2:], "spot", state)
    with pytest.raises(TypeError, match=r"is_snapshot must be a tensor of torch.bool, got torch.int64"):
        book_sequence(*columns[:3], columns[0], "spot", state)


def test_the_op_keeps_its_contract_with_torch():
    columns = columns_of([snapshot(3), (4, 5, 3, False)])
    torch.library.opcheck(module._book_sequence, (*columns, torch.zeros(2, dtype=torch.int64), 1))


def columns_of_feed(table):
    numbers = [torch.tensor(table[name].to_numpy(np.int64)) for name in ("first_id", "final_id", "prev_final_id")]
    return *numbers, torch.tensor(table.is_snapshot.to_numpy(bool))


@pytest.mark.parametrize("name", feeds.PLACES)
def test_recorded_feeds_chain_without_a_gap(market_data, name):
    table = feeds.messages(feeds.parts(market_data, name))
    codes, _ = book_sequence(*columns_of_feed(table), RULES[1 + name.startswith("usdm")], torch.zeros(2).long())
    assert Counter(CODES[code] for code in codes.tolist()).keys() <= {"apply", "before_snapshot", "stale"}
    assert (codes[:8] != module.APPLY).sum() < 8 and (codes[8:] == module.APPLY).all() and len(codes) > 6000


def test_a_book_reset_when_the_snapshot_arrives_has_a_gap(market_data):
    gaps = {}
    for name in feeds.PLACES:
        table = feeds.messages(feeds.parts(market_data, name), by_id=False)
        codes, _ = book_sequence(*columns_of_feed(table), RULES[1 + name.startswith("usdm")], torch.zeros(2).long())
        gaps[name] = int((codes == module.GAP).sum())
    assert gaps == {"spot_btcusdt": 1, "spot_ethusdt": 0, "usdm_btcusdt": 1, "usdm_ethusdt": 1}


@pytest.mark.sim
def test_the_cuda_kernel_is_the_rule():
    random = np.random.default_rng(5)
    for trial in range(30):
        rule, rows = int(random.integers(0, 3)), int(random.choice([0, 1, 5, 17]))
        first, size = random.integers(0, 12, rows), random.integers(0, 4, rows)
        columns = [first, first + size, first - random.integers(1, 3, rows), random.random(rows) < 0.2]
        state = random.integers(0, 3, 2)
        codes, after = launch_book_sequence(*columns, state, rule)
        wanted, left = np.full(rows, -9), np.full(2, -9)
        assert module.spec(*columns, state, rule, wanted, left) == module.NO_ROW
        assert codes.tolist() == wanted.tolist() and after.tolist() == left.tolist(), trial


@pytest.mark.sim
def test_the_launcher_refuses_ids_that_make_no_sense():
    one = np.array([9])
    with pytest.raises(ValueError, match="they do not at message 0 of the chunk"):
        launch_book_sequence(one, one - 1, one, np.array([False]), np.zeros(2, np.int64), 1)


@pytest.mark.gpu
@pytest.mark.parametrize("rule", RULES)
def test_cuda_is_the_cpu(rule):
    random = torch.Generator().manual_seed(3)
    first = torch.arange(2000) * 3 + torch.randint(0, 4, (2000,), generator=random)
    columns = [first, first + 2, first - 1, torch.rand(2000, generator=random) < 0.1]
    state = torch.zeros(2, dtype=torch.int64)
    wanted = book_sequence(*columns, rule, state)
    got = book_sequence(*(x.cuda() for x in columns), rule, state.cuda())
    assert all(torch.equal(one, other.cpu()) for one, other in zip(wanted, got, strict=True))
