"""Models live in the store by everything that made them; what is unchanged is not trained again."""

from __future__ import annotations

import logging

import pytest

from gpu_pipeline.core.errors import Busy, InputError
from gpu_pipeline.core.store import Store, lock, verify
from train.stage import train_all

MODELS = [{"name": "cnn_lstm", "channels": 4, "hidden": 4}, {"name": "transformer", "width": 8, "heads": 2}]


@pytest.fixture
def train(toy, stored, tmp_path, cpu, trace):
    runs = tmp_path / "runs"

    def go(config, run="toy", dataset_key="d0", report=None):
        folder = stored(toy(400), runs, run, dataset_key)
        return train_all(config, folder, Store(runs / ".store"), runs / run, cpu, trace, report=report)

    return go


def test_each_model_has_its_folder(train, run_config, tmp_path):
    outputs = train(run_config(MODELS, epochs=1))
    assert list(outputs) == ["cnn_lstm", "transformer"]
    for title, output in outputs.items():
        linked = tmp_path / "runs" / "toy" / "models" / title
        assert linked.resolve() == output.path
        files = {path.name for path in linked.iterdir()}
        assert files == {"best.safetensors", "model.json", "history.parquet", "steps.parquet", "manifest.json"}
        assert list((tmp_path / "runs" / "toy" / "tensorboard" / title).glob("events*"))
        assert not verify(output)
        assert output.manifest["rows"] == 275


def test_an_unchanged_model_is_kept_and_says_so(train, run_config, caplog):
    caplog.set_level(logging.INFO)
    told = []
    first = train(run_config(MODELS, epochs=2))
    second = train(run_config(MODELS, epochs=2), run="renamed", report=lambda *heard: told.append(heard))
    assert {title: output.path for title, output in first.items()} == {t: o.path for t, o in second.items()}
    assert "model 'cnn_lstm' is unchanged, kept" in caplog.text
    assert [(title, epoch) for title, epoch, _ in told] == [(name, e) for name in first for e in (0, 1)]


def scalars(folder):
    """Curves by name as (step, value) pairs; all event files of the folder together."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_curves_are_those_of_the_model_that_is_linked(train, run_config, tmp_path):
    folder = tmp_path / "runs" / "toy" / "tensorboard" / "cnn_lstm"
    train(run_config(MODELS[:1], epochs=2))
    first = scalars(folder)
    train(run_config(MODELS[:1], epochs=3))
    second = scalars(folder)
    assert [len(curves["validation/loss"]) for curves in (first, second)] == [2, 3]
    train(run_config(MODELS[:1], epochs=2))
    again = scalars(folder)
    first.pop("train/samples_per_second")
    assert again == first
    train(run_config(MODELS[:1], epochs=2), run="renamed")
    assert scalars(tmp_path / "runs" / "renamed" / "tensorboard" / "cnn_lstm") == first


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"epochs": 1},
        {"models": [{**MODELS[0], "hidden": 5}]},
        {"models": [{**MODELS[0], "inputs": ["bars"]}]},
        {"dataset_key": "d1"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_trains_again(change, train, run_config):
    first = train(run_config(MODELS[:1], epochs=2))
    key = change.pop("dataset_key", "d0")
    models = change.pop("models", MODELS[:1])
    second = train(run_config(models, **{"epochs": 2, **change}), dataset_key=key)
    assert first["cnn_lstm"].key != second["cnn_lstm"].key


def test_a_new_name_is_no_new_model(train, run_config):
    first = train(run_config(MODELS[:1], epochs=1))
    second = train(run_config([{**MODELS[0], "label": "other"}], epochs=1))
    assert first["cnn_lstm"].key == second["other"].key


def test_shards_give_the_same_model(toy, stored, run_config, tmp_path, cpu, trace):
    dataset, made = toy(700), {}
    for loader in ("device", "webdataset"):
        runs = tmp_path / loader
        folder = stored(dataset, runs, shards=loader == "webdataset")
        config = run_config(MODELS[:1], epochs=2, loader=loader)
        made[loader] = train_all(config, folder, Store(runs / ".store"), runs / "toy", cpu, trace)["cnn_lstm"].path
    for file in ("best.safetensors", "history.parquet", "steps.parquet"):
        assert (made["device"] / file).read_bytes() == (made["webdataset"] / file).read_bytes()


def test_a_callback_that_raises_leaves_nothing(train, run_config, tmp_path):
    def stop(title, epoch, loss):
        raise KeyError(title)

    with pytest.raises(KeyError):
        train(run_config(MODELS[:1]), report=stop)
    assert not list((tmp_path / "runs" / ".store" / "train").iterdir())


def test_two_trainings_of_one_run_do_not_meet(train, run_config, tmp_path):
    with lock(tmp_path / "runs" / "toy" / "tensorboard"), pytest.raises(Busy, match="another process"):
        train(run_config(MODELS[:1]))


def test_a_missing_dataset_is_named(run_config, tmp_path, cpu, trace):
    with pytest.raises(InputError, match="no finished output of stage 'dataset'"):
        train_all(run_config(), tmp_path / "none", Store(tmp_path), tmp_path, cpu, trace)
