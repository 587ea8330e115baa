"""Every model: several streams, any window, samples that do not know each other, dropout that belongs to the sample."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from gpu_pipeline.core import plugins
from train.models._dropout import sample_key
from train.models._shape import StreamShape

NAMES = plugins.names("models")
CHANNELS = ("bid_price", "bid_quantity", "ask_price", "ask_quantity")


def book_shape(window: int, levels: int, assets: Sequence[str] = ("",)) -> StreamShape:
    """A book as the dataset names its columns: [levels, channels, assets], the last one fastest."""
    columns = tuple(f"{name}_{level}{asset}" for level in range(levels) for name in CHANNELS for asset in assets)
    return StreamShape(window, len(columns), columns)


SHAPES = {"bars": StreamShape(17, 5), "book": book_shape(9, 3)}


def build(name: str, shapes=SHAPES, classes: int = 3, seed: int = 1, **options):
    plugin = plugins.load("models", name)
    torch.manual_seed(seed)
    return plugin.function(plugin.config(**options), shapes, classes)


def windows(samples: int, shapes=SHAPES, seed: int = 2):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(samples, shape.window, shape.features, generator=generator) for name, shape in shapes.items()
    }


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("window", [1, 2, 3, 64])
@pytest.mark.parametrize("samples", [1, 7])
def test_logits_of_any_window(name, window, samples):
    shapes = {"bars": StreamShape(window, 2)}
    logits = build(name, shapes, classes=2)(windows(samples, shapes), None)
    assert logits.shape == (samples, 2)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("assets", [("",), ("_A",), ("_A", "_B", "_C")])
@pytest.mark.parametrize("levels", [1, 2, 5, 11])
def test_logits_of_any_book(name, levels, assets):
    shapes = {"book": book_shape(6, levels, assets)}
    logits = build(name, shapes, classes=4)(windows(3, shapes), None)
    assert logits.shape == (3, 4)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_learns_from_every_stream(name):
    model = build(name)
    model(windows(8), sample_key(1, 2, torch.arange(8)))[:, 0].sum().backward()
    idle = [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not idle


@pytest.mark.parametrize("name", NAMES)
def test_samples_do_not_know_each_other(name):
    model, inputs, key = build(name).train(), windows(6), sample_key(1, 2, torch.arange(6))
    together = model(inputs, key)
    alone = torch.cat([model({k: v[i : i + 1] for k, v in inputs.items()}, key[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert not list(model.buffers())


@pytest.mark.parametrize("name", NAMES)
def test_dropout_acts_only_with_a_key(name):
    model, inputs = build(name, dropout=0.5).train(), windows(6)
    plain = model(inputs, None)
    assert torch.equal(plain, model.eval()(inputs, None))
    first, again = (model(inputs, sample_key(1, 2, torch.arange(6))) for _ in range(2))
    other = model(inputs, sample_key(1, 3, torch.arange(6)))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).all(1).any()
    assert not torch.isclose(first, plain).all(1).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stream", list(SHAPES))
def test_the_last_row_of_each_stream_matters(name, stream):
    model, inputs = build(name), windows(3)
    before = model(inputs, None)
    inputs[stream][:, -1] += 1
    assert not torch.isclose(before, model(inputs, None)).any()


@pytest.mark.parametrize("name", NAMES)
def test_weights_come_from_the_generator(name):
    one, same, other = (build(name, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", NAMES)
def test_runs_in_bfloat16(name):
    model, inputs = build(name), windows(5)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = model(inputs, sample_key(1, 2, torch.arange(5)))
    full = model(inputs, sample_key(1, 2, torch.arange(5)))
    torch.testing.assert_close(reduced.float(), full, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_are_errors(name):
    with pytest.raises(ValueError, match="no_such_option"):
        plugins.load("models", name).config(no_such_option=1)


def test_transformer_needs_whole_heads():
    with pytest.raises(ValueError, match="width 30 is not a multiple of heads 4"):
        plugins.load("models", "transformer").config(width=30)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("default")
def test_compiled_gives_the_same_logits(name):
    from train.parallel import Ranks, wrap

    model, inputs = build(name), windows(8)
    key = sample_key(1, 2, torch.arange(8))
    plain = [model(inputs, key), model(inputs, None)]
    compiled = wrap(model, Ranks(torch.device("cpu")), compiled=True)
    for expected, given in zip(plain, (key, None), strict=True):
        torch.testing.assert_close(compiled(inputs, given), expected, rtol=1e-4, atol=1e-5)
    assert all(not name.startswith("_orig_mod") for name in model.state_dict())
