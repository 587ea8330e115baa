"""Our side of a peer's process: it is started, asked, and stopped when nobody holds it any more."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench._measure import ROOT

# How libraries of peers are told to use as many threads as we do.
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


class PeerFailed(Exception):
    """A peer's process ended, or could not do what it was asked."""


class Worker:
    """A peer's process."""

    def __init__(self, module: str, python: Path, threads: int) -> None:
        self.name = module.rsplit(".", 1)[-1]
        self.versions: dict[str, str] = {}
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [str(python), "-m", "bench.peers._worker", module],
            cwd=ROOT,
            env=_environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        self.stop = weakref.finalize(self, _stop, self._process, self._said)

    def open(self, path: Path, threshold: int) -> None:
        """Loads the trades of a file, instead of those loaded before, and prepares all calls."""
        self.versions = self._ask(do="open", path=str(path), threshold=threshold)["versions"]

    def table(self, call: str) -> dict[str, list[Any]]:
        """The bars of one call as columns."""
        return self._ask(do="table", call=call)["columns"]

    def call(self, name: str) -> RemoteCall:
        """A call to be timed there."""
        return RemoteCall(self, name)

    def seconds(self, call: str) -> float:
        """Runs a call once; seconds by the process's own clock."""
        return float(self._ask(do="time", call=call)["seconds"])

    def peak_mib(self, call: str) -> float:
        """Runs a call once; its peak memory in the process."""
        return float(self._ask(do="peak", call=call)["mib"])

    def _ask(self, **request: object) -> dict[str, Any]:
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        if not line:
            raise PeerFailed(f"{self.name}: its process ended at {request}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerFailed(f"{self.name}: {request}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        if self._said.closed:
            return "it was stopped"
        self._process.wait()
        self._said.seek(0)
        return (self._said.read().strip().splitlines() or [f"code {self._process.returncode}, nothing said"])[-1]


@dataclass(frozen=True)
class RemoteCall:
    """One call of a peer, as `bench._measure.Elsewhere` wants it; it keeps the process alive."""

    worker: Worker
    name: str

    def seconds(self) -> float:
        """Runs it once there."""
        return self.worker.seconds(self.name)

    def peak_mib(self) -> float:
        """Runs it once there; its peak memory."""
        return self.worker.peak_mib(self.name)


def _environment(threads: int) -> dict[str, str]:
    """Ours, without what would let a peer see our packages, or run in the CUDA simulator."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NUMBA_", "VIRTUAL_"))}
    return kept | dict.fromkeys(THREADS, str(threads))


def _stop(process: subprocess.Popen[str], said: Any) -> None:
    with suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    said.close()
