"""Live is batch: the rows of the live engine are those of the dataset, bit for bit, however the feed is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpu_pipeline import pipeline
from gpu_pipeline.core.config import check_config
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.dataset.data import Dataset, load_dataset
from gpu_pipeline.ingest import _stage as ingest_stage
from gpu_pipeline.live.engine import LiveEngine
from gpu_pipeline.live.feed import Piece, interleave
from gpu_pipeline.live.fold import LiveRow
from gpu_pipeline.live.plan import Plan, make_plan
from tests.end_to_end.test_run import small

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Run:
    features = {
        "log_return": {"windows": [1, 5]},
        "rsi": {"windows": [14]},
        "volatility": {"windows": [20]},
        "trade_imbalance": {},
        "microprice_distance": {},
        "book_order_flow": {"windows": [3]},
    }
    values = small(tmp_path_factory.mktemp("live"), features={"set": features})
    return pipeline.run(check_config(values), Trace(), last="dataset")


@pytest.fixture(scope="module")
def plan(done: pipeline.Run) -> Plan:
    return make_plan(done.config, done.outputs["dataset"].path)


@pytest.fixture(scope="module")
def dataset(done: pipeline.Run) -> Dataset:
    return load_dataset(done.outputs["dataset"].path, CPU)


def feed(done: pipeline.Run, sizes: Iterator[int]) -> Iterator[Piece]:
    """The run's own clean streams, trades cut into pieces of these sizes."""
    symbol = done.symbols()["BTCUSDT"]
    clean = done.outputs["ingest"].path

    def pieces() -> Iterator[Any]:
        trades = ingest_stage.load_all_trades(clean, symbol, CPU)
        first = 0
        while first < len(trades):
            size = next(sizes)
            yield trades[first : first + size]
            first += size

    books = ingest_stage.load_book(clean, "book", symbol, CPU) if "book" in done.config.ingest else ()
    return interleave(pieces(), books)


def rows_of(done: pipeline.Run, plan: Plan, sizes: Iterator[int], saves: set[int], folder: Path) -> list[LiveRow]:
    engine, found = LiveEngine(plan, done.symbols()), []
    for number, piece in enumerate(feed(done, sizes)):
        found += list(engine.take(piece))
        if number in saves:
            engine.save(folder / str(number))
            engine = LiveEngine.restore(folder / str(number), plan)
    assert engine.rows == len(found)
    return found


def constant(size: int) -> Iterator[int]:
    while True:
        yield size


def random_sizes(seed: int, most: int) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(1, most))


def assert_is_batch(rows: list[LiveRow], dataset: Dataset) -> None:
    """Every row's model input, and every sample's windows, bit for bit."""
    bars = dataset.streams["bars"]
    assert len(rows) == len(bars)
    live = torch.stack([row.values["bars"] for row in rows])
    assert torch.equal(live, bars.values)
    assert [row.known_ns for row in rows] == bars.known_ns.tolist()
    samples = {int(row): sample for sample, row in enumerate(dataset.index[:, 0].tolist())}
    assert samples and all(rows[row].windows for row in samples), "every sample of the dataset is one live"
    for row, sample in samples.items():
        for column, (name, stream) in enumerate(dataset.streams.items()):
            last = int(dataset.index[sample, column])
            wanted = stream.values[last + 1 - stream.window : last + 1]
            assert torch.equal(rows[row].windows[name], wanted), (name, row)


def test_the_whole_history_in_one_piece_is_the_dataset(
    done: pipeline.Run, plan: Plan, dataset: Dataset, tmp_path: Path
) -> None:
    assert_is_batch(rows_of(done, plan, constant(1 << 30), set(), tmp_path), dataset)


def test_random_pieces_with_five_restarts_are_the_dataset(
    done: pipeline.Run, plan: Plan, dataset: Dataset, tmp_path: Path
) -> None:
    saves = {3, 17, 40, 90, 150}
    assert_is_batch(rows_of(done, plan, random_sizes(5, 300), saves, tmp_path), dataset)


@pytest.mark.slow
def test_trade_by_trade_is_the_dataset(done: pipeline.Run, plan: Plan, dataset: Dataset, tmp_path: Path) -> None:
    assert_is_batch(rows_of(done, plan, constant(1), set(), tmp_path), dataset)
