"""What every book form must keep, files not yet written included."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.core import plugins
from gpu_pipeline.core.schema import Depth
from tests.book.market import cut, folded, in_pieces, random_book, random_events, same
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
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 20), cuts=st.lists(st.integers(0, 250), max_size=5))
@pytest.mark.parametrize("make_book", [random_book, random_events])
def test_any_cut_into_pieces_gives_the_same_cells(name, make_book, seed, cuts):
    plugin = plugins.load("book", name)
    config, book = example(plugin.config), make_book(seed, 40, delay_s=3.0)
    same(folded(plugin.module, config, in_pieces(book, cuts)), folded(plugin.module, config, [book]))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 20), count=st.integers(0, 200))
@pytest.mark.parametrize("make_book", [random_book, random_events])
def test_a_cut_history_gives_the_beginning_of_the_whole(name, make_book, seed, count):
    plugin = plugins.load("book", name)
    config, book = example(plugin.config), make_book(seed, 40, delay_s=3.0)
    part, _ = plugin.module.step(cut(book, slice(0, count)), config, None)
    whole = folded(plugin.module, config, [book])
    same(part, replace(whole, **{tensor: getattr(whole, tensor)[: len(part)] for tensor in TENSORS}))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make_book", [random_book, random_events])
def test_shapes_and_ages_hold_together(name, make_book):
    plugin = plugins.load("book", name)
    depth = folded(plugin.module, example(plugin.config), [make_book(7, 200, mean_gap_s=20.0)])
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
