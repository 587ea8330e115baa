"""The order of samples: golden values, an implementation with Python's big integers, laws of every order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.dataset.order import epoch_order, global_batches, rank_slice, segment_groups

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def splitmix(state):
    z = (state + GOLDEN) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def permuted(count, seed, epoch, purpose):
    base = 0
    for word in (seed, epoch, purpose):
        base = splitmix(base ^ word)
    keys = [splitmix(base + i * GOLDEN & MASK) for i in range(count)]
    signed = [key - (1 << 64) if key >> 63 else key for key in keys]
    return sorted(range(count), key=lambda i: (signed[i], i))


def plain_order(segments, seed, epoch, group):
    ranked = permuted(max(segments) + 1, seed, epoch, 1)
    group_of = {segment: place // group for place, segment in enumerate(ranked)}
    mixed = permuted(len(segments), seed, epoch, 2)
    return [i for g in sorted(set(group_of.values())) for i in mixed if group_of[segments[i]] == g]


def test_splitmix_agrees_with_the_published_sequence():
    # The first three outputs of SplitMix64 from seed 1234567, as in the reference code's test vector.
    state, found = 1234567, []
    for _ in range(3):
        found.append(splitmix(state))
        state = (state + GOLDEN) & MASK
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_golden_order():
    segments = torch.arange(20) // 4
    assert epoch_order(segments, 7, 0, 2).tolist() == [
        6,
        16,
        19,
        7,
        4,
        18,
        5,
        17,
        9,
        8,
        1,
        2,
        3,
        10,
        0,
        11,
        12,
        14,
        15,
        13,
    ]
    assert segment_groups(10, 7, 0, 3) == [[9, 1, 4], [5, 8, 7], [0, 2, 6], [3]]


@given(st.integers(1, 300), st.integers(1, 50), st.integers(0, 2**63), st.integers(0, 1000), st.integers(1, 9))
def test_order_is_the_plain_one(count, rows, seed, epoch, group):
    segments = torch.arange(count) // rows
    assert epoch_order(segments, seed, epoch, group).tolist() == plain_order(segments.tolist(), seed, epoch, group)


@given(st.integers(0, 200), st.integers(1, 40), st.integers(1, 70), st.integers(1, 4))
def test_training_sees_each_sample_at_most_once_and_ranks_share_a_batch(count, rows, batch_size, world):
    samples = torch.arange(count) * 3 + 1
    batches = list(global_batches(samples, torch.arange(count) // rows, 1, 0, batch_size, 2, train=True))
    seen = torch.cat(batches).tolist() if batches else []
    assert len(set(seen)) == len(seen) and set(seen) <= set(samples.tolist())
    assert len(seen) == (count // batch_size * batch_size if count >= batch_size else count)
    for batch in batches:
        slices = [rank_slice(batch, rank, world).tolist() for rank in range(world)]
        assert sorted(i for one in slices for i in one) == sorted(batch.tolist())
        assert max(map(len, slices)) - min(map(len, slices)) <= 1


@given(st.integers(0, 200), st.integers(1, 70))
def test_evaluation_is_in_order_and_drops_nothing(count, batch_size):
    samples = torch.arange(count) + 5
    batches = list(global_batches(samples, torch.arange(count) // 16, 1, 0, batch_size, train=False))
    assert (torch.cat(batches) if batches else torch.empty(0)).tolist() == samples.tolist()


def test_epochs_and_seeds_differ_and_samples_stay_in_their_group():
    segments = torch.arange(4096) // 64
    first, again = epoch_order(segments, 7, 0), epoch_order(segments, 7, 0)
    assert torch.equal(first, again)
    assert not torch.equal(first, epoch_order(segments, 7, 1)) and not torch.equal(first, epoch_order(segments, 8, 0))
    groups = segment_groups(64, 7, 0)
    for number, members in enumerate(groups):
        assert set(segments[first[number * 512 : (number + 1) * 512]].tolist()) == set(members)


def test_errors_name_the_value():
    with pytest.raises(InputError, match=r"batch_size must be at least 1 \(value 0\)"):
        list(global_batches(torch.arange(3), torch.zeros(3, dtype=torch.int64), 0, 0, 0))
    with pytest.raises(InputError, match=r"rank must be in 0\.\.world-1 \(rank 2, world 2\)"):
        rank_slice(torch.arange(3), 2, 2)
