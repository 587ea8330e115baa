"""The command line as its user meets it: exit codes, one-line errors, nothing half-written."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_pipeline import cli
from gpu_pipeline.core.errors import EnvironmentProblem
from gpu_pipeline.core.runfile import write_yaml
from gpu_pipeline.core.store import Store

ROOT = Path(__file__).resolve().parent.parent
ROWS = [
    f"{n},{100 + n % 7}.{n % 10},0.5,{50},{1_700_000_000_000 + n * 1000},{'true' if n % 2 else 'false'},true"
    for n in range(50)
]


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, "-m", "gpu_pipeline", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run_file(folder: Path, **sections: object) -> str:
    values = {
        "name": "t",
        "device": "cpu",
        "symbols": ["BTCUSDT"],
        "ingest": {"trades": {"source": "binance", "path": "in/BTCUSDT-trades-*"}},
        "bars": {"type": "dollar", "threshold": 200},
        **sections,
    }
    (folder / "run.yaml").write_text(write_yaml(values))
    return "run.yaml"


def zip_of(path: Path, rows: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.with_suffix(".csv").name, "\n".join(rows) + "\n")
    return path


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The error line; what a log says while running does not count."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line[:8].replace(":", "").isdigit()]
    assert len(lines) == 1, done.stderr
    return lines[0]


def finished_outputs(folder: Path) -> list[Path]:
    return [path for path in (folder / "runs" / ".store").glob("*/*") if path.parent.name not in ("digests", "locks")]


def test_six_mistakes_are_six_lines_and_code_2(tmp_path: Path) -> None:
    file = run_file(
        tmp_path,
        devise="cpu",
        seed=-1,
        bars={"type": "dolar"},
        labels={"up": {"name": "triple_barrier", "take_profit": -1.0}},
        evaluate={"confidence": 2},
        book={"form": "snapshot"},
    )
    done = command(tmp_path, "run", file)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 6, done.stderr
    assert all(line.startswith("run.yaml: ") for line in lines)
    assert not (tmp_path / "runs").exists()


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    line = one_line(command(tmp_path, "run", run_file(tmp_path)), 2)
    assert "in/BTCUSDT-trades-*" in line
    assert finished_outputs(tmp_path) == []


def test_a_truncated_zip_is_one_line(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "in" / "BTCUSDT-trades-2023-11.zip", ROWS)
    path.write_bytes(path.read_bytes()[:-60])
    line = one_line(command(tmp_path, "run", run_file(tmp_path)), 2)
    assert "BTCUSDT-trades-2023-11.zip" in line
    assert finished_outputs(tmp_path) == []


def test_a_wrong_checksum_is_one_line(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "in" / "BTCUSDT-trades-2023-11.zip", ROWS)
    Path(f"{path}.CHECKSUM").write_text(f"{hashlib.sha256(b'other').hexdigest()}  {path.name}\n")
    line = one_line(command(tmp_path, "run", run_file(tmp_path)), 2)
    assert "BTCUSDT-trades-2023-11.zip" in line and "sha256" in line.lower()
    assert finished_outputs(tmp_path) == []


def test_a_nan_price_names_file_row_and_value(tmp_path: Path) -> None:
    rows = [*ROWS]
    rows[20] = rows[20].replace(rows[20].split(",")[1], "NaN", 1)
    zip_of(tmp_path / "in" / "BTCUSDT-trades-2023-11.zip", rows)
    line = one_line(command(tmp_path, "run", run_file(tmp_path)), 2)
    assert "BTCUSDT-trades-2023-11.zip" in line and "row 21" in line and "nan" in line.lower()
    assert finished_outputs(tmp_path) == []


def test_an_unknown_stage_names_the_nearest(tmp_path: Path) -> None:
    assert "did you mean 'bars'?" in one_line(command(tmp_path, "run", run_file(tmp_path), "--to", "bar"), 2)


def test_a_device_that_is_not_there_is_an_environment_error(tmp_path: Path) -> None:
    zip_of(tmp_path / "in" / "BTCUSDT-trades-2023-11.zip", ROWS)
    line = one_line(command(tmp_path, "run", run_file(tmp_path), "device=cuda"), 3)
    assert "set device: cpu or auto" in line


def test_a_run_held_by_another_process_is_code_4(tmp_path: Path) -> None:
    from gpu_pipeline.core.store import lock

    zip_of(tmp_path / "in" / "BTCUSDT-trades-2023-11.zip", ROWS)
    with lock(tmp_path / "runs" / "t"):
        assert "another process holds this run" in one_line(command(tmp_path, "run", run_file(tmp_path)), 4)


def test_stages_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    done = command(tmp_path, "run", run_file(tmp_path), "--from", "train", "--to", "bars", "ingest.trades.path=x")
    assert "--from train lies after --to bars" in one_line(done, 2)


def test_an_impossible_date_is_one_line(tmp_path: Path) -> None:
    done = command(tmp_path, "validate", run_file(tmp_path), "ingest.trades.start=2024-13-01")
    assert "month must be in 1..12" in one_line(done, 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_so_and_leaves_nothing_half(tmp_path: Path, number: signal.Signals) -> None:
    name = run_file(tmp_path, ingest={"trades": {"source": "simulated", "trades": 20_000_000}})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "gpu_pipeline", "run", name],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        _wait_for(lambda: "ingest: running" in _log_of(tmp_path))
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    done = subprocess.CompletedProcess(process.args, process.returncode, "", told)
    assert one_line(done, 128 + number) == "stopped; the same command goes on where it was"
    assert finished_outputs(tmp_path) == []
    assert "KeyboardInterrupt" in _log_of(tmp_path) or "SystemExit" in _log_of(tmp_path)


def _log_of(folder: Path) -> str:
    file = folder / "runs" / "t" / "log.txt"
    return file.read_text() if file.is_file() else ""


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_an_unreadable_file_is_an_environment_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot be read"):
        Store(tmp_path).digest_input(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the machine refused (OSError: [Errno 28] No space left"),
        (MemoryError(), "the machine refused (MemoryError"),
        (RuntimeError("cannot cache function 'f': no locator available for file 'x'"), "set NUMBA_CACHE_DIR"),
    ],
)
def test_what_the_machine_refuses_is_an_environment_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, told: str
) -> None:
    def refused(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", refused)
    monkeypatch.setattr(cli, "_log_to_terminal", lambda: None)
    assert cli.main([]) == 3
    assert told in capsys.readouterr().err


def test_a_run_of_bars_says_what_it_did_and_does_it_once(tmp_path: Path) -> None:
    zip_of(tmp_path / "in" / "BTCUSDT-trades-2023-11.zip", ROWS)
    first = command(tmp_path, "run", run_file(tmp_path), "--to", "bars")
    assert first.returncode == 0, first.stderr
    assert "results: runs/t" in first.stdout
    assert (tmp_path / "runs" / "t" / "bars" / "manifest.json").is_file()
    again = command(tmp_path, "bars", "run.yaml")
    assert again.returncode == 0
    assert again.stdout.count("unchanged, not run again") == 2
    other = command(tmp_path, "bars", "run.yaml", "bars.threshold=400")
    assert other.stdout.count("unchanged, not run again") == 1


def test_validate_checks_and_runs_nothing(tmp_path: Path) -> None:
    zip_of(tmp_path / "in" / "BTCUSDT-trades-2023-11.zip", ROWS)
    done = command(tmp_path, "validate", run_file(tmp_path))
    assert done.returncode == 0 and "ok, 1 input file" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_list_names_plugins_and_info_names_ops(tmp_path: Path) -> None:
    listed = command(tmp_path, "list", "bars")
    assert listed.returncode == 0 and "dollar" in listed.stdout and "time" in listed.stdout
    told = command(tmp_path, "info")
    assert told.returncode == 0 and "reset_ends" in told.stdout and "torch" in told.stdout
    assert "there are" in one_line(command(tmp_path, "list", "modles"), 2)


@pytest.mark.parametrize(
    "name", ["run", "tune", "select", "report", "validate", "list", "download", "info", "ingest", "train"]
)
def test_every_command_has_help(tmp_path: Path, name: str) -> None:
    done = command(tmp_path, name, "--help")
    assert done.returncode == 0 and "Usage" in done.stdout


def test_the_installed_script_is_the_command() -> None:
    script = Path(sys.executable).parent / "gpu-pipeline"
    if not script.exists() and shutil.which("gpu-pipeline") is None:
        pytest.skip("the project is not installed in this interpreter")
    done = subprocess.run([str(script), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
