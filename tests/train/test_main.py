"""`python -m train`: one process, two processes, and what it says when it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gpu_pipeline.core.runfile import write_yaml
from train.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_file(run_values, tmp_path):
    def write(**sections) -> Path:
        file = tmp_path / "toy.yaml"
        file.write_text(write_yaml(run_values(**sections)))
        return file

    return write


def command(processes: int, *arguments: str) -> subprocess.CompletedProcess:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return subprocess.run(
        [sys.executable, *torchrun, "-m", "train", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


CNN_LSTM = {"name": "cnn_lstm", "channels": 8, "hidden": 8, "dropout": 0.2}
TRANSFORMER = {"name": "transformer", "width": 16, "heads": 2, "layers": 1, "dropout": 0.2}


@pytest.mark.parametrize(("model", "weights"), [(CNN_LSTM, "none"), (TRANSFORMER, "balanced")])
def test_two_processes_give_the_losses_of_one(model, weights, run_file, stored, toy, tmp_path):
    settings = {"models": [model], "batch_size": 50, "epochs": 3, "class_weights": weights}
    file, steps, history = run_file(train=settings), {}, {}
    for processes in (1, 2):
        runs = tmp_path / f"runs{processes}"
        stored(toy(1300, classes=3), runs)
        done = command(processes, str(file), f"runs={runs}")
        assert done.returncode == 0, done.stderr
        folder = runs / "toy" / "models" / model["name"]
        steps[processes] = pq.read_table(folder / "steps.parquet")["loss"].to_numpy()
        history[processes] = pq.read_table(folder / "history.parquet").to_pandas()
    assert len(steps[1]) >= 50
    np.testing.assert_allclose(steps[2][:50], steps[1][:50], rtol=1e-5)
    assert not np.array_equal(steps[2], steps[1])
    for column in ("validation_loss", "validation_auc"):
        np.testing.assert_allclose(history[2][column], history[1][column], rtol=1e-4)


def test_one_process_says_where_the_model_is(run_file, stored, toy, tmp_path):
    stored(toy(400), tmp_path / "runs")
    done = command(1, str(run_file()), "train.epochs=1")
    assert done.returncode == 0, done.stderr
    assert "cnn_lstm: epoch 1, validation loss" in done.stderr
    assert (tmp_path / "runs" / "toy" / "models" / "cnn_lstm" / "best.safetensors").is_file()


def test_a_missing_dataset_ends_with_the_command(run_file, capsys):
    file = run_file()
    assert main([str(file)]) == 2
    assert f"there is no finished dataset; run: gpu-pipeline run {file} --to dataset" in capsys.readouterr().err


def test_mistakes_in_the_run_file_end_with_code_2(run_file, capsys):
    assert main([str(run_file()), "train.epoch=3", "train.batch_size=0"]) == 2
    lines = capsys.readouterr().err
    assert "train.epoch: unknown key (value 3); did you mean 'epochs'?" in lines
    assert "train.batch_size" in lines


def test_a_gpu_that_is_not_there_ends_with_code_3(run_file, stored, toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    stored(toy(400), tmp_path / "runs")
    assert main([str(run_file()), "device=cuda"]) == 3
    assert "'cuda' was asked for" in capsys.readouterr().err


def test_more_processes_than_gpus_ends_with_code_3(run_file, stored, toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda *_: "a GPU")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    stored(toy(400), tmp_path / "runs")
    assert main([str(run_file()), "device=auto"]) == 3
    assert "process 1 has no GPU: this machine has 1; start torchrun with" in capsys.readouterr().err
