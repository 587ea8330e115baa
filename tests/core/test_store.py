from __future__ import annotations

import errno
import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_pipeline.core import store as store_module
from gpu_pipeline.core.errors import Busy, EnvironmentProblem, InputError
from gpu_pipeline.core.store import (
    Output,
    Store,
    atomic_file,
    digest_code,
    digest_of,
    link,
    lock,
    read_table,
    table_file,
    verify,
    write_table,
    write_text,
)


def make(store: Store, key: str = "k", text: str = "hello") -> Output:
    def write(folder: Path) -> dict[str, int]:
        write_text(folder / "a.txt", text)
        return {"rows_out": 1}

    return store.make("bars", key, {"threshold": 1}, {"ingest": "abc"}, write)


def test_an_output_exists_once_its_manifest_does(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find("bars", "k") is None
    made = make(store)
    found = store.find("bars", "k")
    assert found is not None and found.manifest == made.manifest
    assert found.manifest["files"]["a.txt"]["bytes"] == 5
    assert verify(found) == []


def test_a_stage_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def write(folder: Path) -> dict[str, int]:
        write_text(folder / "half.txt", "x")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        Store(tmp_path).make("bars", "k", {}, {}, write)
    assert list((tmp_path / "bars").iterdir()) == []


@pytest.mark.parametrize("damage", ["delete", "cut", "flip", "manifest"])
def test_a_damaged_output_is_named_and_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    file = make(store).path / ("manifest.json" if damage == "manifest" else "a.txt")
    assert store.find("bars", "k") is not None
    if damage == "delete":
        file.unlink()
    else:
        file.write_bytes({"cut": b"he", "flip": b"hellO", "manifest": b"{"}[damage])
    assert store.find("bars", "k") is None
    assert "bars: what is stored is damaged and is made again" in caplog.text and file.name in caplog.text
    assert (make(store).path / "a.txt").read_text() == "hello"
    assert store.find("bars", "k") is not None


def test_an_output_with_a_missing_file_does_not_open(tmp_path: Path) -> None:
    output = make(Store(tmp_path))
    (output.path / "a.txt").unlink()
    with pytest.raises(InputError, match=r"a\.txt: is missing; run the stage that wrote it again"):
        Output.at(output.path)


def _made_slowly(root: Path, begun: Path) -> None:
    def write(folder: Path) -> dict[str, int]:
        begun.touch()
        time.sleep(1.0)
        write_text(folder / "a.txt", "theirs")
        return {}

    Store(root).make("bars", "k", {}, {}, write)


def test_two_processes_do_not_make_one_output_twice(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    process = multiprocessing.get_context("spawn").Process(target=_made_slowly, args=(tmp_path / "s", begun))
    process.start()
    deadline = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    mine = make(Store(tmp_path / "s"))
    process.join()
    assert (mine.path / "a.txt").read_text() == "theirs"


def test_damage_is_found(tmp_path: Path) -> None:
    output = make(Store(tmp_path))
    (output.path / "a.txt").write_text("other")
    assert verify(output) == [f"{output.path / 'a.txt'}: sha256 differs from the manifest's"]
    (output.path / "a.txt").unlink()
    assert "missing" in verify(output)[0]


def _killed_while_writing(root: Path, ready: Path) -> None:
    def write(folder: Path) -> dict[str, int]:
        write_text(folder / "a.txt", "half")
        ready.touch()
        time.sleep(60)
        return {}

    Store(root).make("bars", "k", {}, {}, write)


def test_a_killed_stage_reruns_to_the_same_bytes(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = multiprocessing.get_context("spawn").Process(target=_killed_while_writing, args=(tmp_path / "s", ready))
    process.start()
    deadline = time.monotonic() + 60
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    store = Store(tmp_path / "s")
    assert store.find("bars", "k") is None
    again, clean = make(store), make(Store(tmp_path / "other"))
    assert again.manifest == clean.manifest
    assert [path.name for path in (tmp_path / "s" / "bars").iterdir()] == ["k"]


def test_a_forced_rerun_replaces_the_output(tmp_path: Path) -> None:
    store = Store(tmp_path)
    make(store)
    again = store.make("bars", "k", {}, {}, lambda folder: {"n": write_text(folder / "b.txt", "new").stat().st_size})
    assert again.manifest["n"] == 3
    assert [path.name for path in sorted(again.path.iterdir())] == ["b.txt", "manifest.json"]


def test_a_second_process_is_told(tmp_path: Path) -> None:
    with lock(tmp_path), pytest.raises(Busy, match="another process holds this run"), lock(tmp_path):
        pass


def test_a_link_follows_the_newest_output(tmp_path: Path) -> None:
    store = Store(tmp_path / ".store")
    link(tmp_path / "run", "bars", make(store, "one", "1"))
    link(tmp_path / "run", "bars", make(store, "two", "2"))
    assert (tmp_path / "run" / "bars" / "a.txt").read_text() == "2"
    assert not (tmp_path / "run" / "bars").readlink().is_absolute()


def test_no_manifest_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished output of stage 'bars' here; run it first"):
        Output.at(tmp_path, "bars")


def test_an_interrupted_file_never_appears(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "x") as file:
        file.write(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_environment_error(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("not a folder")
    with pytest.raises(EnvironmentProblem, match="cannot write"), atomic_file(folder / "x"):
        pass
    with pytest.raises(EnvironmentProblem, match="cannot write"), lock(folder / "run"):
        pass
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        make(Store(folder))


def test_tables_keep_values_metadata_and_checksums(tmp_path: Path) -> None:
    table = pa.table({"t": pa.array([3, 1, 2], pa.int64()), "x": pa.array([0.1, float("nan"), 3.0])})
    path = write_table(tmp_path / "a.parquet", table, {"scale": "0.01"})
    again = read_table(path)
    assert again.column("t").to_pylist() == [3, 1, 2]
    assert again.schema.metadata[b"scale"] == b"0.01"
    assert write_table(tmp_path / "b.parquet", table, {"scale": "0.01"}).read_bytes() == path.read_bytes()


def mixed(rows: int) -> pa.Table:
    draw = np.random.default_rng(rows)
    times = np.cumsum(draw.integers(0, 9, rows))
    return pa.table(
        {
            "time": pa.array(times, mask=draw.random(rows) < 0.1).cast(pa.timestamp("ns", tz="UTC")),
            "lots": draw.integers(-5, 10**12, rows),
            "price": np.where(draw.random(rows) < 0.1, np.nan, draw.random(rows)),
            "sold": draw.random(rows) < 0.5,
            "word": pa.array([f"w{value}" for value in draw.integers(0, 99, rows)], pa.string()),
        }
    )


ROWS = 700


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.sampled_from([0, 1, 99, 100, 101, ROWS]), cuts=st.lists(st.integers(0, ROWS), max_size=9))
def test_the_bytes_of_a_table_do_not_depend_on_its_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, cuts: list[int]
) -> None:
    monkeypatch.setattr(store_module, "ROW_GROUP", 100)
    table = mixed(rows)
    whole = write_table(tmp_path / "whole", table, {"scale": "0.01"})
    borders = [0, *sorted(min(cut, rows) for cut in cuts), rows]
    with table_file(tmp_path / "pieces", table.schema, {"scale": "0.01"}) as file:
        for start, stop in pairwise(borders):
            file.write(table.slice(start, stop - start))
    assert (tmp_path / "pieces").read_bytes() == whole.read_bytes()
    footer = pq.read_metadata(whole)
    sizes = [footer.row_group(at).num_rows for at in range(footer.num_row_groups)]
    assert sizes == ([100] * (rows // 100) + [rows % 100] * (rows % 100 > 0) or [0])
    again = read_table(whole)
    assert again.to_pandas().equals(table.to_pandas()) and again.schema.metadata == {b"scale": b"0.01"}


def test_pieces_leave_as_soon_as_a_row_group_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "ROW_GROUP", 100)
    with table_file(tmp_path / "a", mixed(1).schema) as file:
        for _ in range(10):
            file.write(mixed(250))
            assert sum(part.num_rows for part in file._held) < 100


def test_a_table_that_fails_never_appears_and_its_error_stays_its_own(tmp_path: Path) -> None:
    """An error while reading the next piece is not one of the disk that is written to."""
    table = mixed(10)
    with (
        pytest.raises(OSError, match="cannot read the input") as caught,
        table_file(tmp_path / "a", table.schema) as file,
    ):
        file.write(table)
        raise OSError(errno.EIO, "cannot read the input")
    assert not isinstance(caught.value, EnvironmentProblem)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing beyond `size` bytes fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [1, 5_000, 50_000])
def test_a_disk_that_refuses_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(store_module, "ROW_GROUP", 1_000)
    path = tmp_path / "a.parquet"
    with pytest.raises(EnvironmentProblem) as caught, files_of_at_most(size), table_file(path, mixed(1).schema) as file:
        for _ in range(20):
            file.write(mixed(700))
    assert str(caught.value) == f"{path}: cannot write (File too large); free space or choose another folder"
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_bit_in_a_table_is_one_clear_error(tmp_path: Path) -> None:
    draws = random.Random(1)
    table = pa.table({"t": pa.array([draws.getrandbits(60) for _ in range(10_000)], pa.int64())})
    path = write_table(tmp_path / "a.parquet", table)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet"):
        read_table(path)


def test_code_digests_follow_the_code(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    before = digest_code([tmp_path])
    (tmp_path / "a.py").write_text("x = 2\n")
    assert digest_code([tmp_path]) != before


def test_digests_do_not_depend_on_key_order() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})


def test_an_input_is_digested_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_text("one")
    store = Store(tmp_path / "s")
    first = store.digest_input(file)
    assert store.digest_input(file) == first
    file.write_text("other")
    assert store.digest_input(file) != first
