"""The stages `train` and `evaluate`: from a finished dataset to stored models, metrics and predictions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from gpu_pipeline.core.config import ModelSection, RunConfig, TrainSection, plain
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.store import (
    Output,
    Store,
    digest_code,
    digest_of,
    link,
    lock,
    read_table,
    write_json,
    write_table,
)
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.dataset.data import Dataset, load_dataset
from train.board import Board, show, sign
from train.checkpoint import Card, load_model, make_card, save_card
from train.evaluate import JUDGED, Metrics, Samples, judge_part, prediction_table
from train.loop import History, Report, Task, fit, predict, repeatable
from train.parallel import Ranks

log = logging.getLogger("gpu_pipeline")
ROOT = Path(__file__).resolve().parent.parent
# What a model's weights depend on; how it is judged and reported lies elsewhere and trains nothing again.
TRAINING = ("loop.py", "stage.py", "checkpoint.py", "parallel.py", "loaders", "models", "metrics")
PACKAGES = ("gpu_pipeline/dataset", "gpu_pipeline/core", "kernels")
CODE = (*(ROOT / "train" / name for name in TRAINING), *(ROOT / name for name in PACKAGES))


def train_all(
    config: RunConfig,
    dataset_folder: Path,
    store: Store,
    run_folder: Path,
    device: torch.device,
    trace: Trace,
    *,
    ranks: Ranks | None = None,
    report: Callable[[str, int, float], None] | None = None,
) -> dict[str, Output]:
    """Trains the models of a run that are not in the store yet, and links all of them below `run_folder/models`.

    Args:
        config: the run.
        dataset_folder: finished output of the stage `dataset`.
        store: where models are kept; touched by process 0 alone.
        run_folder: gets `models/TITLE` and `tensorboard/TITLE`.
        device: where to train.
        trace: progress.
        ranks: this process among others; alone where not given.
        report: called with (title, epoch, validation loss) after each epoch, also of a model found in the store.

    Raises:
        InputError: the dataset is missing, too small, or of one class.
        Busy: another process trains this run.
    """
    ranks = ranks or Ranks(device)
    data = Output.at(dataset_folder, "dataset")
    dataset: Dataset | None = None
    outputs: dict[str, Output] = {}
    for section in _settings(config).models:
        key = model_key(config, section, data, ranks.device)
        output = ranks.from_first(store.find("train", key) if ranks.writes else None)
        told = _told(report, section.title)
        curves = run_folder / "tensorboard" / section.title
        if output is None:
            dataset = dataset or load_dataset(data.path, ranks.device)
            output = _train_into(store, key, config, section, dataset, data, curves, ranks, trace, told)
        else:
            log.info("train: model '%s' is unchanged, kept", section.title)
            replay(output.path, told)
        if ranks.writes:
            show(curves, output)
            link(run_folder / "models", section.title, output)
        outputs[section.title] = output
    return outputs


def model_key(config: RunConfig, section: ModelSection, data: Output, device: torch.device) -> str:
    """The key of a model in the store: everything that its weights depend on."""
    settings = {name: value for name, value in plain(config.train).items() if name != "models"}
    values = {name: value for name, value in plain(section).items() if name != "label"}
    code = digest_code([*CODE, Path(str(section.plugin.module.__file__))])
    return digest_of([values, settings, config.seed, device.type, data.key, code])


def _train_into(
    store: Store,
    key: str,
    config: RunConfig,
    section: ModelSection,
    dataset: Dataset,
    data: Output,
    curves: Path,
    ranks: Ranks,
    trace: Trace,
    report: Report | None,
) -> Output:
    def write(folder: Path | None) -> Metrics:
        return train_model(folder, config, section, dataset, ranks.device, trace, curves, ranks=ranks, report=report)

    output: Output | None = None
    if ranks.writes:
        described = {"model": plain(section), "train": plain(config.train), "seed": config.seed}
        with lock(curves.parent):
            output = store.make("train", key, described, {"dataset": data.key}, write)
            sign(curves, key)
    else:
        write(None)
    made: Output = ranks.from_first(output)
    return made


def replay(folder: Path, report: Report | None) -> None:
    """Reports the epochs of a finished model again."""
    if report is None:
        return
    history = read_table(folder / "history.parquet", ["epoch", "validation_loss"]).to_pylist()
    for row in history:
        report(row["epoch"], row["validation_loss"])


def train_model(
    folder: Path | None,
    config: RunConfig,
    model: ModelSection,
    dataset: Dataset,
    device: torch.device,
    trace: Trace,
    tensorboard: Path | None,
    *,
    ranks: Ranks | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Trains one model; writes `best.safetensors`, `model.json`, `history.parquet` and `steps.parquet` into `folder`.

    Returns what the manifest says: samples, steps, best epoch and its validation loss and AUC, absent classes, and the
    number of threads, which is part of the bits on a CPU.

    Raises:
        InputError: a part is empty, or training holds a single class, or the loss is no longer a number.
    """
    ranks = ranks or Ranks(device)
    task = make_task(config, model, dataset)
    check_size(task, ranks)
    if task.card.absent:
        log.warning("train: no training sample of class %s: it has no output", ", ".join(task.card.absent))
    board = Board(tensorboard if ranks.writes else None)
    try:
        history = fit(task, folder, ranks, trace, board, report)
    finally:
        board.close()
    if folder is not None:
        save_card(folder, task.card)
        save_history(folder, history)
    return {
        "rows": len(dataset.parts["train"]),
        "absent_classes": task.card.absent,
        "steps": len(history.losses),
        "epochs": len(history.epochs),
        "best": history.best,
        "threads": torch.get_num_threads(),
        "processes": ranks.world,
    }


