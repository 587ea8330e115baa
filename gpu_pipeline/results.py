"""A finished run, opened as frames: everything that it made, each read when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.bars import _stage as bars_stage
from gpu_pipeline.book import _stage as book_stage
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.runfile import read_yaml
from gpu_pipeline.core.schema import Bars, Depth, Features, Labels, Symbol, Trades
from gpu_pipeline.core.store import Output, read_json, read_table
from gpu_pipeline.dataset.data import Dataset, load_dataset
from gpu_pipeline.features import _stage as features_stage
from gpu_pipeline.ingest import _stage as ingest_stage
from gpu_pipeline.labels import _stage as labels_stage

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class LoadedRun:
    """Everything a run made, as frames; each is read when asked for."""

    folder: Path

    def _output(self, name: str) -> Output:
        return Output.at(self.folder / name, name)

    @property
    def config(self) -> dict[str, Any]:
        """The run file with every default written out."""
        values: dict[str, Any] = read_yaml(self.folder / "config.yaml")
        return values

    @property
    def symbols(self) -> dict[str, Symbol]:
        """Instruments by name."""
        return ingest_stage.load_symbols(self._output("clean").manifest)

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json."""
        values: dict[str, Any] = read_json(self.folder / "metrics.json")
        return values

    @property
    def predictions(self) -> Any:
        """predictions.parquet as a pandas frame."""
        return read_table(self.folder / "predictions.parquet").to_pandas()

    @property
    def selection(self) -> Any:
        """Scores and ranks of every column, as `gpu-pipeline select` found them: a pandas frame, best first."""
        return read_table(self._output("selection").path / "scores.parquet").to_pandas()

    def trades(self, symbol: str | None = None) -> Trades:
        """Clean trades of a symbol (the first one where none is named)."""
        chosen = self._symbol(symbol)
        return ingest_stage.load_all_trades(self._output("clean").path, chosen, _CPU)

    def bars(self, resolution: str = "short", symbol: str | None = None) -> Bars:
        """Complete bars of one resolution."""
        return bars_stage.load(self._output("bars").path, self._symbol(symbol), resolution, _CPU)

    def book(self, symbol: str | None = None) -> Depth:
        """The depth tensor."""
        return book_stage.load(self._output("book").path, self._symbol(symbol), _CPU)

    def features(self, symbol: str | None = None) -> Features:
        """Feature columns beside the short bars."""
        return features_stage.load(self._output("features").path, self._symbol(symbol), _CPU)

    def labels(self, name: str, symbol: str | None = None) -> Labels:
        """One named label."""
        return labels_stage.load(self._output("labels").path, self._symbol(symbol), name, _CPU)

    def dataset(self) -> Dataset:
        """Streams and samples as the models see them."""
        return load_dataset(self._output("dataset").path, _CPU)

    def _symbol(self, name: str | None) -> Symbol:
        symbols = self.symbols
        if name is not None and name not in symbols:
            raise InputError(f"run {self.folder.name} has no symbol '{name}'; it has {', '.join(symbols)}")
        return symbols[name] if name else next(iter(symbols.values()))


def load_run(folder: str | Path) -> LoadedRun:
    """Opens a run's folder.

    Raises:
        InputError: there is no run here.
    """
    if not (Path(folder) / "config.yaml").is_file():
        raise InputError(f"{folder}: no run here (no config.yaml); a run's folder is runs/NAME")
    return LoadedRun(Path(folder))
