"""A small made-up market in the pipeline's own tables, and a dataset from it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from gpu_pipeline.core.config import DatasetSection, FeaturesSection, RunConfig, TrainSection
from gpu_pipeline.core.schema import Depth, Features, Labels, Symbol
from gpu_pipeline.core.store import Output, Store
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.dataset import _stage

S = 1_000_000_000
CPU = torch.device("cpu")
NAMES = ("ret_db_s", "vol_db_s", "rsi_db_m", "sma_db_s", "flat_db_l", "never_db_l")


def symbol(name: str = "AAA") -> Symbol:
    return Symbol(name, price_tick=Decimal("0.1"), quantity_lot=Decimal("0.001"))


def features(name: str, rows: int, seed: int = 0, warmup: int = 3, gap_s: int = 10) -> Features:
    """`ret` and `vol` warm up for `warmup` rows, `rsi` for more; `flat` is constant, `never` has no value."""
    random = np.random.default_rng(seed)
    time_ns = np.cumsum(random.integers(0, 2 * gap_s, rows)) * S
    values = random.standard_normal((rows, len(NAMES))) * [1, 5, 20, 100, 0, 0] + [0, 10, 50, 1000, 2, 0]
    values[:warmup, :2] = np.nan
    values[: 4 * warmup, 2] = np.nan
    values[:, 5] = np.nan
    return Features(
        symbol=symbol(name),
        names=NAMES,
        values=torch.from_numpy(values),
        time_ns=torch.from_numpy(time_ns),
        known_ns=torch.from_numpy(time_ns),
        last_trade_row=torch.arange(rows) * 5 + 4,
        levels=("sma_db_s",),
    )


def labels(made: Features, name: str = "up", horizon: int = 5, seed: int = 1) -> Labels:
    """A label of a random life of 1..horizon rows on every row that has `horizon` rows after it."""
    random = np.random.default_rng(seed + len(made))
    rows = len(made)
    valid = torch.arange(rows) < rows - horizon
    end = torch.arange(rows) + torch.from_numpy(random.integers(1, horizon + 1, rows))
    code = torch.from_numpy(random.choice([-1, 1], rows))
    return Labels(
        symbol=made.symbol,
        name=name,
        code=code.masked_fill(~valid, 0),
        valid=valid,
        t_end=made.time_ns[end.clamp(max=rows - 1)].masked_fill(~valid, -1),
        label_return=torch.from_numpy(random.standard_normal(rows) / 100).masked_fill(~valid, float("nan")),
        weight=torch.from_numpy(random.uniform(0.5, 2.0, rows)),
        codes={1: "up", -1: "down", 0: "timeout"},
        known_row=end.masked_fill(~valid, -1),
        classes={-1: 0, 1: 1},
        class_names=("down", "up"),
    )


def depth(name: str, until_ns: int, levels: int = 3, step_s: int = 7, seed: int = 2) -> Depth:
    random = np.random.default_rng(seed)
    time_ns = np.arange(0, until_ns + step_s * S, step_s * S)
    steps = len(time_ns)
    mid = 1000 + np.cumsum(random.integers(-2, 3, steps))
    made = np.empty((steps, levels, 4))
    away = np.arange(1, levels + 1)
    made[:, :, 0], made[:, :, 2] = mid[:, None] - away, mid[:, None] + away
    made[:, :, 1], made[:, :, 3] = random.integers(1, 500, (2, steps, levels))
    return Depth(
        symbol=symbol(name),
        depth=torch.from_numpy(made),
        beyond=torch.zeros(steps, 2, dtype=torch.int64),
        time_ns=torch.from_numpy(time_ns),
        known_ns=torch.from_numpy(time_ns),
        age_ns=torch.zeros(steps, dtype=torch.int64),
        valid=torch.ones(steps, dtype=torch.bool),
        filled=torch.zeros(steps, dtype=torch.bool),
    )


def market(names: tuple[str, ...] = ("AAA",), rows: int = 400, **options: Any) -> SimpleNamespace:
    """Features, labels and depth by symbol name; fields may be replaced before a dataset is made."""
    made = {name: features(name, rows + 17 * k, seed=k, **options) for k, name in enumerate(names)}
    return SimpleNamespace(
        symbols={name: symbol(name) for name in names},
        features=made,
        labels={"up": {name: labels(part) for name, part in made.items()}},
        depth={name: depth(name, int(part.time_ns[-1]), seed=k) for k, (name, part) in enumerate(made.items())},
        trades={},
    )


def config(loader: str | None = None, include: list[str] | None = None, **keys: Any) -> RunConfig:
    section = {
        "target": "up",
        "split": {"name": "chronological", "fractions": [0.6, 0.2, 0.2], "embargo": 0},
        "streams": {"bars": {"from": "features", "window": 8}, "book": {"from": "book", "window": 4}},
        "segment_rows": 32,
        **keys,
    }
    return RunConfig.model_construct(
        dataset=DatasetSection.model_validate(section),
        features=FeaturesSection(set={}, include=include),
        train=TrainSection.model_construct(loader=loader) if loader else None,
    )


def write(folder: Path, source: SimpleNamespace, run: RunConfig, key: str = "key") -> Output:
    """Runs the stage through the store."""

    def make(path: Path) -> dict[str, Any]:
        return _stage.write(
            path,
            run,
            source.symbols,
            lambda one: source.features[one.name],
            lambda one, name: source.labels[name][one.name],
            lambda one: source.depth[one.name],
            lambda one: iter(source.trades[one.name]),
            CPU,
            Trace(),
        )

    return Store(folder).make("dataset", key, {}, {}, make)
