"""The checks on simulated markets of DESIGN 4.9: `python -m bench gates [--seeds 20] [--bars 20000]`.

Each goes through the project's own code, from trades to the parts of a dataset, and ends in a logistic model:

- null: on a market of fair coins nothing may score; a leak of the future in bars, features, labels or split would.
- shifted: the same with every feature one bar too early must score, or the null check is blind.
- bounce: the same with an entry at the close, which sits at the bid or the ask, scores too: hence the null label.
- planted: where flow leans the coins, the model must find half of what the market's own score knows.

The first two use every feature of the standard set and all resolutions, the others a few features of the short bars.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from bench._measure import ROOT
from gpu_pipeline.bars._make import make_resolutions
from gpu_pipeline.core.config import RunConfig, check_config
from gpu_pipeline.core.schema import Features, Labels
from gpu_pipeline.dataset._make import Sources, make_dataset
from gpu_pipeline.dataset.tables import Dataset
from gpu_pipeline.features._make import make_features
from gpu_pipeline.ingest.simulated import Config, simulate
from gpu_pipeline.labels._make import make_labels
from kernels.window_gather import gather_windows
from train.baselines import frequencies
from train.bootstrap import block_length, interval, label_life, resamples
from train.metrics import auc, log_loss

SEEDS, BARS, EDGE, WINDOW = 20, 20_000, 0.5, 3
# About 36 trades make a bar of this size; the market is a little longer than the bars that are wanted.
THRESHOLD, TRADES_PER_BAR = 50_000, 42
# A spread of half a bar's range: an entry at the wrong side of it shows. Four days, so that hours come back.
MARKET = {"spread_ticks": 91, "trades_per_day": 200_000, "flow_memory": 100}
# Shorter than a run's: what looks back over half of a test part is correlated with the labels that it is made of
# (Stambaugh 1999). Without a leak long bars of 160 gave an AUC of 0.5029 +- 0.0009 (224 null markets), these give
# 0.4997 +- 0.0008 (290 others).
RESOLUTIONS = {"medium": {"of": "short", "bars": 5}, "long": {"of": "medium", "bars": 3}}
STANDARD = ROOT / "configs" / "features" / "standard.yaml"
SMALL: dict[str, Any] = {
    "log_return": {"windows": [1, 5], "on": ["short"]},
    "close_location": {"on": ["short"]},
    "volatility": {"windows": [20], "on": ["short"]},
    "trade_imbalance": {"on": ["short"]},
    "trade_imbalance_mean": {"windows": [20], "on": ["short"]},
    "log_taker_ratio": {"on": ["short"]},
    "log_num_ticks": {"on": ["short"]},
}
NULL_LABEL = {"name": "null_symmetric", "horizon_bars": 100}
BOUNCE_LABEL = {"name": "triple_barrier", "take_profit": 1.0, "stop_loss": 1.0, "horizon_bars": 100}
STANDARD_ERRORS, MOST_ERROR, SHIFTED_AUC, RECOVERED = 3.0, 0.005, 0.70, 0.5
RESAMPLES = 1000


@dataclass(frozen=True)
class Judged:
    """What the logistic model scores on the test part of one market.

    Attributes:
        auc: of the model.
        lower: lower end of its 95 % block-bootstrap interval; NaN where not asked for.
        oracle_auc: of the market's own score at the same decisions.
        log_loss: of the model.
        frequency_log_loss: of the training part's class frequencies.
        up: share of the class 1 among all samples.
        samples: in the test part.
    """

    auc: float
    lower: float
    oracle_auc: float
    log_loss: float
    frequency_log_loss: float
    up: float
    samples: int


def gate_market(
    seed: int,
    edge: float = 0.0,
    bars: int = BARS,
    *,
    features: Path | Mapping[str, Any] = SMALL,
    label: Mapping[str, Any] = NULL_LABEL,
) -> tuple[Features, Labels, Tensor]:
    """Features, labels and the oracle's score at each bar's close, on a market of this seed and edge.

    Returns:
        features [B, F], labels [B], oracle [B] float64 for the first `bars` short bars of the seed's market.
    """
    config = Config(trades=TRADES_PER_BAR * bars, edge=Decimal(str(edge)), **MARKET)
    market = simulate(config, "BTCUSDT", seed, book=False)
    made = make_resolutions(market.trades, "dollar", threshold=THRESHOLD, time=["1min"], resolutions=RESOLUTIONS)
    if len(made["short"]) < bars:
        raise RuntimeError(f"seed {seed} gave {len(made['short']):,} bars, fewer than {bars:,}; raise TRADES_PER_BAR")
    made["short"] = made["short"].select(slice(bars))
    labels = make_labels(made["short"], **label)
    return make_features(made, features), labels, market.oracle_score[made["short"].last_trade_row]


def from_the_future(features: Features) -> Features:
    """The same rows with the values of the next bar: a leak."""
    shifted = torch.cat([features.values[1:], torch.full_like(features.values[:1], torch.nan)])
    return replace(features, values=shifted)


def gate_dataset(features: Features, labels: Labels, window: int = 1) -> Dataset:
    """The dataset that a run would make of them: chronological parts, purged, scaled by the training part."""
    sources = Sources(lambda _: features, lambda *_: labels, _no_book)
    return make_dataset(_run_file(window), [features.symbol], sources)[0]


def _no_book(_: Any) -> Any:
    raise LookupError("the gates read no book")


@cache
def _run_file(window: int) -> RunConfig:
    return check_config(
        {
            "name": "gates",
            "symbols": ["BTCUSDT"],
            "ingest": {"trades": "simulated"},
            "bars": {"type": "dollar", "threshold": THRESHOLD, "time": ["1min"], "resolutions": RESOLUTIONS},
            "features": {"set": str(STANDARD)},
            "labels": {"gate": NULL_LABEL},
            "dataset": {
                "target": "gate",
                "split": {"name": "chronological", "fractions": [0.6, 0.1, 0.3], "embargo": 20},
                "streams": {"bars": {"from": "features", "window": window}},
            },
        },
        "bench/gates.py",
    )


def judge(dataset: Dataset, oracle: Tensor, *, bootstrap: bool = False) -> Judged:
    """Fits a logistic model to the windows of the training samples and scores the test part."""
    inputs = _windows(dataset).double().clamp(-5, 5).flatten(1).numpy()
    target = dataset.target.numpy()
    train, test = dataset.parts["train"].numpy(), dataset.parts["test"].numpy()
    model = LogisticRegression(C=1e-3, max_iter=2000).fit(inputs[train], target[train])
    probability, truth = model.predict_proba(inputs[test]), target[test]
    even = np.ones(len(test))
    majority = np.tile(frequencies(target[train], 2), (len(test), 1))
    known = oracle[dataset.index[:, 0]].numpy()[test]
    return Judged(
        auc=auc.compute(truth, probability, even),
        lower=_lower(dataset, test, probability) if bootstrap else float("nan"),
        oracle_auc=auc.compute(truth, np.stack([-known, known], axis=1), even),
        log_loss=log_loss.compute(truth, probability, even),
        frequency_log_loss=log_loss.compute(truth, majority, even),
        up=float(target[target >= 0].mean()),
        samples=len(test),
    )


def _windows(dataset: Dataset) -> Tensor:
    stream = dataset.streams["bars"]
    return gather_windows(stream.values, dataset.index[:, 0].contiguous(), stream.window)


def _lower(dataset: Dataset, test: np.ndarray, probability: np.ndarray) -> float:
    block = block_length(label_life(dataset.decision_ns.numpy()[test], dataset.t_end_ns.numpy()[test]))
    truth = dataset.target.numpy()[test]
    drawn = resamples(len(test), block, RESAMPLES, seed=0)
    return interval(np.array([auc.compute(truth, probability, times.astype(float)) for times in drawn]), 0.95)[0]


def null(seed: int, bars: int = BARS) -> Judged:
    """No edge, no leak."""
    features, labels, oracle = gate_market(seed, bars=bars, features=STANDARD)
    return judge(gate_dataset(features, labels), oracle)


def shifted(seed: int, bars: int = BARS) -> Judged:
    """No edge, and a leak: features of the next bar."""
    features, labels, oracle = gate_market(seed, bars=bars, features=STANDARD)
    return judge(gate_dataset(from_the_future(features), labels), oracle)


def bounce(seed: int, bars: int = BARS) -> Judged:
    """No edge, no leak, but an entry at a close that bounces."""
    features, labels, oracle = gate_market(seed, bars=bars, label=BOUNCE_LABEL)
    return judge(gate_dataset(features, labels), oracle)


def planted(seed: int, bars: int = BARS) -> Judged:
    """An edge, no leak."""
    features, labels, oracle = gate_market(seed, EDGE, bars)
    return judge(gate_dataset(features, labels, WINDOW), oracle, bootstrap=True)


def mean_and_error(values: Iterable[float]) -> tuple[float, float]:
    """Mean over seeds and its standard error."""
    seen = np.array(list(values))
    return float(seen.mean()), float(seen.std(ddof=1) / np.sqrt(len(seen)))


def null_holds(found: Sequence[Judged]) -> bool:
    """Mean AUC within three standard errors of one half, and the standard error small enough to say so."""
    mean, error = mean_and_error(each.auc for each in found)
    return abs(mean - 0.5) <= STANDARD_ERRORS * error and error <= MOST_ERROR


def shifted_caught(found: Sequence[Judged]) -> bool:
    """Every shifted market scores."""
    return all(each.auc > SHIFTED_AUC for each in found)


def edge_recovered(each: Judged) -> bool:
    """At least half of the oracle's lead, surely above chance, and a log loss below that of class frequencies."""
    enough = each.auc - 0.5 >= RECOVERED * (each.oracle_auc - 0.5)
    return enough and each.lower > 0.5 and each.log_loss < each.frequency_log_loss