def make_task(config: RunConfig, model: ModelSection, dataset: Dataset) -> Task:
    """The training of one model: its streams, its outputs and the weights of the samples.

    Classes without a training sample get no output; class weights are fitted on the training part.
    """
    settings = _settings(config)
    rows, classes = dataset.parts["train"], len(dataset.class_names)
    target = dataset.target[rows]
    counts = torch.bincount(target[target >= 0], minlength=classes)
    head = counts.nonzero().flatten().tolist()
    output = torch.full((classes + 1,), -1, device=dataset.device)
    output[head] = torch.arange(len(head), device=dataset.device)
    mapped = output[dataset.target]
    weight = torch.where(mapped >= 0, dataset.weight, 0)
    if settings.class_weights == "balanced":
        weight = weight * balance(mapped, weight, rows, len(head))[mapped.clamp_min(0)]
    card = make_card(model, dataset, head)
    return Task(model.title, card, dataset, settings, config.seed, mapped, weight)


def balance(target: torch.Tensor, weight: torch.Tensor, train: torch.Tensor, classes: int) -> torch.Tensor:
    """Factors [C] float32 that give every class the same weight within the training part (mean factor 1)."""
    known = train[target[train] >= 0]
    sums = torch.zeros(classes, dtype=torch.float64, device=weight.device)
    sums.index_add_(0, target[known], weight[known].double())
    return (sums.sum() / (classes * sums)).float()


def check_size(task: Task, ranks: Ranks) -> None:
    """Raises where there is nothing to train on, to choose by, or to tell apart."""
    parts = {name: len(task.dataset.parts[name]) for name in ("train", "validation")}
    empty = [name for name, samples in parts.items() if not samples]
    if empty:
        counts = ", ".join(f"{name} {samples:,}" for name, samples in parts.items())
        raise InputError(f"dataset: part '{empty[0]}' is empty ({counts}); use more data or change dataset.split")
    if len(task.card.head) < 2:
        only = [task.card.class_names[index] for index in task.card.head]
        raise InputError(f"dataset: training holds only the class {only}; change the label's barriers or use more data")
    size = min(task.settings.batch_size, parts["train"])
    if size < ranks.world:
        raise InputError(
            f"train.batch_size: {size} samples for {ranks.world} processes; raise it or lower train.processes"
        )


