"""One process or several: who this process is, sums over all of them, and how a model is compiled and wrapped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gpu_pipeline.core.device import choose_device
from gpu_pipeline.core.errors import EnvironmentProblem


@dataclass(frozen=True)
class Ranks:
    """This process among all that train together.

    Attributes:
        device: where this process computes.
        rank: its number, 0 writes.
        world: how many there are.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The same-shaped sum of `values` over all processes."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def from_first(self, value: Any) -> Any:
        """What process 0 holds as `value`."""
        if self.world == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0, device=self.device)
        return held[0]


@contextmanager
def start(wanted: str) -> Iterator[Ranks]:
    """Joins the processes that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK), or stands alone without it.

    NCCL on cuda, where process r of a machine uses GPU r; gloo on the CPU.

    Raises:
        EnvironmentProblem: there are more processes than GPUs, or the device asked for is not usable.
    """
    rank, world, local = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
    device = _device(wanted, local, world)
    if world == 1:
        yield Ranks(device)
        return
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", device_id=device if device.type == "cuda" else None
    )
    try:
        yield Ranks(device, rank, world)
    finally:
        dist.destroy_process_group()


_TORCHRUN = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))


def _device(wanted: str, local: int, world: int) -> torch.device:
    device = choose_device(wanted).device
    if device.type != "cuda" or world == 1:
        return device
    if local >= torch.cuda.device_count():
        raise EnvironmentProblem(
            f"process {local} has no GPU: this machine has {torch.cuda.device_count()}; "
            f"start torchrun with --nproc-per-node={torch.cuda.device_count()}, or set device=cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def wrap(model: nn.Module, ranks: Ranks, compiled: bool) -> nn.Module:
    """Compiles everything but recurrent layers, then averages gradients over processes.

    Dynamo does not compile LSTM and GRU, and cuDNN's are as fast. The names of the parameters stay as they are.
    """
    if compiled:
        for part in model.modules():
            if isinstance(part, nn.RNNBase):
                part.forward = torch.compiler.disable(part.forward)
        model.compile()
    if ranks.world == 1:
        return model
    return DistributedDataParallel(model, device_ids=[ranks.device] if ranks.device.type == "cuda" else None)
