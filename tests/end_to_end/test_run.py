"""The main job on a small simulated market: once through, unchanged, with one key changed, killed half-way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from gpu_pipeline import pipeline
from gpu_pipeline.core.config import check_config, load_config
from gpu_pipeline.core.runfile import write_yaml
from gpu_pipeline.core.store import digest_file
from gpu_pipeline.core.trace import Trace

ROOT = Path(__file__).resolve().parents[2]
MARKET = {
    "source": "simulated",
    "trades": 40_000,
    "trades_per_day": 200_000,
    "edge": 0.4,
    "book_step": "10s",
    "book_levels": 12,
}


def small(folder: Path, **changes: Any) -> dict[str, Any]:
    """A run of two minutes' worth of everything: two streams, two labels, two models."""
    values: dict[str, Any] = {
        "name": "small",
        "device": "cpu",
        "runs": str(folder / "runs"),
        "symbols": {"BTCUSDT": {"fee_bps": 1.0}},
        "ingest": {"trades": MARKET, "book": MARKET},
        "bars": {"type": "dollar", "threshold": 40_000, "time": ["1min"]},
        "book": {"form": "snapshots", "cadence": "10s", "near_levels": 4, "deep_bins": {"count": 2, "levels_each": 3}},
        "features": {"set": str(ROOT / "configs" / "features" / "demo.yaml")},
        "labels": {
            "null_symmetric": {"name": "null_symmetric", "horizon_bars": 30},
            "tp2": {"name": "triple_barrier", "take_profit": 2.0, "stop_loss": 1.0, "horizon_bars": 50},
        },
        "dataset": {
            "target": ["null_symmetric", "tp2"],
            "split": {"name": "chronological", "embargo": "10s"},
            "streams": {"bars": {"from": "features", "window": 16}, "book": {"from": "book", "window": 8}},
            "segment_rows": 256,
        },
        "train": {
            "models": [{"name": "cnn_lstm", "inputs": ["bars", "book"]}, {"name": "transformer", "inputs": ["bars"]}],
            "epochs": 1,
            "batch_size": 64,
        },
        "evaluate": {"resamples": 20},
    }
    for path, value in changes.items():
        node = values
        *parents, last = path.split("__")
        for parent in parents:
            node = node[parent]
        node[last] = value
    return values


def run(values: dict[str, Any], **options: Any) -> tuple[pipeline.Run, dict[str, bool]]:
    trace = Trace()
    done = pipeline.run(check_config(values), trace, **options)
    return done, {record.stage: record.reused for record in trace.records}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Run:
    torch.set_num_threads(2)
    return run(small(tmp_path_factory.mktemp("e2e")))[0]


@pytest.fixture
def again(first: pipeline.Run) -> Path:
    return Path(first.config.runs).parent


def test_every_result_is_there(first: pipeline.Run) -> None:
    folder = first.folder
    for name in ("clean", "bars", "book", "features", "labels", "dataset", "models/cnn_lstm", "models/transformer"):
        assert (folder / name / "manifest.json").is_file(), name
    for name in ("config.yaml", "metrics.json", "predictions.parquet", "report/index.html", "log.txt"):
        assert (folder / name).is_file(), name
    assert list((folder / "tensorboard" / "cnn_lstm").iterdir())


def test_the_written_configuration_is_a_run_file_that_means_the_same(first: pipeline.Run) -> None:
    again = load_config(first.folder / "config.yaml")
    assert again == first.config


def test_nothing_is_lost_from_trades_to_bars(first: pipeline.Run) -> None:
    manifest = first.outputs["bars"].manifest["symbols"]["BTCUSDT"]
    whole = manifest["input"]
    assert whole["trades"] == 40_000
    for resolution in ("short", "medium", "long", "1min"):
        parts = manifest["resolutions"][resolution]
        for key in ("trades", "volume_lots", "notional_units", "buy_lots"):
            assert parts["in_bars"][key] + parts["in_open_rest"][key] == whole[key], (resolution, key)


def test_the_page_opens_offline_and_warns(first: pipeline.Run) -> None:
    page = (first.folder / "report" / "index.html").read_text()
    assert page.count("<svg") >= 7
    for outside in ('src="http', 'href="http', "<script", "url(http", "@import"):
        assert outside not in page
    assert "Too few effective samples" in page


