"""The live engine: one trade, and one trade that closes a short bar, with the standard feature set, on the CPU.

Rates are calls per second; the slow end (p20) of the second case is what a bar waits for on a bad day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from bench._inputs import size, words
from bench._measure import ROOT, Case, NotRun
from bench._tables import SYMBOL, trade_table
from gpu_pipeline.bars import _fold
from gpu_pipeline.core.config import check_config
from gpu_pipeline.core.schema import Trades
from gpu_pipeline.dataset.model_input import Fitted
from gpu_pipeline.features._stage import compile_run
from gpu_pipeline.live.fold import SymbolFold
from gpu_pipeline.live.plan import Plan, StreamPlan

TESTS = "tests/live/test_fold.py"
CALLS = 200


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """A state behind enough bars that every feature has its values."""
    if device.type == "cuda":
        raise NotRun("the live engine runs on the CPU")
    trades = trade_table(size(device, tiny, cpu=60_000, cuda=60_000, small=8_000), device)
    plan = _plan()
    columns = f"{len(plan.engine.names)} columns, {words(CALLS)} calls"
    yield Case("live, a trade", "ours", columns, CALLS, "trades", _Feed(plan, trades, closes=False))
    yield Case("live, a closed bar", "ours", columns, CALLS, "bars", _Feed(plan, trades, closes=True))


@dataclass
class _Feed:
    """Feeds one trade at a time; those that do not count are taken between the timed calls' own stretches."""

    plan: Plan
    trades: Trades
    closes: bool

    def __post_init__(self) -> None:
        self._fold = SymbolFold(SYMBOL, self.plan)
        self._at = len(self.trades) // 2
        list(self._fold.take_trades(self.trades[: self._at]))

    def __call__(self) -> int:
        """`CALLS` pieces: single trades, or just as many trades as close one bar."""
        rows, step = 0, 10 if self.closes else 1
        for _ in range(CALLS):
            if self._at + step > len(self.trades):
                self.__post_init__()
            rows += len(list(self._fold.take_trades(self.trades[self._at : self._at + step])))
            self._at += step
        return rows


def _plan() -> Plan:
    config = check_config(
        {
            "name": "live",
            "device": "cpu",
            "symbols": ["BTCUSDT"],
            "ingest": {"trades": {"source": "simulated"}},
            "bars": {"type": "tick", "threshold": 10, "time": ["1min", "15min"]},
            "features": {"set": str(ROOT / "configs" / "features" / "standard.yaml")},
            "labels": {"a": {"name": "triple_barrier", "take_profit": 1.0, "stop_loss": 1.0, "horizon_bars": 5}},
            "dataset": {"target": "a", "streams": {"bars": {"from": "features", "window": 64}}},
        }
    )
    assert config.bars is not None and config.dataset is not None
    engine = compile_run(config)
    zero, one = torch.zeros(len(engine.names), dtype=torch.float64), torch.ones(len(engine.names), dtype=torch.float64)
    fitted = Fitted(engine.names, zero, zero, one, (), ())
    stream = StreamPlan("bars", config.dataset.streams["bars"], fitted, 64, same_bars=True, latency_ns=0, listed=False)
    chains: Callable[..., tuple[_fold.Chain, ...]] = _fold.plan
    return Plan(chains(config.bars), engine, None, None, None, (stream,), "bars", "bench")
