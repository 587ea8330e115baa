"""Books of several assets in one model: two through the whole run, seven to the dataset, by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_pipeline import cli
from gpu_pipeline.core.runfile import write_yaml
from gpu_pipeline.dataset.data import load_dataset

ROOT = Path(__file__).resolve().parents[2]
LEVELS = 4
WINDOW = 6


def run_file(folder: Path, assets: int, **changes: Any) -> Path:
    market = {
        "source": "simulated",
        "trades": 5_000,
        "trades_per_day": 200_000,
        "common": 0.5,
        "book_step": "10s",
        "book_levels": 6,
    }
    book = {"from": "book", "window": WINDOW, "assets": "all", "price": "bps", "levels": {"min_nonzero": 50}, **changes}
    values: dict[str, Any] = {
        "name": "assets",
        "device": "cpu",
        "runs": str(folder / "runs"),
        "symbols": {f"COIN{number}": {"fee_bps": 1.0} for number in range(assets)},
        "ingest": {"trades": market, "book": market},
        "bars": {"type": "dollar", "threshold": 20_000, "time": ["1min"]},
        "book": {"form": "snapshots", "cadence": "10s", "near_levels": LEVELS, "deep_bins": None},
        "features": {"set": {"log_return": {"windows": [1, 5], "on": ["short"]}}},
        "labels": {"up": {"name": "null_symmetric", "horizon_bars": 20}},
        "dataset": {
            "target": "up",
            "split": {"name": "chronological", "embargo": "10s"},
            "streams": {"bars": {"from": "features", "window": 8}, "book": book},
        },
        "train": {"models": [{"name": "cnn_lstm"}], "epochs": 1, "batch_size": 64, "max_steps": 8},
        "evaluate": {"resamples": 20},
    }
    (folder / "run.yaml").write_text(write_yaml(values))
    return folder / "run.yaml"


def test_two_assets_from_trades_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", str(run_file(tmp_path, 2))]) == 0, capsys.readouterr().err
    page = (tmp_path / "runs" / "assets" / "report" / "index.html").read_text()
    assert "too_few_assets" in page and "reference_missing" in page
    assert (tmp_path / "runs" / "assets" / "models" / "cnn_lstm").is_dir()


def test_seven_assets_to_the_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_file(tmp_path, 7, reference="COIN3", min_assets_required=5, partial_fill_threshold=0.5)
    assert cli.main(["run", str(path), "--to", "dataset"]) == 0, capsys.readouterr().err
    dataset = load_dataset(tmp_path / "runs" / "assets" / "dataset", torch.device("cpu"))
    stream, said = dataset.streams["book"], dataset.manifest["streams"]["book"]
    assert len(stream.columns) == LEVELS * 4 * 7 and said["levels"]["kept"] == LEVELS
    assert said["reference"] == "COIN3" and said["assets"] == [f"COIN{number}" for number in range(7)]
    assert set(dataset.symbol_id.tolist()) == set(range(7)) and (stream.symbol_id == -1).all()
    assert (stream.known_ns[dataset.index[:, 1]] < dataset.known_ns).all()
    dropped = dataset.manifest["dropped"]
    assert {"reference_missing", "too_few_assets", "too_many_filled"} <= set(dropped)
    assert sum(dropped.values()) + len(dataset) == dataset.manifest["rows_in"]
