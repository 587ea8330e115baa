"""A small dataset built by hand, with a pattern to find or none, and a run file that needs no stage before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_pipeline.core.config import EvaluateSection, RunConfig, TrainSection
from gpu_pipeline.core.store import Store, link
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.dataset.data import Dataset, StreamData, Target, save_dataset
from gpu_pipeline.dataset.shards import write_shards

SECOND = 1_000_000_000
LIFE = 5


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def cpu() -> torch.device:
    return torch.device("cpu")


def make_dataset(samples: int = 1500, edge: float = 2.0, classes: int = 2, seed: int = 0, symbols: int = 1) -> Dataset:
    """Bars every second, a slower second stream; the class follows the last four bars' first column by `edge`."""
    random = np.random.default_rng(seed)
    window, slow = 12, 6
    rows = samples + window + 4 * slow
    values = random.normal(size=(rows, 5)).astype(np.float32)
    time_ns = np.arange(rows) * SECOND
    book = random.normal(size=(rows // 4, 3)).astype(np.float32)
    book_ns = np.arange(rows // 4) * 4 * SECOND
    last = np.arange(rows - samples, rows)
    signal = np.array([values[row - 3 : row + 1, 0].mean() * 2 for row in last])
    noisy = edge * signal + random.normal(size=samples)
    target = np.searchsorted(np.quantile(noisy, np.arange(1, classes) / classes), noisy)
    decision = time_ns[last]
    known = {"time_ns": torch.from_numpy(time_ns), "known_ns": torch.from_numpy(time_ns.copy())}
    book_known = {"time_ns": torch.from_numpy(book_ns), "known_ns": torch.from_numpy(book_ns + 1)}
    zero = torch.zeros
    streams = {
        "bars": StreamData(torch.from_numpy(values), window, tuple("abcde"), **known, symbol_id=zero(rows).long()),
        "book": StreamData(torch.from_numpy(book), slow, tuple("xyz"), **book_known, symbol_id=zero(len(book)).long()),
    }
    index = torch.from_numpy(np.stack([last, np.searchsorted(book_ns + 1, decision, side="left") - 1], 1))
    names = tuple(f"class{number}" for number in range(classes))
    t_end = torch.from_numpy(decision + LIFE * SECOND)
    target = torch.from_numpy(target.astype(np.int64))
    returns = torch.from_numpy(noisy)
    cuts = [0, int(samples * 0.7) - LIFE, int(samples * 0.7), int(samples * 0.85) - LIFE, int(samples * 0.85), samples]
    parts = {
        name: torch.arange(cuts[2 * at], cuts[2 * at + 1]) for at, name in enumerate(("train", "validation", "test"))
    }
    return Dataset(
        streams=streams,
        index=index,
        target=target,
        weight=torch.from_numpy(random.uniform(0.5, 1.5, samples).astype(np.float32)),
        class_names=names,
        decision_ns=torch.from_numpy(decision),
        known_ns=torch.from_numpy(decision),
        t_end_ns=t_end,
        end_row=index[:, 0] + LIFE,
        symbol_id=zero(samples).long(),
        symbol_names=("TOY",),
        label_return=returns,
        code=target,
        uniqueness=torch.full((samples,), 1 / (LIFE + 1), dtype=torch.float64),
        parts=parts,
        targets={"toy": Target(target, target, returns, t_end, names)},
        manifest={"decision_stream": "bars"},
        segment_rows=128,
    )


def toy_manifest(dataset: Dataset) -> dict:
    streams = {
        name: {"window": s.window, "columns": list(s.columns), "same_bars": False}
        for name, s in dataset.streams.items()
    }
    targets = {name: {"classes": list(target.class_names)} for name, target in dataset.targets.items()}
    common = {
        "streams": streams,
        "stream_names": list(streams),
        "targets": targets,
        "target_names": list(targets),
        "symbols": list(dataset.symbol_names),
    }
    return {**common, "segment_rows": dataset.segment_rows, "decision_stream": "bars", "rows": len(dataset)}


@pytest.fixture
def toy():
    return make_dataset


@pytest.fixture
def stored():
    """Puts a dataset into a store, with shards where asked for, and links it into a run's folder."""

    def put(dataset: Dataset, runs: Path, run: str = "toy", key: str = "d0", shards: bool = False) -> Path:
        def write(folder: Path) -> dict:
            save_dataset(dataset, folder)
            cut = write_shards(dataset, folder / "shards", Trace()) if shards else None
            return {**toy_manifest(dataset), "shards": cut}

        link(runs / run, "dataset", Store(runs / ".store").make("dataset", key, {}, {}, write))
        return runs / run / "dataset"

    return put


@pytest.fixture
def run_config():
    """The sections that training reads, as a checked run file would hold them."""

    def make(models=({"name": "cnn_lstm", "channels": 8, "hidden": 8},), evaluate=None, seed: int = 7, **settings):
        defaults = {"epochs": 3, "batch_size": 64, "optimizer": {"lr": 0.01}}
        section = TrainSection.model_validate({"models": list(models), **defaults, **settings})
        judged = EvaluateSection.model_validate({"resamples": 50, **(evaluate or {})})
        names = {"name": "toy", "seed": seed, "device": "cpu"}
        return RunConfig.model_construct(**names, train=section, evaluate=judged)

    return make


@pytest.fixture
def trace() -> Trace:
    found = Trace()
    found.console.quiet = True
    return found


@pytest.fixture
def run_values(tmp_path):
    """A whole run file as plain values; `runs` lies in the test's folder."""

    def make(**sections) -> dict:
        model = {"name": "cnn_lstm", "channels": 8, "hidden": 8, "dropout": 0.2}
        settings = {"epochs": 2, "batch_size": 64, "optimizer": {"lr": 0.01}, "models": [model]}
        values = {
            "name": "toy",
            "device": "cpu",
            "runs": str(tmp_path / "runs"),
            "symbols": ["TOY"],
            "ingest": {"trades": {"source": "simulated"}},
            "bars": {"type": "dollar", "threshold": 50000},
            "features": {"set": {"rsi": {"windows": [14]}}},
            "labels": {"toy": {"name": "triple_barrier", "take_profit": 1, "stop_loss": 1, "horizon_bars": 5}},
            "dataset": {"target": "toy", "streams": {"bars": {"from": "features", "window": 12}}},
            "train": {**settings, **sections.pop("train", {})},
            "evaluate": {"resamples": 0},
        }
        return {**values, **sections}

    return make
