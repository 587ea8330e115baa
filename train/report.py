"""One self-contained HTML page per run, and several runs side by side; it reads files and imports no stage."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.runfile import write_yaml
from gpu_pipeline.core.store import MANIFEST, file_metadata, read_json, read_table, write_text
from train import _page, _plots
from train._warnings import warnings

Array = NDArray[Any]
PROBABILITY = "probability_"
FEATURE_PANELS = 60
FEATURE_ROWS = 20_000


def write(
    folder: Path, values: Mapping[str, Any], stages: Mapping[str, Path], models: Mapping[str, Path]
) -> dict[str, Any]:
    """Writes `index.html`.

    Args:
        folder: where the page goes.
        values: the run file with every default written out.
        stages: stage -> folder of its finished output.
        models: title -> folder of a trained model.

    Returns:
        what the manifest says: the warnings.
    """
    manifests = {stage: read_json(path / MANIFEST) for stage, path in stages.items()}
    metrics = read_json(stages["evaluate"] / "metrics.json") if "evaluate" in stages else {}
    known = (metrics, manifests.get("dataset", {}), manifests["ingest"], _moves(values, stages), _fees(values))
    told = warnings(*known, manifests.get("book"))
    sections = [
        _page.warning_list(told),
        _page.section("Results", _results(metrics)),
        _page.section("Curves", _curves(stages, models)),
        _page.section("Market", _market(stages, str(values.get("display_timezone", "UTC")))),
        *_book(manifests),
        _page.section("Labels and features", _inputs(stages, manifests)),
        _page.section("What went in and what came out", _page.account(manifests)),
        _page.section("Run file", f"<pre>{html.escape(write_yaml(dict(values)))}</pre>"),
    ]
    write_text(folder / "index.html", _page.page(str(values["name"]), sections))
    return {"warnings": told, "note": f"{len(told)} warning{'' if len(told) == 1 else 's'}"}


def _fees(values: Mapping[str, Any]) -> dict[str, float | None]:
    return {symbol: options.get("fee_bps") for symbol, options in values["symbols"].items()}


def _target(values: Mapping[str, Any]) -> str | None:
    target = (values.get("dataset") or {}).get("target")
    return target[0] if isinstance(target, list) else target


def _moves(values: Mapping[str, Any], stages: Mapping[str, Path]) -> dict[str, float]:
    """Median absolute return of the target's labels per symbol."""
    target = _target(values)
    if target is None or "labels" not in stages:
        return {}
    found = {}
    for symbol in values["symbols"]:
        returns = _column(read_table(stages["labels"] / target / f"{symbol}.parquet", ["return"]), "return")
        known = np.abs(returns[np.isfinite(returns)])
        if len(known):
            found[symbol] = float(np.median(known))
    return found


def _column(table: pa.Table, name: str) -> Array:
    values = table.column(name)
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.int64())
    array: Array = values.to_numpy(zero_copy_only=False)
    return array


