"""The kernels of the depth tensor in the simulator, through form and alignment, give the tensors of the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gpu_pipeline.book import _replayed, snapshots
from gpu_pipeline.book.snapshots import Config, DeepBins, make
from gpu_pipeline.core.config import StreamSection
from gpu_pipeline.dataset._align import aligned_rows
from kernels import depth as depth_op
from kernels._op import SIMULATED
from kernels.book_replay import last_writes, launch_replay
from tests.book.market import SYMBOL, folded, in_pieces, random_book, random_events, same
from tests.kernels import simulator

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(not SIMULATED, reason="needs NUMBA_ENABLE_CUDASIM=1"),
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]
if SIMULATED:
    simulator.allocate_shared_arrays_once()
CONFIG = Config(near_levels=2, deep_bins=DeepBins(count=2, levels_each=2), max_gap="25s", tolerance="500ms")


def simulated_depth(price_ticks, quantity_lots, offsets, bid_count, rows, near_levels, bin_sizes):
    """The depth tensor by its CUDA kernel."""
    book = [column.numpy() for column in (price_ticks, quantity_lots, offsets, bid_count, rows)]
    edges = np.array(depth_op._edges(near_levels, bin_sizes, len(book[0])))
    depth = np.full((len(rows), near_levels + len(bin_sizes), 4), -99.0)
    beyond = np.full((len(rows), 2), -99)
    bad = depth_op.launch(book, edges, depth_op.lanes_of(bin_sizes), depth, beyond)
    assert set(bad.tolist()) == {depth_op.NO_ROW}
    return torch.from_numpy(depth), torch.from_numpy(beyond)


def simulated_replay(side, price_ticks, quantity_lots, ends, levels, state):
    """The replayed book by its CUDA kernels."""
    writes, starts, emptied = (x.numpy() for x in last_writes(side, price_ticks, quantity_lots, ends))
    sides = [torch.cat((state[0], state[2])).numpy(), torch.cat((state[1], state[3])).numpy()]
    book = np.array(sides, np.int64).reshape(2, -1)
    offsets, counts, ticks, lots, bids, after = launch_replay(writes, starts, emptied, book, len(state[0]), levels)
    left = (after[0, :bids], after[1, :bids], after[0, bids:], after[1, bids:])
    columns = (offsets, counts[0, :-1], ticks, lots)
    return *map(_tensor, columns), tuple(map(_tensor, left))


def _tensor(column):
    return torch.from_numpy(np.array(column, dtype=np.int64))


def on_the_device(monkeypatch, pieces, config):
    """The depth of pieces with both kernels in the simulator."""
    with monkeypatch.context() as patched:
        patched.setattr(snapshots, "depth_tensor", simulated_depth)
        patched.setattr(_replayed, "replay", simulated_replay)
        return folded(snapshots, config, pieces)


@pytest.mark.parametrize("make_book", [random_book, random_events])
def test_the_tensor_of_pieces_is_the_cpus_of_the_whole(monkeypatch, make_book):
    book = make_book(4, 15, delay_s=3.0)
    wanted = make(book, CONFIG)
    assert len(wanted) > 3 and bool(wanted.valid.any())
    same(on_the_device(monkeypatch, in_pieces(book, [1, 7, 8]), CONFIG), wanted)


def test_interpolated_cells_are_the_cpus(monkeypatch):
    config = CONFIG.model_copy(update={"tolerance": "40s", "max_gap": "60s", "fill": "linear"})
    book = random_book(2, 20, mean_gap_s=12.0)
    assert snapshots.end(config, snapshots.step(book, config, None)[1])[1].interpolated > 0
    same(on_the_device(monkeypatch, in_pieces(book, [9]), config), make(book, config))


def test_assets_side_by_side_are_the_cpus(monkeypatch):
    pieces = [random_book(6, 12), random_events(6, 12)]
    named = [replace(piece, symbol=replace(SYMBOL, name=name)) for piece, name in zip(pieces, "AB", strict=True)]
    section = StreamSection.model_validate({"from": "book", "window": 1, "assets": "all", "min_assets_required": 1})
    found, wanted = (
        aligned_rows("book", section, [made(piece) for piece in named])
        for made in (lambda piece: on_the_device(monkeypatch, [piece], CONFIG), lambda piece: make(piece, CONFIG))
    )
    for name in ("values", "time_ns", "known_ns", "missing", "filled"):
        assert getattr(found, name).numpy().tobytes() == getattr(wanted, name).numpy().tobytes(), name
