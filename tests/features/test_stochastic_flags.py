"""Flags of the stochastic against TA-Lib's lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import talib

from gpu_pipeline.features._make import make_features
from tests.features import edge_markets

SET = {name: {} for name in ("is_stoch_ob", "is_stoch_os", "is_stoch_ob_turn", "is_stoch_os_turn", "is_stoch_cross")}


def flags(market: edge_markets.Columns) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Every flag, and TA-Lib's %K and %D."""
    made = make_features(edge_markets.bars_of(market), SET)
    columns = {name: made.values[:, index].numpy() for index, name in enumerate(made.names)}
    k, d = talib.STOCH(market["high"], market["low"], market["close"], 14, 3, 0, 3, 0)
    return columns, k, d


def starts(flag: np.ndarray) -> np.ndarray:
    return flag & ~np.concatenate([[True], flag[:-1]])


def check(market: edge_markets.Columns) -> None:
    columns, k, d = flags(market)
    inside = {"ob_80": k > 80, "os_20": k < 20}
    wanted = {f"is_stoch_{name}": (flag, 17) for name, flag in inside.items()}
    for name, flag in inside.items():
        kind, bound = name.split("_")
        wanted[f"is_stoch_{kind}_enter_{bound}"] = (starts(flag), 18)
        wanted[f"is_stoch_{kind}_exit_{bound}"] = (starts(~flag), 18)
    wanted["is_stoch_cross_up_14_3_3"] = (starts(k - d > 1e-9), 18)
    wanted["is_stoch_cross_down_14_3_3"] = (starts(d - k > 1e-9), 18)
    assert sorted(wanted) == sorted(columns)
    for name, (flag, warmup) in wanted.items():
        assert np.isnan(columns[name][:warmup]).all()
        assert np.array_equal(columns[name][warmup:], flag[warmup:].astype(float)), name


@pytest.mark.parametrize("name", edge_markets.made(100))
def test_made_markets(name: str) -> None:
    check(edge_markets.made()[name])


@pytest.mark.parametrize("name", edge_markets.REAL)
def test_minute_bars_of_others(name: str, market_data: Path) -> None:
    market = edge_markets.real(market_data, name)
    check(market)
    columns, k, _ = flags(market)
    assert all(0.001 < np.nanmean(column) < 0.5 for column in columns.values())
    assert name != "6EH4_1m_202401" or (np.abs(k - 80) < 1e-9).sum() > 100  # ties, which TA-Lib's rounding decides


def test_another_bound_has_its_own_column() -> None:
    made = make_features(edge_markets.bars_of(edge_markets.walk(60, 1)), {"is_stoch_ob": {"windows": [80, 92.5]}})
    assert made.names == ("is_stoch_ob_80", "is_stoch_ob_92.5")
