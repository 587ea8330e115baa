"""Several training processes, started as torchrun starts them, whose errors come back as errors."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpu_pipeline.core.errors import (
    BAD_INPUT,
    BUSY,
    CHECK_FAILED,
    ENVIRONMENT,
    Busy,
    CheckFailed,
    EnvironmentProblem,
    InputError,
    PipelineError,
)

LAUNCHED = "--launched"
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
_ROOT = Path(__file__).resolve().parent.parent
_CLASSES = {CHECK_FAILED: CheckFailed, BAD_INPUT: InputError, ENVIRONMENT: EnvironmentProblem, BUSY: Busy}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Runs `python -m train ARGUMENTS` in `processes` processes of this machine, and waits for them.

    A signal that ends this process ends all of them first.

    Raises:
        PipelineError: the error of the process that failed first, of the class that its exit code names.
        RuntimeError: a process ended without an error of ours.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    with tempfile.TemporaryDirectory() as notes, _silence(), _handlers(), _environment(processes):
        try:
            elastic_launch(_settings(processes, notes), sys.executable)("-m", "train", LAUNCHED, *arguments)
        except ChildFailedError as error:
            raise _first(error.failures) from None
        except SignalException as stop:
            if stop.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(128 + stop.sigval) from None


def _settings(processes: int, notes: str) -> Any:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(notes),
    )


def _first(failures: Mapping[int, Any]) -> Exception:
    """What the first process says that was not merely ended because of another."""
    said = [failure for _, failure in sorted(failures.items()) if failure.exitcode in _CLASSES]
    if said:
        return _CLASSES[said[0].exitcode](said[0].message)
    failure = min(failures.values(), key=lambda failure: failure.timestamp)
    return RuntimeError(f"training process {failure.local_rank} ended with code {failure.exitcode}: {failure.message}")


def note_error(error: PipelineError) -> bool:
    """Leaves an error where torchrun and `launch` look for it; False where neither started this process."""
    path = os.environ.get(ERROR_FILE)
    if path:
        Path(path).write_text(json.dumps({"message": str(error), "timestamp": int(time.time())}))
    return bool(path)


@contextmanager
def _silence() -> Iterator[None]:
    """Without torchrun's own log: what went wrong is raised."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.elastic")]
    loud = [logger for logger in map(logging.getLogger, names) if not logger.disabled]
    for logger in loud:
        logger.disabled = True
    try:
        yield
    finally:
        for logger in loud:
            logger.disabled = False


@contextmanager
def _handlers() -> Iterator[None]:
    """Puts back the signal handlers that the launcher replaces."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _environment(processes: int) -> Iterator[None]:
    """Lets the children import this project from anywhere, and share the cores instead of fighting for them."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    wanted = {"PYTHONPATH": path, "OMP_NUM_THREADS": threads}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
