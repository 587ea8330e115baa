"""One optimizer step of a model on a batch of 512 windows of 64 x 128."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from bench._inputs import size
from bench._measure import Case
from gpu_pipeline.core import plugins
from train.models._dropout import sample_key
from train.models._shape import StreamShape

TESTS = "tests/conformance/test_models.py tests/train/test_device.py"
MODELS = ("cnn_lstm", "transformer")
WINDOW, FEATURES = 64, 128


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Float32, dropout on; on CUDA also compiled."""
    batch = size(device, tiny, cpu=512, cuda=512, small=16)
    for name in MODELS:
        shape = f"{batch} of {WINDOW}x{FEATURES}"
        yield Case(f"train {name}", "eager", shape, batch, "samples", step_of(name, batch, device))
        if device.type == "cuda":
            yield Case(f"train {name}", "compiled", shape, batch, "samples", step_of(name, batch, device, True))


def step_of(name: str, batch: int, device: torch.device, compiled: bool = False) -> Callable[[], torch.Tensor]:
    """A call that trains a fresh model by one step and returns the loss."""
    from train.parallel import Ranks, wrap

    torch.manual_seed(7)
    plugin = plugins.load("models", name)
    model: nn.Module = plugin.function(plugin.config(), {"bars": StreamShape(WINDOW, FEATURES)}, 2)
    model = wrap(model.to(device).train(), Ranks(device), compiled)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, target = torch.randn(batch, WINDOW, FEATURES).to(device), torch.randint(0, 2, (batch,)).to(device)
    key = sample_key(7, 0, torch.arange(batch, device=device))

    def step() -> torch.Tensor:
        loss = F.cross_entropy(model({"bars": x}, key), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step
