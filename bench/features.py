"""Bars to features: the shipped sets, 14 indicators beside TA-Lib in C on one thread, and on CUDA 200 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from bench._inputs import installed, size, words
from bench._measure import ROOT, Case
from bench._tables import bar_table, resolutions
from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._make import make_features

TESTS = "tests/features/test_talib.py tests/features/test_device.py"
STANDARD = ROOT / "configs" / "features" / "standard.yaml"
FULL = ROOT / "configs" / "features" / "full.yaml"
INDICATORS = {
    "sma": {"windows": [10, 20, 50, 100]},
    "ema": {"windows": [12, 26, 50, 100]},
    "rsi": {"windows": [7, 14, 21]},
    "atr": {"windows": [7, 14, 21]},
}
SIX = {"short": 1, "medium": 10, "long": 160, "1min": 5, "15min": 75, "4hour": 1200}
MANY = {name: {"windows": list(range(5, 205, 5))} for name in ("sma", "ema", "rsi", "atr", "volatility")}


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Resident bars; one column in, one out is what a value must move at least."""
    rows = size(device, tiny, cpu=2_000_000, cuda=2_000_000, small=5_000)
    bars = bar_table(rows, device)
    yield _case("indicators", bars, INDICATORS)
    if device.type == "cuda":
        yield _case("many features", bars, MANY)
    elif installed("talib"):
        made = _case("indicators", bars, INDICATORS)
        yield Case(made.op, "TA-Lib, 1 thread", made.shape, made.items, made.unit, _talib(bars), made.moved)
    few = bars if device.type == "cuda" else bars.select(slice(0, rows // 8))
    yield _case("standard set, 4 resolutions", resolutions(few), STANDARD)
    yield _case("full set, 6 resolutions", resolutions(few.select(slice(0, rows // 16)), SIX), FULL)


def _case(op: str, bars: Bars | Mapping[str, Bars], features: Any) -> Case:
    def call() -> object:
        return make_features(bars, features)

    made = call()
    rows, columns = made.values.shape
    read = [bars] if isinstance(bars, Bars) else list(bars.values())
    moved = made.values.nbytes + sum(len(table) * 4 * 8 for table in read)
    return Case(op, "ours", f"{words(rows)} bars x {columns}", rows * columns, "values", call, moved)


def _talib(bars: Bars) -> Callable[[], object]:
    import talib

    high, low, close = (bars.columns[name].numpy() for name in ("high", "low", "close"))
    given = {"sma": (close,), "ema": (close,), "rsi": (close,), "atr": (high, low, close)}
    calls = [
        (getattr(talib, name.upper()), given[name], window)
        for name, options in INDICATORS.items()
        for window in options["windows"]
    ]
    return lambda: [function(*arrays, window) for function, arrays, window in calls]
