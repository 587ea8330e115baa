"""Judging: scikit-learn's numbers, honest intervals, baselines beside, predictions that people can read."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn import metrics as sk

from gpu_pipeline.core.errors import InputError
from train.evaluate import Samples
from train.stage import evaluate, train_model

SECOND = 1_000_000_000

MODELS = [
    {"name": "cnn_lstm", "channels": 8, "hidden": 8},
    {"name": "transformer", "label": "small", "width": 8, "heads": 2, "layers": 1},
]


@pytest.fixture
def judged(toy, run_config, tmp_path, cpu, trace):
    def make(dataset, models=MODELS, **evaluated):
        config = run_config(models, evaluate={"resamples": 40, **evaluated}, epochs=2)
        folders = {}
        for section in config.train.models:
            folders[section.title] = tmp_path / section.title
            train_model(folders[section.title], config, section, dataset, cpu, trace, None)
        manifest = evaluate(tmp_path, config, dataset, folders, cpu, trace)
        predictions = pq.read_table(tmp_path / "predictions.parquet").to_pandas()
        return manifest, json.loads((tmp_path / "metrics.json").read_text()), predictions

    return make


def test_metrics_are_those_of_the_predictions(toy, judged):
    dataset = toy(1600, classes=3)
    manifest, record, predictions = judged(dataset)
    names = [f"probability_{name}" for name in dataset.class_names]
    assert set(record["predictors"]) == {"majority", "persistence", "cnn_lstm", "small"}
    for (model, part), rows in predictions.groupby(["model", "split"]):
        found = record["predictors"][model]["parts"][part]
        probability = rows[names].to_numpy()
        label = rows.label.str.removeprefix("class").astype(int).to_numpy()
        guess = probability.argmax(1)
        expected = {
            "auc": sk.roc_auc_score(label, probability, multi_class="ovr"),
            "accuracy": sk.accuracy_score(label, guess),
            "f1_macro": sk.f1_score(label, guess, average="macro"),
            "f1_weighted": sk.f1_score(label, guess, average="weighted"),
            "log_loss": sk.log_loss(label, probability),
        }
        values = {name: entry["value"] for name, entry in found["metrics"].items()}
        assert values == pytest.approx(expected)
        assert values == manifest["metrics"][model][part]
        assert found["confusion"] == sk.confusion_matrix(label, guess).tolist()
        assert all(entry["low"] < entry["value"] < entry["high"] for entry in found["metrics"].values())
        for baseline, compared in found["against"].items():
            other = record["predictors"][baseline]["parts"][part]["metrics"]
            assert compared["log_loss"]["value"] == pytest.approx(values["log_loss"] - other["log_loss"]["value"])


def test_predictions_name_their_samples(toy, judged):
    dataset = toy(900)
    manifest, record, predictions = judged(dataset, MODELS[1:])
    expected = [
        "symbol", "decision_time", "t_end", "split", "label", "probability_class0", "probability_class1", "model"
    ]  # fmt: skip
    assert list(predictions) == expected
    assert manifest["rows"] == len(predictions) == len(dataset.parts["validation"]) + len(dataset.parts["test"])
    assert set(predictions.symbol) == {"TOY"}
    for part, rows in predictions.groupby("split"):
        positions = dataset.parts[part]
        assert rows.decision_time.astype("int64").tolist() == dataset.decision_ns[positions].tolist()
        assert rows.t_end.astype("int64").tolist() == dataset.t_end_ns[positions].tolist()
        assert rows.label.tolist() == [dataset.class_names[index] for index in dataset.target[positions]]
        facts = record["parts"][part]
        assert facts["samples"] == len(rows)
        assert facts["effective_samples"] == pytest.approx(len(rows) / 6)
        assert facts["label_life"] == pytest.approx(5, abs=0.2)
        assert facts["block"] == 10
    np.testing.assert_allclose(predictions.probability_class0 + predictions.probability_class1, 1)


def test_a_real_pattern_beats_the_majority_and_noise_does_not(toy, judged):
    model = [{"name": "transformer", "width": 16, "heads": 2, "layers": 1, "patch": 2, "label": "m"}]
    _, found, _ = judged(toy(2000), model, resamples=200)
    test = found["predictors"]["m"]["parts"]["test"]
    assert test["metrics"]["auc"]["low"] > 0.5
    assert test["against"]["majority"]["log_loss"]["high"] < 0
    _, found, _ = judged(toy(2000, edge=0.0), model, resamples=200)
    test = found["predictors"]["m"]["parts"]["test"]["metrics"]["auc"]
    assert test["low"] < 0.5 < test["high"]


def test_a_class_unknown_from_training_is_counted_not_scored(toy, judged):
    dataset = toy(900, classes=3)
    target, rows = dataset.target.clone(), dataset.parts["train"]
    target[rows[target[rows] == 1]] = 2
    _, record, predictions = judged(replace(dataset, target=target), MODELS[:1])
    hidden = int((target[dataset.parts["test"]] == 1).sum())
    assert record["absent_classes"] == ["class1"]
    assert record["class_names"] == ["class0", "class2"]
    assert record["parts"]["test"]["unknown_class"] == hidden
    assert (predictions.probability_class1 == 0).all()
    assert predictions[predictions.split == "test"].label.isna().sum() == hidden


def test_persistence_follows_rows_where_times_are_equal(toy):
    dataset = toy(600)
    # Four bars close at each time: by time alone a label would count as ended up to three bars too early.
    coarse = dataset.decision_ns // (4 * SECOND) * (4 * SECOND)
    coarse_end = dataset.t_end_ns // (4 * SECOND) * (4 * SECOND)
    tied = replace(dataset, decision_ns=coarse, t_end_ns=coarse_end)
    found = [Samples.of(each, each.target.numpy(), (0, 1)).baseline("persistence") for each in (dataset, tied)]
    assert np.array_equal(found[0], found[1])


def test_intervals_are_left_out_where_two_blocks_do_not_fit(toy, judged):
    dataset = toy(400)
    longer = dataset.t_end_ns + 40 * 1_000_000_000
    _, record, _ = judged(replace(dataset, t_end_ns=longer), MODELS[:1])
    found = record["predictors"]["cnn_lstm"]["parts"]["test"]["metrics"]["auc"]
    assert (found["low"], found["high"]) == (None, None)
    assert found["value"] is not None


def test_runs_again_to_the_same_bytes(toy, judged, tmp_path):
    dataset = toy(500)
    judged(dataset, MODELS[:1])
    before = [(tmp_path / name).read_bytes() for name in ("metrics.json", "predictions.parquet")]
    judged(dataset, MODELS[:1])
    assert before == [(tmp_path / name).read_bytes() for name in ("metrics.json", "predictions.parquet")]


def test_a_model_of_other_columns_is_refused(toy, run_config, tmp_path, cpu, trace):
    dataset, config = toy(400), run_config(MODELS[:1], epochs=1)
    train_model(tmp_path, config, config.train.models[0], dataset, cpu, trace, None)
    renamed = replace(dataset.streams["bars"], columns=tuple("vwxyz"))
    other = replace(dataset, streams={**dataset.streams, "bars": renamed})
    with pytest.raises(InputError, match="trained on other columns than this dataset has"):
        evaluate(tmp_path, config, other, {"cnn_lstm": tmp_path}, cpu, trace)


def test_an_empty_part_is_named(toy, run_config, tmp_path, cpu, trace):
    dataset, config = toy(400), run_config(MODELS[:1], epochs=1)
    train_model(tmp_path, config, config.train.models[0], dataset, cpu, trace, None)
    empty = replace(dataset, parts={**dataset.parts, "test": torch.zeros(0, dtype=torch.int64)})
    with pytest.raises(InputError, match="part 'test' has no sample of a class known from training"):
        evaluate(tmp_path, config, empty, {"cnn_lstm": tmp_path}, cpu, trace)
