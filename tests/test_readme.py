"""The README's tree and commands are the project's."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench._record import quantity

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def tree() -> list[str]:
    text = next(block for block in blocks("text") if block.startswith("README.md"))
    folder, paths = "", []
    for line in text.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name if name.endswith("/") else ""
            paths.append(name)
        else:
            paths.append(folder + name)
    return paths


@pytest.mark.parametrize("path", tree())
def test_the_tree_is_real(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_tree_is_complete() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    tops = {name.split("/")[0] + ("/" if "/" in name else "") for name in tracked if not name.startswith(".")}
    rooms = {"/".join(name.split("/")[:2]) + "/" for name in tracked if re.match(r"(gpu_pipeline|train)/[a-z]+/", name)}
    assert (tops | rooms) - set(tree()) == set()


def commands() -> list[str]:
    return [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines() if line.strip()]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"^make ([a-z]+)|`make ([a-z]+)`", README, re.M))
    named = {name for pair in named for name in pair if name}
    assert named and named <= targets


@pytest.mark.parametrize("command", [text for text in commands() if "gpu-pipeline" in text])
def test_every_command_parses(command: str) -> None:
    words = command.split()
    assert words[0] == ".venv/bin/gpu-pipeline"
    done = subprocess.run(
        [sys.executable, "-m", "gpu_pipeline", words[1], "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    for option in (word for word in words if word.startswith("--")):
        assert option in done.stdout
    for word in words[2:]:
        if word.endswith(".yaml"):
            assert (ROOT / word).is_file()


def test_the_python_block_names_what_exists() -> None:
    import gpu_pipeline as gp

    for name in re.findall(r"gp\.(\w+)\(", "\n".join(blocks("python"))):
        assert callable(getattr(gp, name)), name


def test_figures_come_from_records() -> None:
    """Every row of the first table of results is a record in bench/results, with its median."""
    recorded = set()
    for path in (ROOT / "bench" / "results").glob("*.csv"):
        with path.open() as file:
            for row in csv.DictReader(file):
                median = f"{quantity(float(row['p50'])).strip()} {row['unit']}"
                recorded.add((row["op"], row["implementation"], row["shape"], median))
    table = README[README.index("| what |") : README.index("What the gates say")]
    rows = [
        tuple(cell.strip() for cell in line.strip("| ").split(" | "))
        for line in table.splitlines()[2:]
        if line[:1] == "|"
    ]
    assert len(rows) > 10
    assert set(rows) - recorded == set()
