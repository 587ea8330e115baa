"""What every split must keep, files not yet written included."""

from __future__ import annotations

import pytest
import torch

from gpu_pipeline.core import plugins
from gpu_pipeline.dataset.splits._times import Division, SampleTimes
from tests.conformance.options import example

NAMES = plugins.names("splits")
PARTS = ["train", "validation", "test"]


def samples(count=1000, life=7):
    decision = torch.arange(count) // 2 * 1000
    end_row = torch.arange(count) + life
    rows = torch.arange(count + life) // 2 * 1000
    return SampleTimes(decision, rows[end_row], end_row, torch.full((count,), count + life), rows)


def test_there_are_splits():
    assert "chronological" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_config_is_documented(name):
    plugin = plugins.load("splits", name)
    assert plugin.summary and example(plugin.config) is not None


@pytest.mark.parametrize("name", NAMES)
def test_parts_are_in_order_apart_in_time_and_do_not_overlap(name):
    plugin = plugins.load("splits", name)
    times = samples()
    division = plugin.function(times, example(plugin.config))
    assert isinstance(division, Division) and list(division.parts) == PARTS == list(division.purged)
    for positions in division.parts.values():
        assert positions.dtype == torch.int64 and len(positions) and (positions.diff() > 0).all()
    joined = torch.cat(list(division.parts.values()))
    assert len(joined.unique()) == len(joined)
    decisions = [set(times.decision_ns[positions].tolist()) for positions in division.parts.values()]
    assert not decisions[0] & decisions[1] and not decisions[1] & decisions[2] and not decisions[0] & decisions[2]


@pytest.mark.parametrize("name", NAMES)
def test_no_training_label_lives_when_a_later_part_decides(name):
    plugin = plugins.load("splits", name)
    times = samples()
    parts = plugin.function(times, example(plugin.config)).parts
    for earlier, later in (("train", "validation"), ("train", "test"), ("validation", "test")):
        border = int(times.decision_ns[parts[later]].min())
        before = parts[earlier][times.decision_ns[parts[earlier]] < border]
        assert (times.t_end_ns[before] < border).all()


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_later_samples_do_not_move_the_borders(name):
    plugin = plugins.load("splits", name)
    config = example(plugin.config)
    short, long = (plugin.function(samples(life=life), config) for life in (1, 21))
    for part in PARTS:
        assert len(short.parts[part]) + short.purged[part] == len(long.parts[part]) + long.purged[part]
