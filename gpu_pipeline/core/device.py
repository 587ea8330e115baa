"""One device, decided once, with its reason."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpu_pipeline.core.errors import EnvironmentProblem


@dataclass(frozen=True)
class DeviceChoice:
    """The device a run uses and why."""

    device: torch.device
    reason: str

    def __str__(self) -> str:
        return f"{self.device} ({self.reason})"


def choose_device(wanted: str = "auto") -> DeviceChoice:
    """Resolves `auto | cuda | cuda:N | cpu`.

    Raises:
        EnvironmentProblem: cuda was asked for and is not usable; there is no silent fallback.
    """
    usable = torch.cuda.is_available()
    if wanted == "cpu":
        return DeviceChoice(torch.device("cpu"), "asked for")
    if wanted.startswith("cuda"):
        if not usable:
            raise EnvironmentProblem(f"device: '{wanted}' was asked for, but {_why_no_cuda()}; set device: cpu or auto")
        return DeviceChoice(torch.device(wanted), f"asked for: {torch.cuda.get_device_name(wanted)}")
    if usable:
        return DeviceChoice(torch.device("cuda"), f"auto: found {torch.cuda.get_device_name()}")
    return DeviceChoice(torch.device("cpu"), f"auto: {_why_no_cuda()}")


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return "this torch is a CPU build"
    return "torch sees no CUDA device (driver or GPU missing)"
