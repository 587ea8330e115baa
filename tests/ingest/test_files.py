from __future__ import annotations

from pathlib import Path

import pytest

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.ingest._files import resolve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b/BTCUSDT-2.csv",
        "b/BTCUSDT-1.csv",
        "b/ETHUSDT-1.csv",
        "a/btcusdt.csv",
        "a/note.txt",
        "a/.hidden.csv",
        "a/x.csv.part",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    return tmp_path


def names(folder: Path, *paths: str, symbol: str = "BTCUSDT") -> list[str]:
    patterns = [str(folder / path) for path in paths]
    found = resolve(patterns[0] if len(patterns) == 1 else patterns, symbol, (".csv",))
    return [str(path.relative_to(folder)) for path in found]


def test_files_folders_globs_and_lists(folder: Path) -> None:
    assert names(folder, "b/BTCUSDT-2.csv") == ["b/BTCUSDT-2.csv"]
    assert names(folder, "") == ["a/btcusdt.csv", "b/BTCUSDT-1.csv", "b/BTCUSDT-2.csv", "b/ETHUSDT-1.csv"]
    assert names(folder, "*/*.csv") == ["a/btcusdt.csv", "b/BTCUSDT-1.csv", "b/BTCUSDT-2.csv", "b/ETHUSDT-1.csv"]
    assert names(folder, "**/BTC*") == ["b/BTCUSDT-1.csv", "b/BTCUSDT-2.csv"]
    assert names(folder, "b/BTCUSDT-2.csv", "a") == ["b/BTCUSDT-2.csv", "a/btcusdt.csv"]


def test_the_symbol_in_the_path(folder: Path) -> None:
    assert names(folder, "b/{SYMBOL}-1.csv") == ["b/BTCUSDT-1.csv"]
    assert names(folder, "b/{SYMBOL}-*.csv", symbol="ETHUSDT") == ["b/ETHUSDT-1.csv"]
    assert names(folder, "a/{symbol}.csv") == ["a/btcusdt.csv"]


def test_an_explicit_file_may_have_any_ending(folder: Path) -> None:
    assert names(folder, "a/note.txt") == ["a/note.txt"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["c.csv"], "/c.csv: no such file or folder; check the path; relative paths start at the working directory"),
        (["b/*.zip"], "/b/*.zip: the glob matches no file that ends in .csv"),
        (["a/note.txt", "a/note.txt"], "/a/note.txt: is named twice by 'path'; name each file once"),
        (["b", "b/BTCUSDT-1.csv"], "/b/BTCUSDT-1.csv: is named twice by 'path'; name each file once"),
    ],
)
def test_paths_that_name_nothing(folder: Path, paths: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        names(folder, *paths)
    assert str(caught.value) == f"{folder}{message}"


def test_an_empty_folder_and_an_empty_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder holds no file that ends in \.csv"):
        resolve(str(tmp_path), "X", (".csv",))
    with pytest.raises(
        InputError, match=r"path: names no file \(value \[\]\); give a file, a folder, a glob or a list"
    ):
        resolve([], "X", (".csv",))
