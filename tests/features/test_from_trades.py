"""Trades to features by the folds that a run uses: any cutting of the trades gives the bits of one pass."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_pipeline.bars import _fold
from gpu_pipeline.bars._aggregate import to_bars
from gpu_pipeline.bars._make import make_resolutions
from gpu_pipeline.core.schema import Bars, Trades
from gpu_pipeline.features import _audit, _state
from gpu_pipeline.features._audit_values import check_warmup
from gpu_pipeline.features._set import read_set
from gpu_pipeline.features.engine import Engine
from tests.bars.market import random_trades, real_day

STANDARD = Path(__file__).resolve().parents[2] / "configs" / "features" / "standard.yaml"
RESOLUTIONS = {"medium": 10, "long": {"of": "medium", "bars": 16}}


def chunks_of_bars(trades: Trades, cuts: list[int], threshold: int) -> Iterator[dict[str, Bars]]:
    """What closes with each stretch of trades, of every resolution."""
    options = {"threshold": threshold, "time": ["1min", "15min"], "resolutions": RESOLUTIONS}
    chains = _fold.plan(_fold.section_of("dollar", options, "test"))
    state: dict[str, torch.Tensor] = {}
    edges = [0, *sorted(cuts), len(trades)]
    for start, stop in pairwise(edges):
        sums, state = _fold.step(trades[start:stop], chains, state)
        yield {
            chain.resolution: to_bars(
                sums[chain.resolution], trades.symbol, chain.name, has_side=True, is_partial=False
            )
            for chain in chains
        }


def assert_any_cutting_is_one_pass(trades: Trades, cuts: list[int], threshold: int, folder: Path) -> torch.Tensor:
    tables = make_resolutions(
        trades, "dollar", threshold=threshold, time=["1min", "15min"], resolutions=dict(RESOLUTIONS)
    )
    engine = Engine(read_set(STANDARD), tuple(tables))
    whole = _audit.run_whole(engine, tables)
    state, parts = engine.start(torch.device("cpu")), []
    for number, chunk in enumerate(chunks_of_bars(trades, cuts, threshold)):
        features, state = engine.step(chunk, state)
        parts.append(features)
        if number % 10 == 5:
            state = _state.load_state(
                _state.save_state(folder / str(number), engine, state), engine, torch.device("cpu")
            )
    same = _audit.same_bits(whole.values.contiguous(), torch.cat([part.values for part in parts]))
    assert same.all(), [whole.names[index] for index in (~same).any(dim=0).nonzero().flatten()]
    assert torch.equal(whole.last_trade_row, torch.cat([part.last_trade_row for part in parts]))
    return whole.values


def test_random_market_cut_anywhere(tmp_path: Path) -> None:
    trades = random_trades(3, 6000)
    cuts = np.random.default_rng(1).integers(0, len(trades), 60).tolist()
    values = assert_any_cutting_is_one_pass(trades, [*cuts, 17, 18, 19, 19], 20_000, tmp_path)
    assert len(values) > 200


def test_real_day_cut_anywhere(market_data: Path, tmp_path: Path) -> None:
    trades = real_day(market_data)
    cuts = np.random.default_rng(2).integers(0, len(trades), 40).tolist()
    values = assert_any_cutting_is_one_pass(trades, cuts, 50_000, tmp_path)
    assert len(values) > 9000
    assert torch.isfinite(values[-1]).float().mean() > 0.9


def test_real_day_passes_the_audit(market_data: Path) -> None:
    trades = real_day(market_data)
    tables = make_resolutions(trades, "dollar", threshold=100_000, time=["1min"], resolutions=dict(RESOLUTIONS))
    choices = read_set(STANDARD)
    engine = Engine(choices, tuple(tables))
    findings = check_warmup(choices, tables) + _audit.check_chunks(engine, tables, [1000, 60_000, 60_001])
    findings += _audit.check_future(engine, tables, int(tables["1min"].last_trade_row[300]))
    assert not findings, "\n".join(map(str, findings))


@pytest.mark.slow
def test_real_day_trade_by_trade(market_data: Path, tmp_path: Path) -> None:
    trades = real_day(market_data)[:5_000]
    assert_any_cutting_is_one_pass(trades, list(range(1, len(trades))), 50_000, tmp_path)
