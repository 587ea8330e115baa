"""The shipped feature sets pass their audit: on the real day, and on bars made by others."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_pipeline.cli import main
from gpu_pipeline.core.schema import Bars

ROOT = Path(__file__).resolve().parents[2]
TRADES = "btcusdt_perp_trades_20200222/trades.parquet"


def audited(config: str, runs: Path, *overrides: str) -> int:
    return main(["audit", "features", str(ROOT / "configs" / config), f"runs={runs}", "device=cpu", *overrides])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "time"), [("standard", "[1min, 15min]"), ("full", "[1min, 15min, 4hour]")])
def test_the_real_day(
    name: str, time: str, market_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = ROOT / "configs" / "features" / f"{name}.yaml"
    changes = [f"ingest.trades.path={market_data / TRADES}", f"features.set={features}", f"bars.time={time}"]
    assert audited("btcusdt_day.yaml", tmp_path, *changes) == 0
    out = capsys.readouterr().out
    assert "9,237 rows" in out and " 0 failures" in out and "live against batch: 6,898 rows" in out


def test_bars_made_by_others(
    market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gpu_pipeline.live.replay.ONE_BY_ONE", {Bars: 30})
    monkeypatch.setattr("gpu_pipeline.live.replay.THEN", 301)
    monkeypatch.setattr("gpu_pipeline.features._audit_plan.SINGLE_ROWS", 20)
    changes = [
        f"ingest.bars.path={market_data / 'bars_1m' / '6EH4_1m_202401.parquet'}",
        "ingest.bars.end=2024-01-03",
        f"features.set={ROOT / 'configs' / 'features' / 'minute_bars.yaml'}",
    ]
    assert audited("minute_bars_6eh4.yaml", tmp_path, *changes) == 0
    out = capsys.readouterr().out
    assert "(30 bars one by one, then to " in out and " 0 failures" in out
