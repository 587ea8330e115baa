"""`engine: dask` with real worker processes: the bytes of a single process, also where workers die or one stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from gpu_pipeline import pipeline
from gpu_pipeline.bars import _stage
from gpu_pipeline.core.config import check_config
from gpu_pipeline.core.errors import BUSY, ENVIRONMENT, EnvironmentProblem
from gpu_pipeline.core.runfile import write_yaml
from gpu_pipeline.core.schema import Symbol, Trades
from gpu_pipeline.core.store import digest_file
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.ingest import _stage as ingest_stage
from gpu_pipeline.ingest import _trade_files

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SYMBOLS = ["BTCUSDT", "ETHUSDT"]


def values_of(folder: Path, **changes: Any) -> dict[str, Any]:
    """Two symbols, January to March, a chain of thresholds, time bars."""
    return {
        "name": "many",
        "device": "cpu",
        "runs": str(folder / "runs"),
        "symbols": SYMBOLS,
        "ingest": {"trades": {"source": "simulated", "trades": 80_000, "trades_per_day": 1_000}},
        "bars": {
            "type": "dollar",
            "threshold": 40_000,
            "resolutions": {"medium": 10, "wide": {"threshold": 400_000}},
            "time": ["4hour"],
        },
        **changes,
    }


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest_file(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Run:
    folder = tmp_path_factory.mktemp("alone")
    return pipeline.run(check_config(values_of(folder)), Trace(), last="bars")


def test_a_run_on_two_workers_writes_the_same_bytes(
    tmp_path: Path, alone: pipeline.Run, capfd: pytest.CaptureFixture[str]
) -> None:
    environment = dict(os.environ)
    config = check_config(values_of(tmp_path, engine={"name": "dask", "workers": 2}))
    done = pipeline.run(config, Trace(), last="bars")
    assert dict(os.environ) == environment, "what later stages start inherits no thread count of a worker's"
    bars = done.outputs["bars"]
    assert bars.key == alone.outputs["bars"].key, "the engine is no part of what is made"
    assert digests(bars.path) == digests(alone.outputs["bars"].path)
    assert len(list(bars.path.rglob("*.parquet"))) == 24
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert workers_of(os.getpid()) == []


def workers_of(process: int) -> list[psutil.Process]:
    """Worker processes below a process; multiprocessing's own helper ends with its parent, other tests have servers."""
    children = psutil.Process(process).children(recursive=True)
    lines = [(child, " ".join(child.cmdline())) for child in children]
    return [child for child, line in lines if "python" in line and "resource_tracker" not in line]


def deadly(
    file: Any, symbol: Symbol, device: torch.device, columns: Sequence[str] | None = None, *, graves: Path, lives: int
) -> Iterator[Trades]:
    """Reads, but kills its process in the middle of a file as often as `lives` says."""
    for number, chunk in enumerate(_trade_files.read_file(file, symbol, device, columns)):
        yield chunk
        if number == 0 and file.month[1] == 2 and len(list(graves.iterdir())) < lives:
            (graves / f"{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)


def stage(folder: Path, alone: pipeline.Run, graves: Path, lives: int) -> dict[str, Any]:
    graves.mkdir()
    clean = alone.outputs["ingest"].path
    config = check_config(values_of(folder, engine={"name": "dask", "workers": 2}))
    read = partial(deadly, graves=graves, lives=lives)
    return _stage.write(folder, config, alone.symbols(), partial(ingest_stage.trade_files, clean), read, CPU, Trace())


@pytest.mark.slow
def test_a_killed_worker_costs_time_alone(tmp_path: Path, alone: pipeline.Run) -> None:
    said = stage(tmp_path / "bars", alone, tmp_path / "graves", lives=1)
    assert len(list((tmp_path / "graves").iterdir())) == 1
    expected = alone.outputs["bars"]
    assert {name: said[name] for name in said} == {name: expected.manifest[name] for name in said}
    files = digests(expected.path)
    files.pop("manifest.json")
    assert digests(tmp_path / "bars") == files


@pytest.mark.slow
def test_workers_that_always_die_end_the_run_with_one_line(tmp_path: Path, alone: pipeline.Run) -> None:
    rule = r"engine: workers died again and again over \w+ 2024-02 \(killed, or out of memory\); give fewer workers"
    with pytest.raises(EnvironmentProblem, match=rule) as caught:
        stage(tmp_path / "bars", alone, tmp_path / "graves", lives=10**9)
    assert caught.value.exit_code == ENVIRONMENT != BUSY
    assert workers_of(os.getpid()) == []


def test_a_stopped_run_says_one_word_and_leaves_no_worker(tmp_path: Path) -> None:
    values = values_of(tmp_path, engine={"name": "dask", "workers": 1})
    (tmp_path / "run.yaml").write_text(write_yaml(values))
    command = [sys.executable, "-m", "gpu_pipeline", "run", str(tmp_path / "run.yaml"), "--to", "bars"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, text=True, stderr=subprocess.PIPE, start_new_session=True, cwd=tmp_path
    ) as process:
        assert process.stderr is not None
        heard = []
        for line in process.stderr:
            heard.append(line)
            if "engine: dask, 1 worker" in line:
                break
        workers = workers_of(process.pid)
        # As a terminal does it: the whole foreground group hears Ctrl-C, workers too.
        os.killpg(process.pid, signal.SIGINT)
        heard += process.stderr.readlines()
    assert (process.returncode, len(workers)) == (130, 1)
    assert "stopped; the same command goes on where it was" in heard[-1]
    assert len(heard) <= 5, heard
    assert not list((tmp_path / "runs" / ".store" / "bars").glob(".*"))
    wait_gone(workers)


def wait_gone(processes: list[psutil.Process], seconds: float = 10.0) -> None:
    _, left = psutil.wait_procs(processes, timeout=seconds)
    assert not left
