"""Splits worked by hand, and laws that hold for any samples."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.dataset.splits._times import SampleTimes
from gpu_pipeline.dataset.splits.chronological import NEVER, Config, end_with_embargo, split

MINUTE = 60_000_000_000
PARTS = ("train", "validation", "test")


def times(decision, end_row, rows=None, unit=MINUTE):
    """Samples of one symbol on rows at 0, 1, 2 ... minutes; a sample's decision is given in minutes."""
    rows = rows or max(end_row) + 1
    return SampleTimes(
        decision_ns=torch.tensor(decision) * unit,
        t_end_ns=torch.tensor(end_row) * unit,
        end_row=torch.tensor(end_row),
        row_stop=torch.full((len(decision),), rows),
        row_time_ns=torch.arange(rows) * unit,
    )


def lists(division):
    return {part: division.parts[part].tolist() for part in PARTS}


def test_hand_worked_purge_and_embargo():
    # Ten samples at minutes 0..9, labels two minutes long, cuts at 5 and 8.
    samples = times(range(10), range(2, 12), rows=30)
    fractions = [0.5, 0.3, 0.2]
    # Without embargo a label that ends at minute 5 or later meets the first validation decision: samples 3 and 4 go.
    none = split(samples, Config(fractions=fractions))
    assert lists(none) == {"train": [0, 1, 2], "validation": [5], "test": [8, 9]}
    assert none.purged == {"train": 2, "validation": 2, "test": 0}
    # One more minute takes sample 2 (ends at 4, with embargo at 5) and empties the validation part's only sample.
    one = split(samples, Config(fractions=[0.5, 0.4, 0.1], embargo="1min"))
    assert lists(one) == {"train": [0, 1], "validation": [5], "test": [9]}
    assert one.purged == {"train": 3, "validation": 3, "test": 0}
    # One bar is one minute here.
    assert lists(split(samples, Config(fractions=[0.5, 0.4, 0.1], embargo=1))) == lists(one)


def test_bars_of_an_embargo_are_bars_and_minutes_minutes():
    rows = torch.tensor([0, 1, 2, 50, 51, 52, 53]) * MINUTE
    samples = SampleTimes(rows[:3], rows[1:4], torch.tensor([1, 2, 3]), torch.full((3,), 7), rows)
    assert end_with_embargo(samples, 2).tolist() == [m * MINUTE for m in (50, 51, 52)]
    assert end_with_embargo(samples, "2min").tolist() == [m * MINUTE for m in (3, 4, 52)]
    assert end_with_embargo(samples, 0).tolist() == [m * MINUTE for m in (1, 2, 50)]
    assert end_with_embargo(samples, 4).tolist() == [52 * MINUTE, 53 * MINUTE, NEVER]


def test_one_decision_time_is_never_divided():
    # The cut at sample 5 falls into minute 3, which then belongs to validation as a whole.
    samples = times([0, 1, 2, 3, 3, 3, 3, 7, 8, 9], [m + 1 for m in [0, 1, 2, 3, 3, 3, 3, 7, 8, 9]])
    found = lists(split(samples, Config(fractions=[0.5, 0.3, 0.2])))
    assert found == {"train": [0, 1], "validation": [3, 4, 5, 6], "test": [8, 9]}


@pytest.mark.parametrize("fractions", [[0.7, 0.1, 0.2], [0.1, 0.2, 0.7], [0.29, 0.28, 0.43]])
def test_fractions_are_decimal_numbers(fractions):
    # In binary 0.1 + 0.2 is not 0.3, and int(0.29 * 100) is 28.
    samples = times(range(100), range(1, 101))
    division = split(samples, Config(fractions=fractions))
    sizes = [len(division.parts[part]) + division.purged[part] for part in PARTS]
    assert sizes == [round(100 * fraction) for fraction in fractions]


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 8)), min_size=3, max_size=80),
    st.sampled_from([[0.6, 0.2, 0.2], [0.34, 0.33, 0.33], [0.8, 0.1, 0.1]]),
    st.one_of(st.integers(0, 5), st.sampled_from(["1min", "3min"])),
)
def test_laws(pairs, fractions, embargo):
    pairs.sort()
    samples = times([p[0] for p in pairs], [p[0] + p[1] for p in pairs], rows=80)
    try:
        division = split(samples, Config(fractions=fractions, embargo=embargo))
    except InputError:
        return
    gap = embargo if isinstance(embargo, int) else int(embargo[0])
    decisions = {part: {pairs[i][0] for i in division.parts[part].tolist()} for part in PARTS}
    for earlier, later in (("train", "validation"), ("validation", "test"), ("train", "test")):
        assert max(decisions[earlier]) < min(decisions[later])
        ends = [sum(pairs[i]) + gap for i in division.parts[earlier].tolist()]
        assert max(ends) < min(decisions[later])
    total = sum(len(division.parts[part]) + division.purged[part] for part in PARTS)
    assert total == len(pairs) and division.purged["test"] == 0


def test_an_empty_part_is_an_error_with_sizes_and_a_way_out():
    with pytest.raises(
        InputError, match=r"'train' has none: train 0 \(purged 5\), validation .* shorter embargo \(value 1day"
    ):
        split(times(range(10), range(1, 11)), Config(fractions=[0.5, 0.3, 0.2], embargo="1day"))
    with pytest.raises(InputError, match="every part needs a sample"):
        split(times([4] * 10, [5] * 10), Config())


@pytest.mark.parametrize(
    "keys", [{"fractions": [0.5, 0.5, 0.5]}, {"fractions": [1.0, 0.0, 0.0]}, {"fractions": [0.5, 0.5]}]
)
def test_fractions_must_be_positive_and_sum_to_one(keys):
    with pytest.raises(ValueError, match=r"fractions"):
        Config(**keys)


@pytest.mark.parametrize("embargo", [-1, "ten minutes", 1.5, True])
def test_embargo_must_be_a_duration_or_bars(embargo):
    with pytest.raises(ValueError, match=r"duration"):
        Config(embargo=embargo)