def _results(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return "<p>Nothing was trained in this run.</p>"
    tables = [_page.score_table(metrics, part) for part in metrics["parts"]]
    classes = metrics["class_names"]
    drawn = [
        _plots.confusion(np.array(entry["parts"]["test"]["confusion"], dtype=np.float64), classes, f"{name}, test")
        for name, entry in metrics["predictors"].items()
        if entry["kind"] == "model" and "test" in entry["parts"]
    ]
    return "".join(tables) + _page.row(drawn)


def _curves(stages: Mapping[str, Path], models: Mapping[str, Path]) -> str:
    drawn = []
    if models:
        history = {title: read_table(path / "history.parquet").to_pydict() for title, path in models.items()}
        drawn.append(_plots.losses(history))
    if "evaluate" in stages:
        table = read_table(stages["evaluate"] / "predictions.parquet")
        title = f"'{_classes(table)[-1]}' against the rest, test"
        drawn += [_plots.roc(_roc_curves(table), title), _plots.reliability(_reliability_curves(table), title)]
    return _page.row(drawn) or "<p>No model.</p>"


def _classes(table: pa.Table) -> list[str]:
    """Classes in the order of their indices."""
    return [name.removeprefix(PROBABILITY) for name in table.column_names if name.startswith(PROBABILITY)]


def _binary(table: pa.Table) -> dict[str, tuple[Array, Array]]:
    """Per model of the test part: whether the last class came true [n] and its probability [n]."""
    positive = _classes(table)[-1]
    split, label, model = (
        np.array(table.column(name).to_pylist(), dtype=object) for name in ("split", "label", "model")
    )
    probability = _column(table, f"{PROBABILITY}{positive}")
    known = np.array([value is not None for value in label]) & (split == "test")
    return {
        name: ((label == positive)[known & (model == name)], probability[known & (model == name)])
        for name in dict.fromkeys(model)
    }


def _roc_curves(table: pa.Table) -> dict[str, tuple[Array, Array]]:
    curves = {}
    for name, (truth, probability) in _binary(table).items():
        order = np.argsort(-probability, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
        hits = np.cumsum(truth[order])[ends]
        misses = 1 + ends - hits
        curves[name] = (np.append(0, misses / max(1, misses[-1])), np.append(0, hits / max(1, hits[-1])))
    return curves


def _reliability_curves(table: pa.Table, bins: int = 10) -> dict[str, tuple[Array, Array, Array]]:
    curves = {}
    for name, (truth, probability) in _binary(table).items():
        groups = [group for group in np.array_split(np.argsort(probability, kind="stable"), bins) if len(group)]
        predicted = np.array([probability[group].mean() for group in groups])
        observed = np.array([truth[group].mean() for group in groups])
        curves[name] = (predicted, observed, np.array([len(group) for group in groups]))
    return curves


def _market(stages: Mapping[str, Path], zone: str) -> str:
    short = read_json(stages["bars"] / "resolutions.json")["short"]
    cuts = _part_starts(stages, zone)
    drawn = []
    for symbol in read_json(stages["ingest"] / MANIFEST)["symbols"]:
        files = sorted((stages["bars"] / short).glob(f"{symbol}_[0-9]*.parquet"))
        tables = [read_table(path, ["close_timestamp", "close", "volume"]) for path in files]
        table = pa.concat_tables(tables)
        time = _local(_column(table, "close_timestamp"), zone)
        about = html.escape(f"{symbol}: {len(table):,} bars of {short}, times in {zone}")
        drawn.append(f"<h3>{about}</h3>" + _plots.price(time, _column(table, "close"), _column(table, "volume"), cuts))
    return "".join(drawn)


def _book(manifests: Mapping[str, Any]) -> list[str]:
    days = manifests.get("book", {}).get("quality")
    return [_page.section("Order book", _page.book_table(days))] if days else []


def _local(time_ns: Array, zone: str) -> Array:
    """Wall-clock times of a zone, for people."""
    local: Array = pd.DatetimeIndex(time_ns, tz="UTC").tz_convert(zone).tz_localize(None).to_numpy()
    return local


def _part_starts(stages: Mapping[str, Path], zone: str) -> dict[str, Any]:
    """When the validation and test parts begin, from the predictions."""
    if "evaluate" not in stages:
        return {}
    table = read_table(stages["evaluate"] / "predictions.parquet", ["decision_time", "split"])
    split, time = np.array(table.column("split").to_pylist()), _local(_column(table, "decision_time"), zone)
    return {part: time[split == part].min() for part in ("validation", "test") if (split == part).any()}


def _inputs(stages: Mapping[str, Path], manifests: Mapping[str, Any]) -> str:
    drawn = ""
    parts = manifests.get("dataset", {}).get("parts")
    if parts:
        counts = {part: parts[part]["classes"] for part in ("train", "validation", "test") if part in parts}
        drawn += "<h3>Classes of the target</h3>" + _plots.shares(counts)
    if "features" in stages:
        columns = _feature_columns(stages["features"])
        drawn += f"<h3>Features ({len(columns)} shown, 1st to 99th percentile)</h3>" + _plots.distributions(columns)
    return drawn


def _feature_columns(folder: Path) -> dict[str, Array]:
    path = next(iter(sorted(folder.rglob("*.parquet"))))
    names = json.loads(file_metadata(path)["features"])["names"][:FEATURE_PANELS]
    table = read_table(path, names)
    step = max(1, len(table) // FEATURE_ROWS)
    return {name: _column(table, name)[::step] for name in names}


def compare(runs: Sequence[Path]) -> Path:
    """Writes a page with the scores of several runs side by side, beside the first one's folder.

    Raises:
        InputError: a folder is no run, or has not been judged.
    """
    scores = {}
    for run in runs:
        path = run / "metrics.json"
        if not path.is_file():
            raise InputError(f"{run}: no metrics.json; run it to the end first: gpu-pipeline run {run / 'config.yaml'}")
        scores[run.name] = read_json(path)
    target = runs[0].parent / "comparison.html"
    tables = [_page.section(name, _page.score_table(metrics, "test")) for name, metrics in scores.items()]
    return write_text(
        target, _page.page(" beside ".join(scores), [_page.section("Test part", _page.side_by_side(scores)), *tables])
    )
