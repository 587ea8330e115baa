"""The long-term channel through the command line: days of simulated trades, to the dataset, against pandas."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpu_pipeline import cli
from gpu_pipeline.core.config import check_config
from gpu_pipeline.core.errors import ConfigError
from gpu_pipeline.core.runfile import read_yaml, write_yaml
from gpu_pipeline.core.units import DAY_NS
from gpu_pipeline.dataset.data import load_dataset
from gpu_pipeline.results import load_run

ASSETS = ("COIN0", "COIN1")


def run_file(folder: Path) -> Path:
    daily = {"from": "daily", "window": 2, "assets": "all", "returns": "1hour"}
    values: dict[str, Any] = {
        "name": "days",
        "device": "cpu",
        "runs": str(folder / "runs"),
        "symbols": {name: {} for name in ASSETS},
        "ingest": {"trades": {"source": "simulated", "trades": 7_000, "trades_per_day": 1_000}},
        "bars": {"type": "dollar", "threshold": 20_000},
        "features": {"set": {"log_return": {"windows": [1, 5], "on": ["short"]}}},
        "labels": {"up": {"name": "null_symmetric", "horizon_bars": 20}},
        "dataset": {"target": "up", "streams": {"bars": {"from": "features", "window": 8}, "days": daily}},
    }
    (folder / "run.yaml").write_text(write_yaml(values))
    return folder / "run.yaml"


def test_days_of_two_assets_to_the_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_file(tmp_path)
    assert cli.main(["run", str(path), "--to", "dataset"]) == 0, capsys.readouterr().err
    run = load_run(tmp_path / "runs" / "days")
    dataset = load_dataset(tmp_path / "runs" / "days" / "dataset", torch.device("cpu"))
    days = dataset.streams["days"]
    assert len(days) >= 5 and (days.known_ns % DAY_NS == 0).all()
    assert (days.known_ns[dataset.index[:, 1]] < dataset.known_ns).all()
    assert (dataset.known_ns - days.known_ns[dataset.index[:, 1]] <= DAY_NS).all()
    fitted = run.dataset().manifest["streams"]["days"]
    assert fitted["assets"] == list(ASSETS) and fitted["returns"] == "1hour"
    trades = run.trades("COIN1")
    volume = [
        math.log1p(int(trades.quantity_lots[trades.time_ns // DAY_NS == int(end) // DAY_NS - 1].sum()))
        for end in days.time_ns
    ]
    column = days.values[:, days.columns.index("log_volume_COIN1")].double().numpy()
    # Model input is the log volume, centred and scaled.
    slope, center = np.polyfit(volume, column, 1)
    np.testing.assert_allclose(column, slope * np.array(volume) + center, atol=1e-4)
    assert slope > 0


def test_days_need_the_stream_of_trades(tmp_path: Path) -> None:
    values = read_yaml(run_file(tmp_path))
    values["ingest"] = {"bars": values["ingest"]["trades"]}
    values["bars"] = {"type": "time", "step": "1min"}
    with pytest.raises(
        ConfigError, match=r"days\.from: days are told by the ingest stream 'trades', which is not there"
    ):
        check_config(values)
