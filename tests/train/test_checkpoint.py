"""A model on disk comes back as it was, or says what is wrong with its files."""

from __future__ import annotations

import pytest
import torch

from gpu_pipeline.core.errors import InputError
from train.checkpoint import build, load_card, load_model, make_card, save_card, save_weights


@pytest.fixture
def saved(toy, run_config, tmp_path):
    dataset = toy(200, classes=3)
    section = run_config([{"name": "transformer", "width": 8, "heads": 2, "inputs": ["book", "bars"]}]).train.models[0]
    card = make_card(section, dataset, [0, 2])
    model = build(card, 3)
    save_card(tmp_path, card)
    save_weights(tmp_path, model)
    return tmp_path, card, model


def test_comes_back(saved, cpu):
    folder, card, model = saved
    loaded, found = load_model(folder, cpu)
    assert found == card
    assert list(found.inputs) == ["book", "bars"]
    assert found.absent == ["class1"]
    inputs = {name: torch.randn(4, shape.window, shape.features) for name, shape in card.inputs.items()}
    assert torch.equal(loaded(inputs, None), model(inputs, None))


def test_first_weights_depend_on_the_seed_alone(saved):
    _, card, model = saved
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    again, other = build(card, 3).state_dict(), build(card, 4).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(again[name], weight) for name, weight in model.state_dict().items())
    assert not torch.equal(other["head.weight"], again["head.weight"])


def test_missing_or_damaged_files_are_named(saved, cpu):
    folder, _, _ = saved
    weights = (folder / "best.safetensors").read_bytes()
    (folder / "best.safetensors").write_bytes(weights[:100])
    with pytest.raises(InputError, match=r"best\.safetensors: does not hold the weights .* train the model again"):
        load_model(folder, cpu)
    (folder / "best.safetensors").unlink()
    with pytest.raises(InputError, match=r"best\.safetensors: does not hold the weights"):
        load_model(folder, cpu)
    (folder / "model.json").write_text('{"order": []}')
    with pytest.raises(InputError, match=r"model\.json: lacks the key"):
        load_card(folder)


def test_weights_of_another_model_are_refused(saved, toy, run_config, cpu):
    folder, _, _ = saved
    other = run_config([{"name": "cnn_lstm"}]).train.models[0]
    save_weights(folder, build(make_card(other, toy(200), [0, 1]), 1))
    with pytest.raises(InputError, match="does not hold the weights of this model"):
        load_model(folder, cpu)