def test_predictions_name_every_sample_of_the_judged_parts(first: pipeline.Run) -> None:
    table = pq.read_table(first.folder / "predictions.parquet").to_pandas()
    assert set(table["model"]) == {"cnn_lstm", "transformer"}
    assert set(table["split"]) == {"validation", "test"}
    probability = [name for name in table.columns if name.startswith("probability_")]
    assert ((table[probability].sum(axis=1) - 1).abs() < 1e-6).all()
    assert (table["t_end"] > table["decision_time"]).all()


def test_an_unchanged_run_does_nothing_in_under_five_seconds(first: pipeline.Run, again: Path) -> None:
    started = time.perf_counter()
    _, reused = run(small(again))
    assert all(reused.values()) and len(reused) == 9
    assert time.perf_counter() - started < 5


def test_another_threshold_makes_bars_and_what_follows_but_not_ingest(again: Path, first: pipeline.Run) -> None:
    _, reused = run(small(again, bars__threshold=60_000, name="longer"), last="labels")
    assert reused == {"ingest": True, "bars": False, "book": True, "features": False, "labels": False}


def test_another_learning_rate_trains_again_and_nothing_before(again: Path, first: pipeline.Run) -> None:
    values = small(again, train__optimizer={"name": "adamw", "lr": 0.002}, name="other_lr")
    values["train"]["models"] = values["train"]["models"][1:]
    _, reused = run(values)
    changed = {"train", "evaluate", "report"}
    assert {stage for stage, kept in reused.items() if not kept} == changed


def test_from_a_stage_on_everything_runs_again_to_the_same_bytes(again: Path, first: pipeline.Run) -> None:
    before = digests(first.outputs["labels"].path)
    done, reused = run(small(again), first="labels", last="labels")
    assert reused == {"ingest": True, "bars": True, "book": True, "features": True, "labels": False}
    assert digests(done.outputs["labels"].path) == before


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_shards_give_the_same_losses_as_the_device(again: Path, first: pipeline.Run) -> None:
    values = small(again, train__loader="webdataset", name="sharded")
    done, _ = run(values, last="train")
    for title, output in first.models.items():
        steps = [
            pq.read_table(path / "steps.parquet").column("loss").to_pylist()
            for path in (output.path, done.models[title].path)
        ]
        assert steps[0] == steps[1]


def test_a_search_writes_a_run_file_that_runs(again: Path, first: pipeline.Run) -> None:
    values = small(
        again, search={"keys": {"train.optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}, "trials": 2}
    )
    values["train"]["models"] = values["train"]["models"][1:]
    found = pipeline.tune(check_config(values), Trace())
    best = load_config(found.file)
    assert best.train is not None and best.train.optimizer.lr == found.keys["train.optimizer.lr"]
    chosen = values["train"] | {"optimizer": {"lr": best.train.optimizer.lr}}
    done, reused = run(values | {"train": chosen, "search": None, "name": "best"})
    assert reused["ingest"] and reused["dataset"] and done.models


def test_a_finished_run_opens_as_frames(first: pipeline.Run) -> None:
    import gpu_pipeline as gp

    opened = gp.load_run(first.folder)
    assert len(opened.trades()) == 40_000
    assert opened.bars("1min").to_pandas()["close_timestamp"].is_monotonic_increasing
    assert len(opened.features()) == len(opened.bars()) == len(opened.labels("tp2"))
    assert opened.book().depth.shape[1:] == (6, 4)
    assert set(opened.metrics["predictors"]) == {"cnn_lstm", "transformer", "majority", "persistence"}
    assert opened.config["name"] == "small"


def test_a_run_killed_at_any_moment_is_rerun_to_the_same_bytes(tmp_path: Path, first: pipeline.Run) -> None:
    """Killed twice, at different moments, then left to finish."""
    values = small(tmp_path)
    (tmp_path / "run.yaml").write_text(write_yaml(values))
    command = [sys.executable, "-m", "gpu_pipeline", "run", str(tmp_path / "run.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    for seconds in (7.0, 11.0):
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
    done, _ = run(values)
    for stage, output in first.outputs.items():
        if stage != "report":  # the page names the run's folder
            assert digests(done.outputs[stage].path) == digests(output.path), stage
    for title, output in first.models.items():
        assert digests(done.models[title].path) == digests(output.path), title