def save_history(folder: Path, history: History) -> None:
    """Writes a row per epoch to `history.parquet` and a row per step to `steps.parquet`."""
    write_table(folder / "history.parquet", pa.Table.from_pylist(history.epochs))
    steps = {"step": range(len(history.losses)), "loss": history.losses, "lr": history.rates}
    write_table(folder / "steps.parquet", pa.table({name: list(column) for name, column in steps.items()}))


def evaluate(
    folder: Path,
    config: RunConfig,
    dataset: Dataset,
    models: Mapping[str, Path],
    device: torch.device,
    trace: Trace,
) -> dict[str, Any]:
    """Judges models beside the baselines; writes `metrics.json` and `predictions.parquet` into `folder`.

    Args:
        folder: where to write.
        config: the run.
        dataset: what the models were trained on.
        models: title -> folder of a trained model.
        device: where to predict.
        trace: progress.

    Returns what the manifest says: rows of predictions and the value of every metric.

    Raises:
        InputError: a model was trained on other streams or classes, or a part cannot be judged.
    """
    settings, section = _settings(config), config.evaluate
    sections = {model.title: model for model in settings.models}
    tasks = {title: make_task(config, sections[title], dataset) for title in models}
    first = next(iter(tasks.values()))
    samples = Samples.of(dataset, first.target.cpu().numpy(), first.card.head)
    record: Metrics = {"class_names": [dataset.class_names[index] for index in first.card.head], "parts": {}}
    record |= {"absent_classes": first.card.absent, "confidence": section.confidence, "predictors": {}}
    tables = []
    with trace.progress("evaluate", len(JUDGED) * (section.resamples + len(models))) as ticker:
        for seed, part in enumerate(JUDGED, config.seed):
            predicted = {}
            for title, path in models.items():
                logits = _predict(tasks[title], path, part, device)
                predicted[title] = logits.softmax(1).cpu().numpy()
                tables.append(prediction_table(samples, part, title, predicted[title]))
                ticker.advance()
            facts, results = judge_part(samples, part, predicted, section, seed, ticker)
            record["parts"][part] = facts
            for name, result in results.items():
                kind = "model" if name in models else "baseline"
                entry = record["predictors"].setdefault(name, {"kind": kind, "parts": {}})
                entry["parts"][part] = result
    predictions = pa.concat_tables(tables)
    write_json(folder / "metrics.json", record)
    write_table(folder / "predictions.parquet", predictions)
    return {"rows": len(predictions), "parts": record["parts"], "metrics": _values(record)}


def _predict(task: Task, path: Path, part: str, device: torch.device) -> torch.Tensor:
    model, card = load_model(path, device)
    _check_card(card, task.card, path)
    with repeatable(device):
        return predict(task, model, part, Ranks(device))


def _check_card(stored: Card, wanted: Card, path: Path) -> None:
    for what in ("columns", "class_names", "head"):
        if getattr(stored, what) != getattr(wanted, what):
            raise InputError.at(path, f"was trained on other {what} than this dataset has", fix="train the model again")


def _values(record: Metrics) -> Metrics:
    return {
        name: {
            part: {metric: entry["value"] for metric, entry in result["metrics"].items()}
            for part, result in predictor["parts"].items()
        }
        for name, predictor in record["predictors"].items()
    }


def _settings(config: RunConfig) -> TrainSection:
    if config.train is None:
        raise InputError("the run file has no section 'train'; add one with 'models', for example [cnn_lstm]")
    return config.train


def _told(report: Callable[[str, int, float], None] | None, title: str) -> Report | None:
    return None if report is None else lambda epoch, loss: report(title, epoch, loss)
