"""Worker processes of dask: on this machine, one per GPU, or those of a scheduler that runs already."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.core.config import EngineSection
from gpu_pipeline.core.errors import EnvironmentProblem
from gpu_pipeline.core.store import digest_code
from gpu_pipeline.core.trace import log

_PROJECT = Path(__file__).resolve().parents[2]
_CODE = ("gpu_pipeline", "kernels")
CONNECT_SECONDS = 30


@dataclass(frozen=True)
class Cluster:
    """A connected cluster.

    Attributes:
        client: dask's client.
        slots: tasks that run at a time.
        device: of the workers; each sees its own GPU as the first.
    """

    client: Any
    slots: int
    device: torch.device


@contextmanager
def open_cluster(engine: EngineSection, device: torch.device, scratch: Path, files: int) -> Iterator[Cluster]:
    """A cluster for the time of a `with` block: its workers can import this project and write to `scratch`.

    Args:
        engine: the run file's section.
        device: of the run.
        scratch: a folder that this run shares with its workers.
        files: how many files there are: more workers than that are not started.

    Raises:
        EnvironmentProblem: dask or dask-cuda is missing, the scheduler does not answer, has no workers or goes away, or
            a worker has other code, no GPU, or does not see the folder.
    """
    stack = ExitStack()
    stack.enter_context(_same_environment())
    stack.enter_context(_quiet())
    from distributed import CancelledError
    from distributed.comm import CommClosedError

    try:
        client = _client(engine, device, scratch, files, stack)
        slots = _check_workers(client, device, scratch)
        yield Cluster(client, slots, torch.device(device.type))
    except (CancelledError, CommClosedError) as error:
        raise EnvironmentProblem("engine: the cluster went away; start it again, then the same command") from error
    finally:
        with _blocked(signal.SIGINT, signal.SIGTERM):
            stack.close()


@contextmanager
def _blocked(*signals: signal.Signals) -> Iterator[None]:
    """Signals wait until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _same_environment() -> Iterator[None]:
    """Leaves the environment as it was: dask sets one thread per worker in it, which later stages would inherit."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """No lines of dask's own on the terminal, here and in the workers: what matters is raised."""
    try:
        import dask
        import distributed  # noqa: F401
    except ImportError as error:
        raise _missing("dask", error) from error
    named = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    levels = {name: logging.getLogger(name).level for name in named}
    settings = {"logging.distributed": "critical", "distributed.worker.profile.enabled": False}
    try:
        for name in named:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with dask.config.set(settings), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"distributed(\..*)?$")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _missing(package: str, error: ImportError) -> EnvironmentProblem:
    return EnvironmentProblem(f"engine: {package} is not installed ({error}); run make venv, or set engine: null")


def _client(engine: EngineSection, device: torch.device, scratch: Path, files: int, stack: ExitStack) -> Any:
    from distributed import Client

    if engine.scheduler:
        client = _connected(engine.scheduler, stack)
        log.info("engine: dask, the workers of %s", engine.scheduler)
        return client
    # It unblocks signals in the thread that starts it, so it must run before the first worker is made.
    resource_tracker.ensure_running()
    # Workers inherit the blocked signal: Ctrl-C is for this process alone, which closes them.
    with _blocked(signal.SIGINT):
        try:
            local = stack.enter_context(_local_cluster(engine, device, scratch, files))
        except RuntimeError as error:
            rule = f"engine: worker processes do not start ({error})"
            fix = "in a script of your own, put the call under if __name__ == '__main__', as multiprocessing demands"
            raise EnvironmentProblem(f"{rule}; {fix}") from error
        count = len(local.workers)
        log.info("engine: dask, %d worker%s on this machine", count, "" if count == 1 else "s")
        return stack.enter_context(Client(local, set_as_default=False))


def _connected(address: str, stack: ExitStack) -> Any:
    from distributed import Client

    try:
        client = stack.enter_context(Client(address, set_as_default=False, timeout=CONNECT_SECONDS))
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError as error:
        raise EnvironmentProblem(f"engine.scheduler: {address} has no workers; start some there") from error
    except (OSError, ValueError) as error:
        rule = f"engine.scheduler: nothing answers at {address} ({str(error).splitlines()[0]})"
        raise EnvironmentProblem(f"{rule}; start it with dask scheduler, or leave scheduler out") from error
    return client


def _local_cluster(engine: EngineSection, device: torch.device, scratch: Path, files: int) -> Any:
    options = {
        "threads_per_worker": engine.threads_per_worker,
        "dashboard_address": None,
        # Even without a dashboard dask listens for statistics, by default on one port for all clusters of a machine.
        "scheduler_kwargs": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "silence_logs": logging.CRITICAL,
        "local_directory": str(scratch / "workers"),
        # Tasks hold a few row groups each; a limit would only kill them where page cache counts as theirs.
        "memory_limit": 0,
    }
    if device.type == "cuda":
        return _cuda_cluster(engine, device, files, options)
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    cores = max(1, CPU_COUNT // engine.threads_per_worker)
    return LocalCluster(n_workers=min(cores if engine.workers == "auto" else engine.workers, files), **options)


def _cuda_cluster(engine: EngineSection, device: torch.device, files: int, options: dict[str, Any]) -> Any:
    """One worker per GPU; `device: cuda:1` names the only one."""
    try:
        from dask_cuda import LocalCUDACluster
        from dask_cuda.utils import cuda_visible_devices
    except ImportError as error:
        raise _missing("dask-cuda", error) from error
    visible = str(cuda_visible_devices(0)).split(",")
    gpus = visible if device.index is None else visible[device.index : device.index + 1]
    workers = len(gpus) if engine.workers == "auto" else engine.workers
    if workers > len(gpus):
        raise EnvironmentProblem(f"engine.workers: {workers} workers, but {len(gpus)} GPUs; one worker takes one GPU")
    return LocalCUDACluster(CUDA_VISIBLE_DEVICES=gpus, n_workers=min(workers, files), **options)


@dataclass(frozen=True)
class Answer:
    """What a worker says of itself."""

    code: str
    sees_folder: bool
    has_cuda: bool


def probe(folder: str) -> Answer:
    """Runs on every worker."""
    code = digest_code([_PROJECT / name for name in _CODE])
    return Answer(code, os.access(folder, os.W_OK), torch.cuda.is_available())


def _on_workers(client: Any, folder: str) -> dict[str, Answer]:
    return dict(client.run(probe, folder))


def _check_workers(client: Any, device: torch.device, scratch: Path) -> int:
    """How many tasks the workers run at a time."""
    from distributed.comm import CommClosedError

    own = probe(str(scratch))
    try:
        answers = _on_workers(client, str(scratch))
    except CommClosedError:
        raise
    except Exception as error:  # dask hands on what a worker raised while it looked for the code as a bare Exception
        rule = f"engine: a worker cannot run this project's code ({str(error).splitlines()[0]})"
        raise EnvironmentProblem(f"{rule}; install the same version where the workers run") from error
    for worker, answer in answers.items():
        wrong = _what_lacks(answer, own, device, scratch)
        if wrong:
            raise EnvironmentProblem(f"engine: worker {worker} {wrong}")
    return int(sum(client.nthreads().values()))


def _what_lacks(answer: Answer, own: Answer, device: torch.device, scratch: Path) -> str | None:
    if answer.code != own.code:
        return "has another version of this project; install the same one, and start the workers again"
    if not answer.sees_folder:
        return f"cannot write to {scratch}; choose a folder for runs that all workers share"
    if device.type == "cuda" and not answer.has_cuda:
        return "sees no CUDA device; start workers with dask cuda worker, or set device: cpu"
    return None
