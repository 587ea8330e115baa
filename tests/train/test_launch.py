"""Several processes: their error comes back as an error, a signal leaves none of them behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpu_pipeline.core.errors import Busy, InputError
from gpu_pipeline.core.runfile import write_yaml
from train.launch import ERROR_FILE, _first, launch, note_error

ROOT = Path(__file__).resolve().parents[2]
PATIENT = 120


class Failure:
    """What torchrun tells of a process."""

    def __init__(self, exitcode: int, message: str, timestamp: int = 0) -> None:
        self.exitcode, self.message, self.timestamp, self.local_rank = exitcode, message, timestamp, 0


@pytest.fixture
def run_file(run_values, tmp_path):
    file = tmp_path / "toy.yaml"
    file.write_text(write_yaml(run_values()))
    return file


def test_the_error_of_a_process_is_raised_here_and_printed_nowhere(run_file, capfd, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InputError, match="there is no finished dataset; run: gpu-pipeline run"):
        launch(2, [str(run_file)])
    assert capfd.readouterr() == ("", "")
    assert signal.getsignal(signal.SIGTERM) is handler
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "PYTHONPATH" not in os.environ


def test_the_first_process_that_says_something_is_heard():
    ended = Failure(-15, "Signal 15 received")
    assert str(_first({0: ended, 1: Failure(2, "too few samples"), 2: Failure(2, "later")})) == "too few samples"
    assert isinstance(_first({0: Failure(4, "held"), 1: ended}), Busy)
    killed = _first({0: Failure(-9, "Signal 9 (SIGKILL)", 3), 1: Failure(5, "no word", 4)})
    assert isinstance(killed, RuntimeError)
    assert "ended with code -9: Signal 9 (SIGKILL)" in str(killed)


def test_an_error_is_noted_only_for_who_asks(tmp_path, monkeypatch):
    monkeypatch.delenv(ERROR_FILE, raising=False)
    assert not note_error(InputError("no"))
    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "error.json"))
    assert note_error(InputError("no"))
    assert '"message": "no"' in (tmp_path / "error.json").read_text()


def processes_of(word: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            called = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"train" in called and word.encode() in called:
            found.append(int(folder.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc to see the processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_them(number, run_file, stored, toy, tmp_path):
    stored(toy(400), tmp_path / "runs")
    wanted = [str(run_file), "train.epochs=100000", "train.patience=null"]
    code = f"from train.launch import launch\nlaunch(2, {wanted})"
    here = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    curves, until = tmp_path / "runs" / "toy" / "tensorboard" / "cnn_lstm", time.monotonic() + PATIENT
    while not curves.is_dir() and time.monotonic() < until:
        time.sleep(0.1)
    assert len(processes_of(str(run_file))) == 2
    here.send_signal(number)
    assert here.wait(PATIENT) in (128 + number, -number)
    assert processes_of(str(run_file)) == []
    assert list((tmp_path / "runs" / ".store" / "train").iterdir()) == []
