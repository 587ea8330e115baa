"""The training loop: batches in, the weights of the best epoch out. It reads top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpu_pipeline.core import plugins
from gpu_pipeline.core.config import OptimizerSection, TrainSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.trace import Ticker, Trace
from gpu_pipeline.dataset.data import Batch, Dataset
from train.board import Board
from train.checkpoint import Card, build, save_weights
from train.metrics import auc
from train.models._dropout import sample_key
from train.parallel import Ranks, wrap

LOG_STEPS = 50
Report = Callable[[int, float], None]


@dataclass(frozen=True)
class Task:
    """What is trained on what.

    Attributes:
        title: the model's name in the run.
        card: the model.
        dataset: streams, samples and parts on the device.
        settings: the run file's `train`.
        seed: of initial weights, order and dropout.
        target: [W] int64 output of the model; -1 where the class has none.
        weight: [W] float32, class weights included; 0 where the class has no output.
    """

    title: str
    card: Card
    dataset: Dataset
    settings: TrainSection
    seed: int
    target: Tensor
    weight: Tensor

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training, were it not stopped early."""
        per_epoch = max(1, len(self.dataset.parts["train"]) // self.settings.batch_size)
        steps = self.settings.epochs * per_epoch
        return min(steps, self.settings.max_steps or steps)

    def batches(self, part: str, epoch: int, ranks: Ranks) -> Iterator[Batch]:
        """This process's slices of a part's global batches, shuffled for training only."""
        batches: Iterator[Batch] = plugins.load("loaders", self.settings.loader).function(
            self.dataset,
            part,
            batch_size=self.settings.batch_size,
            seed=self.seed,
            epoch=epoch,
            rank=ranks.rank,
            world=ranks.world,
            device=ranks.device,
            shuffle=part == "train",
            inputs=tuple(self.card.inputs),
        )
        return batches

    def precision(self) -> torch.autocast:
        """The context in which the model runs."""
        reduced = self.settings.precision == "bfloat16"
        return torch.autocast(self.dataset.device.type, torch.bfloat16, enabled=reduced)


@dataclass
class History:
    """What training left behind: a row per epoch, a loss and a learning rate per step, the best epoch's row."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)


def fit(
    task: Task, folder: Path | None, ranks: Ranks, trace: Trace, board: Board, report: Report | None = None
) -> History:
    """Trains a model and keeps the weights of the epoch with the least validation loss.

    On the CPU two runs with the same number of threads give the same bits.

    Args:
        task: model, data and settings.
        folder: where `best.safetensors` is written; None for processes that do not write.
        ranks: this process and the others.
        trace: shows progress.
        board: receives the curves.
        report: called with (epoch, validation loss) after each epoch; may raise to stop.

    Raises:
        InputError: the loss is no longer a number; names the step and what to look at.
    """
    settings, history, worse = task.settings, History(), 0
    model = build(task.card, task.seed).to(ranks.device)
    wrapped = wrap(model, ranks, settings.compile)
    optimizer = make_optimizer(model, settings.optimizer)
    with repeatable(ranks.device), trace.progress(f"train {task.title}", task.steps) as ticker:
        for epoch in range(settings.epochs):
            train_loss = train_epoch(task, epoch, wrapped, optimizer, ranks, history, board, ticker)
            loss, area = validate(task, model, ranks)
            row = {"epoch": epoch, "step": len(history.losses), "lr": history.rates[-1], "train_loss": train_loss}
            row |= {"validation_loss": loss, "validation_auc": area}
            history.epochs.append(row)
            board.epoch(row)
            if not history.best or loss < history.best["validation_loss"]:
                history.best, worse = row, 0
                if folder is not None:
                    save_weights(folder, model)
            else:
                worse += 1
            if report is not None:
                report(epoch, loss)
            if len(history.losses) == task.steps or (settings.patience and worse >= settings.patience):
                break
    return history


def train_epoch(
    task: Task,
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ranks: Ranks,
    history: History,
    board: Board,
    ticker: Ticker,
) -> float:
    """One pass over the training part; returns its mean loss.

    A step's loss is sum(weight x cross entropy) / sum(weight) over the global batch, however many processes share it.
    """
    model.train()
    first = len(history.losses)
    meter = Meter(task, ranks, history, board)
    for step, batch in enumerate(task.batches("train", epoch, ranks), first):
        rate = set_rate(optimizer, task.settings, step, task.steps)
        with task.precision():
            logits = model(batch.inputs, sample_key(task.seed, step, batch.sample))
        loss = weighted_loss(task, logits, batch, ranks)
        # DDP averages the gradients of what has to be summed.
        (loss * ranks.world).backward()
        if task.settings.grad_clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), task.settings.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        meter.add(loss.detach(), rate, len(batch.sample))
        ticker.advance(1, f"epoch {epoch + 1}")
        if step + 1 == task.steps:
            break
    meter.flush()
    return math.fsum(history.losses[first:]) / (len(history.losses) - first)


def weighted_loss(task: Task, logits: Tensor, batch: Batch, ranks: Ranks) -> Tensor:
    """This process's share of the global batch's loss; the shares of all processes add up to it."""
    target, weight = task.target[batch.sample], task.weight[batch.sample]
    losses = F.cross_entropy(logits.float(), target, reduction="none")
    balanced = task.settings.class_weights != "none"
    total = ranks.sum(weight.sum()) if balanced else batch.weight_total
    return (weight * losses).sum() / total


def predict(task: Task, model: nn.Module, part: str, ranks: Ranks) -> Tensor:
    """Logits of a part in its own order on every process: [n, C] float64."""
    samples = task.dataset.parts[part]
    place = samples.new_zeros(len(task.dataset))
    place[samples] = torch.arange(len(samples), device=samples.device)
    logits = torch.zeros(len(samples), len(task.card.head), dtype=torch.float64, device=ranks.device)
    model.eval()
    for batch in task.batches(part, 0, ranks):
        if len(batch.sample):
            with torch.no_grad(), task.precision():
                logits[place[batch.sample]] = model(batch.inputs, None).double()
    return ranks.sum(logits)


def validate(task: Task, model: nn.Module, ranks: Ranks) -> tuple[float, float]:
    """Weighted loss and AUC over the whole validation part; samples of classes without an output do not count."""
    samples = task.dataset.parts["validation"]
    logits = predict(task, model, "validation", ranks)
    target, weight = task.target[samples], task.weight[samples].double()
    losses = F.cross_entropy(logits, target.clamp_min(0), reduction="none")
    loss = float((weight * losses).sum() / weight.sum())
    if not math.isfinite(loss):
        raise InputError(f"model '{task.title}': the validation loss is {loss}; {advice(task)}")
    known = target >= 0
    probability = logits.softmax(1)[known].cpu().numpy()
    return loss, auc.compute(target[known].cpu().numpy(), probability, torch.ones(len(probability)).double().numpy())


class Meter:
    """Collects losses on the device and reads them every LOG_STEPS steps, so that steps do not wait for the host."""

    def __init__(self, task: Task, ranks: Ranks, history: History, board: Board) -> None:
        self._task, self._ranks, self._history, self._board = task, ranks, history, board
        self._losses: list[Tensor] = []
        self._rates: list[float] = []
        self._samples = 0

    def add(self, loss: Tensor, rate: float, samples: int) -> None:
        """Notes one step of this process."""
        self._losses.append(loss)
        self._rates.append(rate)
        self._samples += samples
        if len(self._losses) == LOG_STEPS:
            self.flush()

    def flush(self) -> None:
        """Sums the noted losses over all processes, checks them and passes them on."""
        if not self._losses:
            return
        first = len(self._history.losses)
        losses = self._ranks.sum(torch.stack(self._losses).double()).tolist()
        for step, loss in enumerate(losses, first):
            if not math.isfinite(loss):
                raise InputError(f"model '{self._task.title}', step {step}: the loss is {loss}; {advice(self._task)}")
        self._history.losses += losses
        self._history.rates += self._rates
        self._board.steps(first, losses, self._rates, self._samples * self._ranks.world)
        self._losses, self._rates, self._samples = [], [], 0


def advice(task: Task) -> str:
    """What to look at when a loss is not a number."""
    streams = {name: task.dataset.streams[name] for name in task.card.inputs}
    broken = [
        f"{name}.{stream.columns[column]}"
        for name, stream in streams.items()
        for column in (~stream.values.isfinite().all(0)).nonzero().flatten().tolist()
    ]
    if broken:
        return f"the model input is not finite in {', '.join(broken[:5])}: rebuild the dataset, or leave the column out"
    if not bool(task.weight.isfinite().all() and task.weight.sum() > 0):
        return "the sample weights are not finite or all 0: look at the label's weights"
    lr, clip = task.settings.optimizer.lr, task.settings.grad_clip
    return f"lower train.optimizer.lr ({lr:g}), set train.grad_clip ({clip}), or use train.precision: float32"


def make_optimizer(model: nn.Module, section: OptimizerSection) -> torch.optim.Optimizer:
    """AdamW or SGD with Nesterov momentum; only matrices decay, never biases, norms or gains."""
    decayed = [weight for weight in model.parameters() if weight.dim() >= 2]
    others = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": decayed, "weight_decay": section.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if section.name == "adamw":
        return torch.optim.AdamW(groups, lr=section.lr)
    return torch.optim.SGD(groups, lr=section.lr, momentum=section.momentum, nesterov=section.momentum > 0)


def set_rate(optimizer: torch.optim.Optimizer, settings: TrainSection, step: int, steps: int) -> float:
    """Sets and returns the learning rate of a step: linear warm-up, then constant or half a cosine down to 0."""
    rate = settings.optimizer.lr * min(1.0, (step + 1) / max(1, settings.warmup_steps))
    if settings.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * step / steps)) / 2
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Algorithms that give the same bits each time, where a CPU has them; the thread count is part of the bits."""
    memory: Any = torch.utils.deterministic
    before, filled = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = filled
