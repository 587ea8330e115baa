"""The real trading day through the live engine, with the standard feature set: the bytes of the batch, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_pipeline import pipeline
from gpu_pipeline.core.config import check_config
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.dataset.data import load_dataset
from gpu_pipeline.live.plan import make_plan
from tests.live.test_fold import assert_is_batch, constant, random_sizes, rows_of

CPU = torch.device("cpu")


def day(folder: Path, data: Path, rows: int | None) -> dict[str, Any]:
    """The run file of the real day as far as its dataset."""
    path = data / "btcusdt_perp_trades_20200222" / "trades.parquet"
    columns = {"quantity": "amount", "trade_id": "id", "side": "side"}
    return {
        "name": "day",
        "device": "cpu",
        "runs": str(folder / "runs"),
        "symbols": ["BTCUSDT"],
        "ingest": {"trades": {"source": "parquet", "path": str(path), "columns": columns, "limit": rows}},
        "bars": {"type": "dollar", "threshold": 50_000, "time": ["1min", "15min"]},
        "features": {"set": "configs/features/standard.yaml"},
        "labels": {"tp2": {"name": "triple_barrier", "take_profit": 2.0, "stop_loss": 1.0, "horizon_bars": 100}},
        "dataset": {
            "target": "tp2",
            "split": {"name": "chronological", "embargo": "10min"},
            "streams": {"bars": {"from": "features", "window": 64}},
        },
    }


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "saves"), [(1, set()), (0, {3, 99, 300, 500, 900})], ids=["by trade", "by chance"])
def test_the_day_live_is_the_day_in_one_piece(tmp_path: Path, market_data: Path, sizes: int, saves: set[int]) -> None:
    done = pipeline.run(check_config(day(tmp_path, market_data, None)), Trace(), last="dataset")
    plan = make_plan(done.config, done.outputs["dataset"].path)
    dataset = load_dataset(done.outputs["dataset"].path, CPU)
    cuts = constant(1) if sizes else random_sizes(9, 250)
    rows = rows_of(done, plan, cuts, saves, tmp_path)
    assert len(rows) == 9237
    assert_is_batch(rows, dataset)
