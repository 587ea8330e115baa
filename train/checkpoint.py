"""A trained model on disk: `best.safetensors` holds the weights, `model.json` what is needed to build it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from gpu_pipeline.core import plugins
from gpu_pipeline.core.config import ModelSection, plain
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.store import read_json, write_bytes, write_json
from gpu_pipeline.dataset.data import Dataset
from train.models._shape import StreamShape

WEIGHTS, CARD = "best.safetensors", "model.json"


@dataclass(frozen=True)
class Card:
    """Everything about a model but its weights.

    Attributes:
        name: plug-in name or dotted path.
        options: the plug-in's own keys.
        inputs: stream -> shape, in the order in which the encodings are joined.
        columns: stream -> names of its features.
        class_names: classes of the target.
        head: class index of each output; classes without a training sample have none.
    """

    name: str
    options: Mapping[str, Any]
    inputs: Mapping[str, StreamShape]
    columns: Mapping[str, Sequence[str]]
    class_names: Sequence[str]
    head: Sequence[int]

    @property
    def absent(self) -> list[str]:
        """Classes that have no output."""
        return [name for index, name in enumerate(self.class_names) if index not in self.head]


def build(card: Card, seed: int) -> nn.Module:
    """A new model on the CPU; its weights depend on `seed` and the card alone."""
    plugin = plugins.load("models", card.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = plugin.function(plugin.config(**card.options), card.inputs, len(card.head))
    return model


def make_card(section: ModelSection, dataset: Dataset, head: Sequence[int]) -> Card:
    """The card of a model that a run file asks for: the dataset's streams that it names, or all of them."""
    names = section.inputs or list(dataset.streams)
    streams = {name: dataset.streams[name] for name in names}
    columns = {name: tuple(stream.columns) for name, stream in streams.items()}
    shapes = {name: StreamShape(s.window, s.values.shape[1], columns[name]) for name, s in streams.items()}
    return Card(section.name, plain(section.options), shapes, columns, tuple(dataset.class_names), tuple(head))


def save_card(folder: Path, card: Card) -> None:
    """Writes `model.json`."""
    inputs = {
        name: {"window": shape.window, "columns": list(card.columns[name])} for name, shape in card.inputs.items()
    }
    content = {"name": card.name, "options": card.options, "inputs": inputs, "order": list(card.inputs)}
    write_json(folder / CARD, {**content, "class_names": list(card.class_names), "head": list(card.head)})


def save_weights(folder: Path, model: nn.Module) -> None:
    """Writes `best.safetensors` whole or not at all."""
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    write_bytes(folder / WEIGHTS, safetensors.torch.save(weights))


def load_card(folder: Path) -> Card:
    """Reads `model.json`.

    Raises:
        InputError: it is missing, damaged or lacks a key.
    """
    content = read_json(folder / CARD)
    try:
        inputs = {name: content["inputs"][name] for name in content["order"]}
        columns = {name: tuple(entry["columns"]) for name, entry in inputs.items()}
        shapes = {
            name: StreamShape(entry["window"], len(columns[name]), columns[name]) for name, entry in inputs.items()
        }
        return Card(
            content["name"], content["options"], shapes, columns, tuple(content["class_names"]), tuple(content["head"])
        )
    except KeyError as error:
        raise InputError.at(folder / CARD, f"lacks the key {error}", fix="train the model again") from error


def predictor(folder: Path, device: torch.device) -> Callable[[Mapping[str, Tensor]], dict[str, float]]:
    """What a trained model says of one sample: windows by stream [T, F] in, probability by class out.

    Raises:
        InputError: as `load_model`.
    """
    model, card = load_model(folder, device)
    names = [card.class_names[index] for index in card.head]

    def predict(windows: Mapping[str, Tensor]) -> dict[str, float]:
        with torch.no_grad():
            logits = model({name: windows[name][None].to(device) for name in card.inputs}, None)
        return dict(zip(names, logits.double().softmax(1)[0].tolist(), strict=True))

    return predict


def load_model(folder: Path, device: torch.device) -> tuple[nn.Module, Card]:
    """The trained model, ready to predict, and its card.

    Raises:
        InputError: a file is missing or damaged, or the weights are of another model.
    """
    card = load_card(folder)
    model = build(card, seed=0)
    try:
        model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError.at(
            folder / WEIGHTS, f"does not hold the weights of this model: {reason}", fix="train the model again"
        ) from error
    return model.to(device).eval(), card
