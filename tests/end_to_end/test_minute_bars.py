"""A run that starts from bars made by others: the example on a week of it, and what its rows may see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gpu_pipeline as gp
from gpu_pipeline import pipeline
from gpu_pipeline.core.config import load_config
from gpu_pipeline.core.trace import Trace

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("5min", "15min", "1hour", "4hour", "1day")


def overrides(market_data: Path, runs: Path) -> list[str]:
    return [
        f"runs={runs}",
        "device=cpu",
        f"ingest.bars.path={market_data / 'bars_1m' / '6EH4_1m_202401.parquet'}",
        "ingest.bars.end=2024-01-09",
        f"features.set={ROOT / 'configs' / 'features' / 'minute_bars.yaml'}",
    ]


@pytest.fixture(scope="module")
def done(market_data: Path, tmp_path_factory: pytest.TempPathFactory) -> gp.load_run:
    runs = tmp_path_factory.mktemp("runs")
    config = load_config(ROOT / "configs" / "minute_bars_6eh4.yaml", overrides(market_data, runs))
    pipeline.run(config, Trace(), last="dataset")
    return gp.load_run(runs / config.name)


def test_a_row_sees_the_time_bars_that_have_ended(done) -> None:
    base, features = done.bars("short").to_pandas(), done.features().to_pandas()
    assert len(base) == len(features) > 6_000
    for step in STEPS[:4]:
        bars = done.bars(step).to_pandas()
        bars["expected"] = bars["close"] / bars["close"].shift(1) - 1
        seen = pd.merge_asof(
            base[["close_timestamp"]], bars[["close_timestamp", "expected"]], on="close_timestamp", direction="backward"
        )
        found = features[f"return_1_tb_{step}"].to_numpy()
        np.testing.assert_allclose(found, seen["expected"].to_numpy(), rtol=1e-9, atol=1e-15)
        assert np.isfinite(found).sum() > 1_000
    days = done.bars("1day").to_pandas()
    assert days["close_timestamp"].dt.tz_convert("America/Chicago").dt.strftime("%H:%M").unique().tolist() == ["16:00"]


def test_bars_of_the_run_are_those_in_memory(done, market_data: Path) -> None:
    minutes = gp.read_bars(
        market_data / "bars_1m" / "6EH4_1m_202401.parquet",
        symbol="6EH4",
        label="close",
        end="2024-01-09",
        sessions="sun-thu 17:00-16:00",
        timezone="America/Chicago",
        price_tick="0.00005",
    )
    for step in STEPS:
        made = gp.make_bars(minutes, "time", step=step, anchor="session").to_pandas()
        pd.testing.assert_frame_equal(done.bars(step).to_pandas(), made, check_exact=True)
    dataset = done.dataset()
    assert len(dataset) > 5_000 and dataset.manifest["symbols"] == ["6EH4"]


@pytest.mark.slow
def test_the_example_is_trained_and_judged(market_data: Path, tmp_path: Path) -> None:
    few = ["train.epochs=1", "train.max_steps=3", "evaluate.resamples=20"]
    config = load_config(ROOT / "configs" / "minute_bars_6eh4.yaml", [*overrides(market_data, tmp_path), *few])
    pipeline.run(config, Trace())
    page = (tmp_path / config.name / "report" / "index.html").read_text()
    assert "6EH4: " in page and "bars of time_1min" in page
