"""Each network once on a null market and once on a planted one (DESIGN 4.9): `python -m bench networks`.

On the null market the 99.9 % interval of the test AUC must hold one half. On the planted one the network must find at
least half of the oracle's lead, surely above chance, with a log loss below that of class frequencies.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bench import gates
from gpu_pipeline.core.config import RunConfig, check_config
from gpu_pipeline.core.store import read_json
from gpu_pipeline.core.trace import Trace
from train import stage

NETWORKS = ("cnn_lstm", "transformer")
NULL_CONFIDENCE, EDGE_CONFIDENCE = 0.999, 0.95
WINDOW, EPOCHS, SEED = 16, 6, 0


@dataclass(frozen=True)
class Score:
    """What one network scores on the test part of one market."""

    network: str
    auc: float
    low: float
    high: float
    log_loss: float
    majority_log_loss: float
    oracle_auc: float

    def finds_nothing(self) -> bool:
        """One half lies inside the interval."""
        return self.low <= 0.5 <= self.high

    def finds_the_edge(self) -> bool:
        """Half of the oracle's lead, surely above chance, better than class frequencies."""
        enough = self.auc - 0.5 >= gates.RECOVERED * (self.oracle_auc - 0.5)
        return enough and self.low > 0.5 and self.log_loss < self.majority_log_loss


def score(network: str, edge: float, confidence: float, bars: int = gates.BARS, epochs: int = EPOCHS) -> Score:
    """Trains a network on a market of this edge and judges it, through the stages of a run."""
    features, labels, oracle = gates.gate_market(SEED, edge, bars)
    dataset = gates.gate_dataset(features, labels, WINDOW)
    config, trace, cpu = _run_file(network, confidence, epochs), Trace(Console(quiet=True)), torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        model, judged = Path(folder) / "model", Path(folder) / "judged"
        model.mkdir()
        judged.mkdir()
        assert config.train is not None
        stage.train_model(model, config, config.train.models[0], dataset, cpu, trace, None)
        stage.evaluate(judged, config, dataset, {network: model}, cpu, trace)
        predictors = read_json(judged / "metrics.json")["predictors"]
    found = {name: entry["parts"]["test"]["metrics"] for name, entry in predictors.items()}
    auc = found[network]["auc"]
    losses = [found[name]["log_loss"]["value"] for name in (network, "majority")]
    known = gates.judge(dataset, oracle).oracle_auc
    return Score(network, auc["value"], auc["low"], auc["high"], *losses, known)


def _run_file(network: str, confidence: float, epochs: int) -> RunConfig:
    values: dict[str, Any] = {
        "name": "networks",
        "seed": SEED,
        "symbols": ["BTCUSDT"],
        "ingest": {"trades": "simulated"},
        "bars": {"type": "dollar", "threshold": gates.THRESHOLD},
        "features": {"set": gates.SMALL},
        "labels": {"gate": gates.NULL_LABEL},
        "dataset": {"target": "gate", "streams": {"bars": {"from": "features", "window": WINDOW}}},
        "train": {
            "models": [{"name": network}],
            "epochs": epochs,
            "batch_size": 128,
            "patience": 3,
            "optimizer": {"lr": 1e-3},
        },
        "evaluate": {"confidence": confidence, "metrics": ["auc", "log_loss"]},
    }
    return check_config(values, "bench/networks.py")


def main(arguments: list[str]) -> int:
    """Prints the figures; 1 where a network finds what is not there or misses what is."""
    parser = argparse.ArgumentParser(prog="python -m bench networks", description=__doc__)
    parser.add_argument("--bars", type=int, default=gates.BARS)
    options = parser.parse_args(arguments)
    passed = True
    for network in NETWORKS:
        for name, edge, confidence in (("null", 0.0, NULL_CONFIDENCE), ("planted", gates.EDGE, EDGE_CONFIDENCE)):
            started = time.perf_counter()
            found = score(network, edge, confidence, options.bars)
            holds = found.finds_the_edge() if edge else found.finds_nothing()
            passed &= holds
            print(
                f"{network} {name}: {'passed' if holds else 'FAILED'} in {time.perf_counter() - started:.0f} s; "
                f"AUC {found.auc:.4f} ({found.low:.4f} to {found.high:.4f} at {confidence:.1%}), "
                f"oracle {found.oracle_auc:.4f}, log loss {found.log_loss:.4f} beside {found.majority_log_loss:.4f}"
            )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
