"""The page: its curves beside scikit-learn's, what stands on it, several runs side by side."""

from __future__ import annotations

import html.parser
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import auc, roc_curve

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.store import write_json, write_table
from train import report, stage

CPU = torch.device("cpu")


def predictions(samples: int = 400, seed: int = 0, classes: tuple[str, ...] = ("down", "up")) -> pa.Table:
    random = np.random.default_rng(seed)
    # Two digits, so that many probabilities are equal.
    raw = random.dirichlet(np.ones(len(classes)), samples).round(2)
    label = [classes[index] for index in random.integers(0, len(classes), samples)]
    return pa.table(
        {
            "split": ["validation" if n < samples // 2 else "test" for n in range(samples)],
            "label": pa.array([None if n == samples - 1 else name for n, name in enumerate(label)]),
            **{f"probability_{name}": raw[:, place] for place, name in enumerate(classes)},
            "model": ["net"] * samples,
        }
    )


def known(table: pa.Table, positive: str) -> tuple[np.ndarray, np.ndarray]:
    frame = table.to_pandas()
    frame = frame[(frame["split"] == "test") & frame["label"].notna()]
    return (frame["label"] == positive).to_numpy(), frame[f"probability_{positive}"].to_numpy()


@pytest.mark.parametrize("classes", [("down", "up"), ("stop", "timeout", "profit")])
def test_the_roc_curve_is_scikit_learns(classes):
    table = predictions(classes=classes)
    truth, score = known(table, classes[-1])
    false, true = report._roc_curves(table)["net"]
    expected = roc_curve(truth, score, drop_intermediate=False)
    np.testing.assert_allclose(false, expected[0], atol=1e-12)
    np.testing.assert_allclose(true, expected[1], atol=1e-12)
    assert auc(false, true) == pytest.approx(auc(expected[0], expected[1]))


def test_the_reliability_curve_is_that_of_equal_groups():
    table = predictions()
    truth, score = known(table, "up")
    predicted, observed, count = report._reliability_curves(table)["net"]
    assert count.sum() == len(truth) == 199
    assert count.max() - count.min() <= 1
    assert (np.diff(predicted) >= 0).all()
    assert (predicted * count).sum() == pytest.approx(score.sum())
    assert (observed * count).sum() == pytest.approx(truth.sum())
    # The first group holds the lowest scores: ties at its edge may fall either way.
    lowest = np.sort(score)[: count[0]]
    assert predicted[0] == pytest.approx(lowest.mean())


def test_a_calibrated_forecast_lies_on_the_diagonal():
    random = np.random.default_rng(1)
    score = random.uniform(size=200_000)
    truth = random.uniform(size=len(score)) < score
    table = pa.table(
        {
            "split": ["test"] * len(score),
            "label": np.where(truth, "up", "down"),
            "probability_down": 1 - score,
            "probability_up": score,
            "model": ["net"] * len(score),
        }
    )
    predicted, observed, _ = report._reliability_curves(table)["net"]
    np.testing.assert_allclose(predicted, observed, atol=0.02)


class Page(html.parser.HTMLParser):
    """What a browser would load, and the headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects links to what is not inside the page."""
        self.scripts += tag == "script"
        links = [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        self.loaded += [value for value in links if not value.startswith(("#", "data:"))]


def write_stages(folder: Path, dataset, config, trace) -> tuple[dict[str, Path], dict[str, Path]]:
    """A run's finished stages as the report finds them."""
    stages = {name: folder / name for name in ("ingest", "bars", "labels", "dataset", "evaluate")}
    models = {section.title: folder / "models" / section.title for section in config.train.models}
    for path in (*stages.values(), *models.values()):
        path.mkdir(parents=True)
    bars = dataset.streams["bars"]
    instant = pa.array(bars.time_ns.numpy()).cast(pa.timestamp("ns", tz="UTC"))
    close = 100 + bars.values[:, 0].double().numpy()
    table = pa.table({"close_timestamp": instant, "close": close, "volume": np.abs(close)})
    write_table(stages["bars"] / "dollar_1k" / "TOY_2024_01_dollar_bars_1k.parquet", table)
    write_json(stages["bars"] / "resolutions.json", {"short": "dollar_1k"})
    returns = dataset.label_return.numpy()
    write_table(stages["labels"] / "toy" / "TOY.parquet", pa.table({"return": returns}))
    write_table(stages["labels"] / "toy" / "TOY2.parquet", pa.table({"return": returns * 1000}))
    for title, path in models.items():
        section = next(section for section in config.train.models if section.title == title)
        stage.train_model(path, config, section, dataset, CPU, trace, None)
    stage.evaluate(stages["evaluate"], config, dataset, models, CPU, trace)
    manifests = {
        "ingest": {"rows_in": 1234, "rows_out": 1230, "symbols": {"TOY": {"duplicates": 4}}},
        "dataset": {
            "rows": len(dataset),
            "parts": {
                part: {"classes": dict.fromkeys(dataset.class_names, 5)} for part in ("train", "validation", "test")
            },
            "absent_classes": {"toy": ["never"]},
            "dropped_with_absent_class": {"test": 1},
            "streams": {"bars": {"imputed_columns": ["x<y"], "zero_spread_columns": []}},
        },
    }
    for name, path in stages.items():
        write_json(path / "manifest.json", manifests.get(name, {"rows": 1}))
    return stages, models


VALUES = {"name": "toy & co", "symbols": {"TOY": {"fee_bps": 1.0}}, "dataset": {"target": "toy"}}


@pytest.mark.parametrize("classes", [2, 3])
def test_the_page_opens_offline_and_holds_every_part(classes, toy, run_config, trace, tmp_path):
    config = run_config(epochs=1, evaluate={"resamples": 10})
    stages, models = write_stages(tmp_path, toy(500, classes=classes), config, trace)
    written = report.write(tmp_path / "report", VALUES, stages, models)
    text = (tmp_path / "report" / "index.html").read_text()
    page = Page(text)
    assert page.loaded == []
    assert page.scripts == 0
    assert "<h1>toy &amp; co</h1>" in text
    for heading in ("test part", "validation part", "Curves", "Market", "Classes of the target", "Run file"):
        assert heading in text
    # Losses, ROC, reliability, confusion, price, classes.
    assert text.count("<svg") == 6
    for line in ("bars.x&lt;y", "4 duplicate trades of TOY", "absent from training have no output: never"):
        assert line in text
    assert written["note"] == f"{len(written['warnings'])} warnings"
    again = tmp_path / "again"
    report.write(again, VALUES, stages, models)
    assert (again / "index.html").read_text() == text


def test_the_page_of_a_run_without_a_model(toy, run_config, trace, tmp_path):
    stages, _ = write_stages(tmp_path, toy(300), run_config(epochs=1, evaluate={"resamples": 0}), trace)
    written = report.write(tmp_path / "report", VALUES, {name: stages[name] for name in ("ingest", "bars")}, {})
    text = (tmp_path / "report" / "index.html").read_text()
    assert "Nothing was trained in this run." in text
    assert written["warnings"] == ["4 duplicate trades of TOY were dropped."]


def test_scores_without_an_interval_or_a_value_are_dashes(toy, run_config, trace, tmp_path):
    stages, models = write_stages(tmp_path, toy(300), run_config(epochs=1, evaluate={"resamples": 0}), trace)
    path = stages["evaluate"] / "metrics.json"
    content = json.loads(path.read_text())
    content["predictors"]["cnn_lstm"]["parts"]["test"]["metrics"]["auc"]["value"] = None
    write_json(path, content)
    report.write(tmp_path / "report", VALUES, stages, models)
    text = (tmp_path / "report" / "index.html").read_text()
    assert '<td>-<br><span class="small">- .. -</span></td>' in text
    assert "nan" not in text.lower().split("<h2>curves")[0]


def test_moves_are_of_the_symbol_itself_and_not_of_names_that_begin_alike(toy, run_config, trace, tmp_path):
    dataset = toy(300)
    stages, _ = write_stages(tmp_path, dataset, run_config(epochs=1, evaluate={"resamples": 0}), trace)
    expected = np.nanmedian(np.abs(dataset.label_return.numpy()))
    assert report._moves(VALUES, stages) == {"TOY": pytest.approx(expected)}


def test_runs_are_compared_side_by_side(toy, run_config, trace, tmp_path):
    stages, _ = write_stages(tmp_path / "s", toy(300), run_config(epochs=1, evaluate={"resamples": 5}), trace)
    runs = [tmp_path / "runs" / name for name in ("first", "second")]
    for run in runs:
        run.mkdir(parents=True)
        shutil.copy(stages["evaluate"] / "metrics.json", run / "metrics.json")
    changed = json.loads((runs[1] / "metrics.json").read_text())
    changed["predictors"]["cnn_lstm"]["parts"]["test"]["metrics"]["auc"]["value"] = 0.98765
    changed["predictors"]["cnn_lstm"]["parts"]["test"]["metrics"].pop("accuracy")
    write_json(runs[1] / "metrics.json", changed)
    page = report.compare(runs)
    text = page.read_text()
    assert page == tmp_path / "runs" / "comparison.html"
    for name in ("first: cnn_lstm", "second: cnn_lstm", "first: majority", "second: persistence", "0.9877"):
        assert name in text
    assert Page(text).loaded == []


def test_a_folder_that_was_not_judged_ends_with_the_command(tmp_path):
    with pytest.raises(InputError, match=r"no metrics\.json; run it to the end first: gpu-pipeline run .*config\.yaml"):
        report.compare([tmp_path])


def test_times_are_shown_in_the_zone_that_was_asked_for():
    moment = np.array([pd.Timestamp("2024-07-01 12:00", tz="UTC").value])
    assert report._local(moment, "UTC")[0] == np.datetime64("2024-07-01T12:00")
    assert report._local(moment, "America/New_York")[0] == np.datetime64("2024-07-01T08:00")
