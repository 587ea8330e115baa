"""The search finds what is best, prunes, goes on where it stopped, survives failed trials and writes a run file."""

from __future__ import annotations

import optuna
import pytest

from gpu_pipeline.core.config import check_config, load_config
from gpu_pipeline.core.errors import CheckFailed, ConfigError, InputError
from train.tune import tune

KEYS = {"train.optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "train.models.0.hidden": {"choices": [4, 8]}}


@pytest.fixture
def values(run_values):
    def make(keys=KEYS, trials=5, **search):
        return run_values(search={"keys": keys, "trials": trials, **search})

    return make


class Bowl:
    """Stands for a run: its loss is least at lr 0.01 and hidden 8."""

    def __init__(self, fails=lambda values: False):
        self.seen, self.fails = [], fails

    def __call__(self, values, to, report):
        config = check_config(values)
        model = config.train.models[0]
        self.seen.append((config.train.optimizer.lr, getattr(model.options, "hidden", None), model.title, to))
        assert config.search is None
        assert len(config.train.models) == 1
        if self.fails(values):
            raise InputError("this one does not work")
        loss = abs(config.train.optimizer.lr - 0.01) * 50 + (model.options.hidden != 8)
        for epoch in range(config.train.epochs):
            report(epoch, loss + 1 / (epoch + 1))
        found = {"log_loss": {"value": loss}, "auc": {"value": 1 / (1 + loss)}, "odd": {"value": None}}
        return {"predictors": {model.title: {"parts": {"validation": {"metrics": found}}}}}


def test_the_best_run_file_is_written(values, tmp_path, trace):
    run, asked = Bowl(), values(trials=8)
    found = tune(asked, run, tmp_path, trace)
    assert {to for *_, to in run.seen} == {"evaluate"}
    best = load_config(found.file)
    assert (best.train.optimizer.lr, best.train.models[0].options.hidden) == tuple(found.keys.values())
    assert found.keys["train.models.0.hidden"] == 8
    assert found.value == pytest.approx(abs(best.train.optimizer.lr - 0.01) * 50)
    assert sum(found.counts.values()) == 8
    assert best.search == check_config(asked).search


def test_the_same_seed_asks_for_the_same_trials(values, tmp_path, trace):
    first, again = Bowl(), Bowl()
    tune(values(), first, tmp_path / "a", trace)
    tune(values(), again, tmp_path / "b", trace)
    assert first.seen == again.seen


def test_a_search_goes_on_where_it_stopped(values, tmp_path, trace):
    first, second, third = Bowl(), Bowl(), Bowl()
    tune(values(trials=3), first, tmp_path, trace)
    found = tune(values(trials=5), second, tmp_path, trace)
    assert (len(first.seen), len(second.seen)) == (3, 2)
    assert not set(first.seen) & set(second.seen)
    assert tune(values(trials=5), third, tmp_path, trace) == found
    assert not third.seen


def test_a_killed_trial_counts_as_failed(values, tmp_path, trace):
    def killed(values, to, report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(values(trials=3), killed, tmp_path, trace)
    run = Bowl()
    assert tune(values(trials=3), run, tmp_path, trace).counts["fail"] == 1
    assert len(run.seen) == 2


def test_failed_trials_are_recorded_and_not_fatal(values, tmp_path, trace):
    run = Bowl(fails=lambda values: values["train"]["models"][0]["hidden"] == 4)
    found = tune(values(trials=8), run, tmp_path, trace)
    assert found.counts["fail"] > 0
    assert found.keys["train.models.0.hidden"] == 8
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.load_study(study_name=optuna.get_all_study_names(storage)[0], storage=storage)
    errors = [trial.user_attrs["error"] for trial in study.trials if trial.state.name == "FAIL"]
    assert set(errors) == {"InputError: this one does not work"}


def test_a_search_whose_trials_all_fail_says_why(values, tmp_path, trace):
    with pytest.raises(CheckFailed, match=r"none of 2 trials finished .* InputError: this one does not work"):
        tune(values(trials=2), Bowl(fails=lambda values: True), tmp_path, trace)
    assert not (tmp_path / "best.yaml").exists()


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_hopeless_trials_are_pruned(direction, values, tmp_path, trace):
    metric = {"minimize": "log_loss", "maximize": "auc"}[direction]
    epochs = []

    def run(values, to, report):
        trial = len(epochs)
        epochs.append(0)
        loss = 1.0 if trial < 4 else 9.0
        for epoch in range(6):
            epochs[trial] += 1
            report(epoch, loss)
        found = {name: {"value": loss} for name in ("log_loss", "auc")}
        return {"predictors": {"cnn_lstm": {"parts": {"validation": {"metrics": found}}}}}

    found = tune(values(metric=metric, direction=direction, trials=6), run, tmp_path, trace)
    assert found.counts == {"complete": 4, "pruned": 2, "fail": 0}
    assert epochs == [6] * 4 + [2] * 2


def test_one_model_of_several_is_searched(run_values, tmp_path, trace):
    models = [{"name": "transformer"}, {"name": "cnn_lstm", "label": "mine", "hidden": 4}]
    search = {"keys": {"train.models.1.hidden": {"low": 2, "high": 9}}, "model": "mine", "trials": 3}
    run = Bowl()
    found = tune(run_values(train={"models": models}, search=search), run, tmp_path, trace)
    assert {title for _, _, title, _ in run.seen} == {"mine"}
    assert isinstance(found.keys["train.models.1.hidden"], int)
    assert [model.title for model in load_config(found.file).train.models] == ["transformer", "mine"]


def test_all_mistakes_of_a_search_at_once(values, tmp_path, trace):
    keys = {"train.optimizer.lrr": {"low": 1, "high": 2}, "train.batch_size": {"choices": [0]}}
    with pytest.raises(ConfigError) as caught:
        tune(values(keys=keys, metric="auc"), Bowl(), tmp_path, trace)
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert text.splitlines()[0] == "search.keys.train.optimizer.lrr: unknown key (value 1); did you mean 'lr'?"
    assert "search.keys.train.batch_size" in text
    assert "search.direction: auc is to be maximized (value 'minimize')" in text


def test_a_search_needs_its_section(run_values, tmp_path, trace):
    with pytest.raises(ConfigError, match="search: a search needs this section"):
        tune(run_values(), Bowl(), tmp_path, trace)


def test_a_metric_without_a_value_fails_its_trial(values, tmp_path, trace):
    def run(values, to, report):
        return {"predictors": {"cnn_lstm": {"parts": {"validation": {"metrics": {"log_loss": {"value": None}}}}}}}

    with pytest.raises(CheckFailed, match="'log_loss' has no value on the validation part"):
        tune(values(trials=1), run, tmp_path, trace)
