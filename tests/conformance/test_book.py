"""What every book form must keep, files not yet written included."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.core import plugins
from gpu_pipeline.core.schema import Depth
from tests.book.market import random_book
from tests.book.test_snapshots import first_snapshots
from tests.conformance.options import example, strict_example

NAMES = plugins.names("book")
TENSORS = [field.name for field in fields(Depth) if field.name != "symbol"]


def test_there_are_book_forms():
    assert "snapshots" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_config_is_strict_frozen_and_documented(name):
    plugin = plugins.load("book", name)
    config = strict_example(plugin)
    assert plugin.config.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 20), count=st.integers(0, 40))
def test_a_cut_history_gives_the_beginning_of_the_whole(name, seed, count):
    plugin = plugins.load("book", name)
    config, book = example(plugin.config), random_book(seed, 40, delay_s=3.0)
    whole, part = plugin.module.make(book, config), plugin.module.make(first_snapshots(book, count), config)
    for tensor in TENSORS:
        found, expected = getattr(part, tensor), getattr(whole, tensor)[: len(part)]
        assert found.numpy().tobytes() == expected.numpy().tobytes(), tensor


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_ages_hold_together(name):
    plugin = plugins.load("book", name)
    depth = plugin.module.make(random_book(7, 200, mean_gap_s=20.0), example(plugin.config))
    steps = len(depth)
    assert depth.depth.shape[::2] == (steps, 4)
    assert depth.depth.dtype == torch.float64
    assert (depth.beyond.shape, depth.beyond.dtype) == ((steps, 2), torch.int64)
    assert bool((depth.time_ns.diff() == depth.time_ns.diff()[0]).all())
    assert bool((depth.known_ns >= depth.time_ns).all())
    assert bool(((depth.age_ns >= 0) | (depth.age_ns == -1)).all())
    assert not bool((depth.filled & ~depth.valid).any())
    assert float(depth.depth[~depth.valid][:, :, 1::2].abs().sum()) == 0.0
    assert bool(depth.valid.any())
