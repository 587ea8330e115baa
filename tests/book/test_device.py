"""The GPU gives the CPU's depth tensors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gpu_pipeline.book import snapshots
from gpu_pipeline.book._quality import Quality
from gpu_pipeline.book.snapshots import Config, make
from gpu_pipeline.core.errors import InputError
from tests.book.market import EVENT_COLUMNS, SYMBOL, folded, in_pieces, random_book, random_events

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
COLUMNS = ("time_ns", "known_ns", "offsets", "bid_count", "price_ticks", "quantity_lots")


def on_gpu(book):
    return replace(book, **{name: getattr(book, name).cuda() for name in COLUMNS})


@pytest.mark.parametrize("snapshots", [1, 300])
def test_cuda_is_the_cpu(snapshots):
    book = random_book(5, snapshots, mean_gap_s=15.0, delay_s=3.0)
    config = Config(near_levels=3, deep_bins={"count": 2, "levels_each": 2})
    expected, found = make(book, config), make(on_gpu(book), config)
    for name in ("depth", "beyond", "time_ns", "known_ns", "age_ns", "valid", "filled"):
        assert getattr(found, name).device.type == "cuda"
        torch.testing.assert_close(getattr(found, name).cpu(), getattr(expected, name), rtol=0, atol=0, equal_nan=True)


def test_malformed_snapshots_are_named_there_too():
    book = random_book(5, 30)
    worse = replace(book, quantity_lots=-book.quantity_lots - 1)
    with pytest.raises(InputError, match="a quantity must not be negative"):
        make(on_gpu(worse), Config())


def test_cuda_replays_as_the_cpu_does():
    events = random_events(5, 300, delay_s=3.0)
    there = replace(events, **{name: getattr(events, name).cuda() for name in EVENT_COLUMNS})
    config = Config(near_levels=3, deep_bins={"count": 2, "levels_each": 2}, tolerance="500ms")
    expected = folded(snapshots, config, [events])
    found = folded(snapshots, config, in_pieces(there, [7, 100, 101]))
    for name in ("depth", "beyond", "time_ns", "known_ns", "age_ns", "valid", "filled"):
        torch.testing.assert_close(getattr(found, name).cpu(), getattr(expected, name), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("make_book", [random_book, random_events])
def test_the_quality_is_the_same_there(make_book):
    book = make_book(5, 300)
    columns = EVENT_COLUMNS if make_book is random_events else COLUMNS
    rows = []
    for piece in (book, replace(book, **{name: getattr(book, name).cuda() for name in columns})):
        quality = Quality(SYMBOL, 10**10, 5.0)
        quality.add(piece)
        quality.close()
        rows.append(quality.rows())
    assert rows[0] == rows[1]


def test_interpolated_cells_are_the_same_there():
    book = random_book(3, 200, mean_gap_s=12.0, delay_s=10.0)
    config = Config(near_levels=3, deep_bins=None, tolerance="40s", max_gap="60s", fill="linear")
    expected, found = make(book, config), folded(snapshots, config, in_pieces(on_gpu(book), [50, 51, 120]))
    for name in ("depth", "beyond", "time_ns", "known_ns", "age_ns", "valid", "filled"):
        torch.testing.assert_close(getattr(found, name).cpu(), getattr(expected, name), rtol=0, atol=0, equal_nan=True)
