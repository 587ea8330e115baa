"""A search over any keys of the run file: Optuna's TPE in SQLite, resumable, hopeless trials pruned by the median."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from gpu_pipeline.core import plugins
from gpu_pipeline.core.config import RunConfig, SearchKey, SearchSection, check_config
from gpu_pipeline.core.errors import CheckFailed, ConfigError, InputError, Problem
from gpu_pipeline.core.runfile import apply_overrides, write_yaml
from gpu_pipeline.core.store import digest_of, write_text
from gpu_pipeline.core.trace import Ticker, Trace

log = logging.getLogger("gpu_pipeline")
Values = dict[str, Any]
Run = Callable[[Values, str, Callable[[int, float], None]], Mapping[str, Any]]
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Found:
    """What a search ended with.

    Attributes:
        file: run file with the best values.
        value: best value of the metric on the validation part.
        keys: the best values.
        counts: trials by how they ended.
    """

    file: Path
    value: float
    keys: Mapping[str, Any]
    counts: Mapping[str, int]


def tune(values: Values, run: Run, folder: Path, trace: Trace) -> Found:
    """Searches the keys of the section `search`, and writes `study.db` and `best.yaml` into `folder`.

    A study continues where it was left: trials that are done count. Its metric is read on the validation part, so that
    the test part stays unseen. One model is searched, `search.model` or the first.

    Args:
        values: the run file as plain values.
        run: trains and judges: given values, the last stage and a callback for (epoch, validation loss), it returns the
            content of `metrics.json`; what the callback raises ends the trial and must pass through.
        folder: of the run.
        trace: progress.

    Raises:
        ConfigError: there is no section `search`, or a key of it is none of the run file's.
        CheckFailed: no trial finished.
    """
    config = check_config(values)
    search = check_search(values, config)
    study = open_study(values, config, folder)
    left = search.trials - len(study.get_trials(deepcopy=False, states=FINISHED))
    with trace.progress(f"tune {config.name}", max(left, 0)) as ticker:
        if left > 0:
            study.optimize(Objective(values, config, run, ticker), n_trials=left, catch=(Exception,))
    return conclude(values, study, folder / "best.yaml")


def check_search(values: Values, config: RunConfig) -> SearchSection:
    """The section `search`, once every value at the ends of its keys makes a valid run file.

    Raises:
        ConfigError: a mistake per key.
    """
    search, problems = config.search, []
    if search is None or config.train is None:
        lacking = "search" if search is None else "train"
        raise ConfigError([Problem(lacking, "", "a search needs this section")])
    for path, key in search.keys.items():
        for value in key.choices if key.choices is not None else (key.low, key.high):
            try:
                check_config(with_keys(values, {path: value}))
            except ConfigError as error:
                first = error.problems[0]
                problems.append(Problem("search", f"keys.{path}", first.message, value, first.nearest))
                break
            except InputError as error:
                problems.append(Problem("search", f"keys.{path}", str(error), value))
                break
    maximize = getattr(plugins.load("metrics", search.metric).module, "MAXIMIZE", search.direction == "maximize")
    direction = "maximize" if maximize else "minimize"
    if search.direction != direction:
        problems.append(Problem("search", "direction", f"{search.metric} is to be {direction}d", search.direction))
    if problems:
        raise ConfigError(problems)
    return search


def with_keys(values: Values, keys: Mapping[str, Any]) -> Values:
    """A copy of the run file's values with some keys set."""
    overrides = [f"{path}={json.dumps(value)}" for path, value in keys.items()]
    return apply_overrides(copy.deepcopy(values), overrides)


def open_study(values: Values, config: RunConfig, folder: Path) -> optuna.Study:
    """The study of this very search in `folder/study.db`; another search or run file is another study.

    Trials that a killed process left open are counted as failed.
    """
    search = config.search
    assert search is not None
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    asked = {**values, "search": {**values["search"], "trials": None}}
    study = optuna.create_study(
        storage=f"sqlite:///{(folder / 'study.db').resolve()}",
        study_name=f"{config.name}-{digest_of(asked)[:12]}",
        direction=search.direction,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        load_if_exists=True,
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.get_trials(deepcopy=False)))
    return study


class Objective:
    """One trial: suggested keys in, the metric of the searched model on the validation part out."""

    def __init__(self, values: Values, config: RunConfig, run: Run, ticker: Ticker) -> None:
        self._values, self._config, self._run, self._ticker = values, config, run, ticker

    def __call__(self, trial: optuna.Trial) -> float:
        """Runs a trial; an error is noted beside it.

        Raises:
            optuna.TrialPruned: its losses are worse than the median of the trials before.
        """
        try:
            return self._value(trial)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            log.warning("tune: trial %d failed: %s", trial.number, error)
            raise
        finally:
            self._ticker.advance(1, f"trial {trial.number}")

    def _value(self, trial: optuna.Trial) -> float:
        search, train = self._config.search, self._config.train
        assert search is not None and train is not None
        keys = {path: suggest(trial, path, key) for path, key in search.keys.items()}
        chosen = with_keys(self._values, keys)
        titles = [model.title for model in train.models]
        position = titles.index(search.model) if search.model else 0
        chosen["train"]["models"] = [chosen["train"]["models"][position]]
        chosen.pop("search")
        asked = check_config(chosen).train
        assert asked is not None

        def report(epoch: int, loss: float) -> None:
            trial.report(-loss if search.direction == "maximize" else loss, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned(f"epoch {epoch}: validation loss {loss}")

        metrics = self._run(chosen, "evaluate", report)
        return read_metric(metrics, asked.models[0].title, search.metric)


def suggest(trial: optuna.Trial, path: str, key: SearchKey) -> Any:
    """A value for one key: of its choices, or between its ends, whole where both ends are."""
    if key.choices is not None:
        return json.loads(trial.suggest_categorical(path, [json.dumps(choice) for choice in key.choices]))
    assert key.low is not None and key.high is not None
    if isinstance(key.low, int) and isinstance(key.high, int):
        return trial.suggest_int(path, key.low, key.high, log=key.log)
    return trial.suggest_float(path, key.low, key.high, log=key.log)


def read_metric(metrics: Mapping[str, Any], model: str, metric: str) -> float:
    """The value of a metric on the validation part.

    Raises:
        InputError: it was not computed, or is not defined there.
    """
    found = metrics["predictors"][model]["parts"]["validation"]["metrics"].get(metric)
    if found is None or found["value"] is None:
        raise InputError(f"search.metric: '{metric}' has no value on the validation part; is it in evaluate.metrics?")
    return float(found["value"])


def conclude(values: Values, study: optuna.Study, file: Path) -> Found:
    """Writes the run file with the best keys.

    Raises:
        CheckFailed: no trial finished; says why the last one failed.
    """
    trials = study.get_trials(deepcopy=False)
    counts = {state.name.lower(): sum(trial.state == state for trial in trials) for state in FINISHED}
    if not counts["complete"]:
        errors = [trial.user_attrs["error"] for trial in trials if "error" in trial.user_attrs]
        reason = f"; the last error: {errors[-1]}" if errors else ""
        raise CheckFailed(f"search: none of {len(trials)} trials finished ({counts}){reason}")
    search = check_config(values).search
    assert search is not None
    keys = {
        path: json.loads(value) if search.keys[path].choices is not None else value
        for path, value in study.best_params.items()
    }
    write_text(file, write_yaml(with_keys(values, keys)))
    return Found(file, study.best_value, keys, counts)
