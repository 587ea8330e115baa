"""The loop learns what is there and nothing else, repeats itself to the bit, stops in time and says what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from gpu_pipeline.core.config import OptimizerSection, TrainSection
from gpu_pipeline.core.errors import InputError
from train.checkpoint import load_model
from train.loop import make_optimizer, predict, set_rate, weighted_loss
from train.parallel import Ranks
from train.stage import make_task, train_model

SMALL = [
    {"name": "cnn_lstm", "channels": 8, "hidden": 16},
    {"name": "transformer", "width": 16, "heads": 2, "layers": 1, "patch": 2},
]


def train(folder, config, dataset, cpu, trace, **options):
    folder.mkdir(parents=True, exist_ok=True)
    return train_model(folder, config, config.train.models[0], dataset, cpu, trace, None, **options)


@pytest.mark.parametrize("model", SMALL, ids=lambda model: model["name"])
def test_learns_a_planted_pattern(model, toy, run_config, tmp_path, cpu, trace):
    found = train(tmp_path, run_config([model], epochs=5), toy(1800), cpu, trace)
    assert found["best"]["validation_auc"] > 0.8


@pytest.mark.parametrize("model", SMALL, ids=lambda model: model["name"])
def test_does_not_learn_noise(model, toy, run_config, tmp_path, cpu, trace):
    found = train(tmp_path, run_config([model], epochs=3), toy(2500, edge=0.0), cpu, trace)
    # 375 validation samples: the standard error of an AUC of one half is 0.03.
    assert abs(found["best"]["validation_auc"] - 0.5) < 0.1
    assert found["best"]["validation_loss"] > np.log(2) - 0.02


@pytest.mark.parametrize("model", SMALL, ids=lambda model: model["name"])
def test_same_bytes_again(model, toy, run_config, tmp_path, cpu, trace):
    config, files = (
        run_config([model], epochs=2),
        ("best.safetensors", "history.parquet", "steps.parquet", "model.json"),
    )
    manifests = [train(tmp_path / name, config, toy(600), cpu, trace) for name in ("a", "b")]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert manifests[0] == manifests[1]
    train(tmp_path / "c", run_config([model], epochs=2, seed=8), toy(600), cpu, trace)
    assert (tmp_path / "a" / files[0]).read_bytes() != (tmp_path / "c" / files[0]).read_bytes()


def test_keeps_the_epoch_of_least_validation_loss(toy, run_config, tmp_path, cpu, trace):
    # A rate this high on noise makes later epochs worse than the first ones.
    config = run_config(
        [{**SMALL[0], "dropout": 0}], epochs=30, patience=3, schedule="constant", optimizer={"lr": 0.02}
    )
    dataset, told = toy(800, edge=0.3), []
    found = train(tmp_path, config, dataset, cpu, trace, report=lambda epoch, loss: told.append((epoch, loss)))
    history = pq.read_table(tmp_path / "history.parquet").to_pandas()
    best = int(history.validation_loss.argmin())
    assert found["best"]["epoch"] == best
    assert len(history) == best + 1 + 3 < 30
    assert told == list(zip(history.epoch, history.validation_loss, strict=True))
    model, _ = load_model(tmp_path, cpu)
    task = make_task(config, config.train.models[0], dataset)
    rows = dataset.parts["validation"]
    logits = predict(task, model, "validation", Ranks(cpu)).numpy()
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(rows)), dataset.target[rows].numpy()]
    expected = np.average(losses, weights=dataset.weight[rows].numpy())
    assert found["best"]["validation_loss"] == pytest.approx(expected, rel=1e-6)


def test_history_is_the_steps(toy, run_config, tmp_path, cpu, trace):
    dataset = toy(700)
    train(tmp_path, run_config(epochs=2, batch_size=100), dataset, cpu, trace)
    steps = pq.read_table(tmp_path / "steps.parquet").to_pandas()
    history = pq.read_table(tmp_path / "history.parquet").to_pandas()
    per_epoch = len(dataset.parts["train"]) // 100
    assert len(steps) == 2 * per_epoch
    assert history.step.tolist() == [per_epoch, 2 * per_epoch]
    assert history.train_loss.tolist() == pytest.approx(steps.loss.to_numpy().reshape(2, -1).mean(1).tolist())


def test_max_steps_ends_training(toy, run_config, tmp_path, cpu, trace):
    found = train(tmp_path, run_config(epochs=50, max_steps=7), toy(600), cpu, trace)
    assert found["steps"] == 7


def test_a_loss_that_is_no_number_names_the_column(toy, run_config, tmp_path, cpu, trace):
    dataset = toy(600)
    dataset.streams["bars"].values[30, 2] = float("nan")
    with pytest.raises(InputError, match=r"model 'cnn_lstm', step \d+: the loss is nan; .* not finite in bars\.c:"):
        train(tmp_path, run_config(), dataset, cpu, trace)
    assert not (tmp_path / "best.safetensors").exists()


def test_a_loss_that_is_no_number_names_the_weights(toy, run_config, tmp_path, cpu, trace):
    dataset = toy(600)
    broken = replace(dataset, weight=torch.full_like(dataset.weight, float("nan")))
    with pytest.raises(InputError, match="sample weights are not finite"):
        train(tmp_path, run_config(), broken, cpu, trace)


def test_a_loss_that_diverges_names_the_rate(toy, run_config, tmp_path, cpu, trace):
    config = run_config(optimizer={"name": "sgd", "lr": 1e30}, grad_clip=None, epochs=5)
    with pytest.raises(InputError, match=r"lower train\.optimizer\.lr \(1e\+30\)"):
        train(tmp_path, config, toy(600), cpu, trace)


def test_a_class_absent_from_training_has_no_output(toy, run_config, tmp_path, cpu, trace, caplog):
    dataset = toy(900, classes=3)
    rows = dataset.parts["train"]
    target = dataset.target.clone()
    target[rows[target[rows] == 1]] = 2
    found = train(tmp_path, run_config(epochs=1), replace(dataset, target=target), cpu, trace)
    assert found["absent_classes"] == ["class1"]
    assert "no training sample of class class1" in caplog.text
    model, card = load_model(tmp_path, cpu)
    assert (list(card.head), model.head.out_features) == ([0, 2], 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": "train"}, "part 'train' is empty"),
        ({"parts": "validation"}, "part 'validation' is empty"),
        ({"target": 0}, r"training holds only the class \['class0'\]"),
    ],
)
def test_nothing_to_train_on(change, message, toy, run_config, tmp_path, cpu, trace):
    dataset = toy(300)
    if "parts" in change:
        changed = replace(dataset, parts={**dataset.parts, change["parts"]: torch.zeros(0, dtype=torch.int64)})
    else:
        changed = replace(dataset, target=torch.zeros_like(dataset.target))
    with pytest.raises(InputError, match=message):
        train(tmp_path, run_config(), changed, cpu, trace)


def test_balanced_weights_are_fitted_on_the_training_part(toy, run_config):
    dataset = replace(toy(900, classes=3), weight=torch.ones(900))
    target = dataset.target.clone()
    target[: len(dataset.parts["train"]) // 2] = 0
    target[dataset.parts["test"]] = 2
    config = run_config(class_weights="balanced")
    task = make_task(config, config.train.models[0], replace(dataset, target=target))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=target[dataset.parts["train"]].numpy())
    assert torch.allclose(task.weight, torch.from_numpy(expected).float()[target])


@pytest.mark.parametrize("balanced", ["none", "balanced"])
def test_the_loss_is_the_weighted_mean(balanced, toy, run_config, cpu):
    config = run_config(class_weights=balanced)
    dataset = toy(500, classes=3)
    task = make_task(config, config.train.models[0], dataset)
    batch = next(task.batches("train", 0, Ranks(cpu)))
    logits = torch.randn(64, 3)
    weight = task.weight[batch.sample].double().numpy()
    losses = nn.CrossEntropyLoss(reduction="none")(logits.double(), dataset.target[batch.sample]).numpy()
    expected = np.average(losses, weights=weight)
    assert float(weighted_loss(task, logits, batch, Ranks(cpu))) == pytest.approx(expected, rel=1e-6)


def test_only_matrices_decay():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    decayed, others = make_optimizer(model, OptimizerSection(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0)
    assert [weight.dim() for weight in decayed["params"]] == [2]
    assert [weight.dim() for weight in others["params"]] == [1, 1, 1]
    assert isinstance(make_optimizer(model, OptimizerSection(name="sgd")), torch.optim.SGD)


def test_schedule_against_torch():
    settings = TrainSection.model_validate({"models": ["cnn_lstm"], "optimizer": {"lr": 0.4}})
    ours, theirs = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4) for _ in range(2))
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=20)
    for step in range(20):
        assert set_rate(ours, settings, step, 20) == pytest.approx(cosine.get_last_lr()[0])
        theirs.step()
        cosine.step()
    warm = settings.model_copy(update={"schedule": "constant", "warmup_steps": 4})
    assert [set_rate(ours, warm, step, 20) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    assert ours.param_groups[0]["lr"] == pytest.approx(0.4)


def test_bfloat16_learns_too(toy, run_config, tmp_path, cpu, trace):
    found = train(tmp_path, run_config(SMALL[1:], epochs=4, precision="bfloat16"), toy(1500), cpu, trace)
    assert found["best"]["validation_auc"] > 0.75


def test_curves_are_written(toy, run_config, tmp_path, cpu, trace):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = run_config(epochs=2)
    train_model(tmp_path, config, config.train.models[0], toy(400), cpu, trace, tmp_path / "tensorboard")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    steps = pq.read_table(tmp_path / "steps.parquet").to_pandas()
    history = pq.read_table(tmp_path / "history.parquet").to_pandas()
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(steps.loss.tolist(), rel=1e-6)
    assert [event.value for event in events.Scalars("train/lr")] == pytest.approx(steps.lr.tolist(), rel=1e-6)
    validation = [event.value for event in events.Scalars("validation/loss")]
    assert validation == pytest.approx(history.validation_loss.tolist(), rel=1e-6)
    tags = events.Tags()["scalars"]
    assert {"validation/auc", "epoch/train_loss", "train/samples_per_second"} <= set(tags)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_compiled_training_gives_the_same_losses(toy, run_config, tmp_path, cpu, trace):
    for compiled in (False, True):
        config = run_config(SMALL[1:], epochs=1, max_steps=4, compile=compiled)
        train(tmp_path / str(compiled), config, toy(500), cpu, trace)
    plain, fast = (pq.read_table(tmp_path / name / "steps.parquet")["loss"].to_numpy() for name in ("False", "True"))
    np.testing.assert_allclose(fast, plain, rtol=1e-4)
