"""The real trading day from file to report: the mechanics on data that nobody here made up."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from gpu_pipeline import pipeline
from gpu_pipeline.core.config import load_config
from gpu_pipeline.core.trace import Trace

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def day(market_data: Path, tmp_path_factory: pytest.TempPathFactory) -> pipeline.Run:
    file = market_data / "btcusdt_perp_trades_20200222" / "trades.parquet"
    overrides = [
        f"runs={tmp_path_factory.mktemp('day')}",
        f"ingest.trades.path={file}",
        f"features.set={ROOT / 'configs' / 'features' / 'standard.yaml'}",
        "train.epochs=1",
        "evaluate.resamples=50",
        "device=cpu",
    ]
    return pipeline.run(load_config(ROOT / "configs" / "btcusdt_day.yaml", overrides), Trace())


def test_every_trade_is_accounted_for_to_the_last_digit(day: pipeline.Run, market_data: Path) -> None:
    source = pd.read_parquet(market_data / "btcusdt_perp_trades_20200222" / "trades.parquet")
    prices, amounts = ([Decimal(str(value)) for value in source[name]] for name in ("price", "amount"))
    notional = sum(price * amount for price, amount in zip(prices, amounts, strict=True))
    account = day.outputs["bars"].manifest["symbols"]["BTCUSDT"]
    short = account["resolutions"]["short"]
    assert short["in_bars"]["trades"] + short["in_open_rest"]["trades"] == len(source) == 137_988
    for key, total in (("volume", sum(amounts)), ("notional", notional)):
        assert Decimal(short["in_bars"][key]) + Decimal(short["in_open_rest"][key]) == total
        assert Decimal(account["input"][key]) == total
    assert sum(amounts) == Decimal("58419.475")
    assert short["bars"] == 9_237


def test_both_models_are_trained_and_the_report_warns(day: pipeline.Run) -> None:
    assert set(day.models) == {"cnn_lstm", "transformer"}
    page = (day.folder / "report" / "index.html").read_text()
    assert "Too few effective samples" in page
    assert "Barriers smaller than round-trip costs" in page