def main(arguments: list[str]) -> int:
    """Prints the figures of all checks; 1 where one fails."""
    parser = argparse.ArgumentParser(prog="python -m bench gates", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--bars", type=int, default=BARS)
    options = parser.parse_args(arguments)
    print(f"{options.seeds} markets of {options.bars:,} dollar bars of {THRESHOLD:,} USDT, edge {EDGE} where planted")
    checks = (
        ("null", null, null_holds),
        ("shifted", shifted, shifted_caught),
        ("bounce", bounce, lambda _: True),
        ("planted", planted, lambda found: all(map(edge_recovered, found))),
    )
    passed = [_report(name, check, holds, options) for name, check, holds in checks]
    return 0 if all(passed) else 1


def _report(name: str, check: Any, holds: Any, options: argparse.Namespace) -> bool:
    started = time.perf_counter()
    found = [check(seed, options.bars) for seed in range(options.seeds)]
    passed = holds(found)
    print(f"{name}: {'passed' if passed else 'FAILED'} in {time.perf_counter() - started:.0f} s")
    for field in ("auc", "lower", "oracle_auc", "log_loss", "frequency_log_loss", "up", "samples"):
        values = [getattr(each, field) for each in found]
        if not np.isnan(values).any():
            mean, error = mean_and_error(values)
            print(f"  {field:20} {mean:10.4f} +- {error:.4f}   {min(values):.4f} to {max(values):.4f}")
    return passed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
