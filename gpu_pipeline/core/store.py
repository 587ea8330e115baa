"""Written means whole: atomic files, manifests that make an output exist, a store keyed by what made it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gpu_pipeline.core.errors import Busy, EnvironmentProblem, InputError

log = logging.getLogger("gpu_pipeline")
SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
ROW_GROUP = 1 << 20


@contextmanager
def _environment(path: Path) -> Iterator[None]:
    """What the system refuses, as one line that says where."""
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(
            f"{path}: cannot write ({error.strerror}); free space or choose another folder"
        ) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path` whole (flushed, fsynced, renamed) or not at all.

    Raises:
        EnvironmentProblem: the disk or its permissions refuse.
    """
    with _whole(path) as file, _environment(path):
        yield file


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """`atomic_file`, but what its body raises passes as it is: a body that also reads has errors of its own."""
    temporary = ""
    try:
        with _environment(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with _closing(os.fdopen(handle, "wb")) as file:
            yield file
            with _environment(path):
                file.flush()
                os.fsync(file.fileno())
        with _environment(path):
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


@contextmanager
def _closing(file: IO[bytes]) -> Iterator[IO[bytes]]:
    try:
        yield file
    finally:
        # A refusal was told by the write or the flush; closing would tell it again, and hide the first.
        with suppress(OSError):
            file.close()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> Path:
    """Writes bytes whole."""
    with atomic_file(path) as file:
        file.write(content)
    return path


def write_text(path: Path, content: str) -> Path:
    """Writes UTF-8 text whole."""
    return write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> Path:
    """Writes JSON with sorted keys, so that equal content gives equal bytes."""
    return write_text(path, json.dumps(content, indent=1, sort_keys=True, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError.at(
            path, f"cannot be read as JSON: {error}", fix="delete it and rerun the stage that wrote it"
        ) from error


def write_table(path: Path, table: pa.Table, metadata: Mapping[str, str] | None = None) -> Path:
    """Writes Parquet whole: zstd, page checksums, integers and times delta-packed, floats byte-stream-split."""
    with table_file(path, table.schema, metadata) as file:
        file.write(table)
    return path


@contextmanager
def table_file(path: Path, schema: pa.Schema, metadata: Mapping[str, str] | None = None) -> Iterator[TableFile]:
    """A Parquet file written piece by piece, as `write_table` writes one: it appears whole or not at all.

    Memory holds one row group (ROW_GROUP rows); the bytes do not depend on how the rows are cut into pieces.

    Raises:
        EnvironmentProblem: the disk or its permissions refuse.
    """
    with _whole(path) as file:
        table = TableFile(path, file, schema.with_metadata({**(schema.metadata or {}), **(metadata or {})} or None))
        try:
            yield table
            table.close()
        finally:
            table.abandon()


class TableFile:
    """A Parquet file in the making; `table_file` opens and closes it."""

    def __init__(self, path: Path, file: IO[bytes], schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._held: list[pa.Table] = []
        self._rows = 0
        self._groups = 0
        encodings = {field.name: encoding for field in schema if (encoding := _encoding(field.type))}
        self._writer = pq.ParquetWriter(
            file,
            schema,
            compression="zstd",
            use_dictionary=False,
            column_encoding=encodings,
            write_page_checksum=True,
        )

    def write(self, table: pa.Table) -> None:
        """Adds rows after those that are there."""
        while table.num_rows:
            part = table.slice(0, ROW_GROUP - self._rows)
            self._held.append(part)
            self._rows += part.num_rows
            table = table.slice(part.num_rows)
            if self._rows == ROW_GROUP:
                self._put()

    def close(self) -> None:
        """Writes the rows that are held, and the footer; a table without rows has one empty row group."""
        if self._rows or not self._groups:
            self._put()
        with _environment(self._path):
            self._writer.close()

    def abandon(self) -> None:
        """Lets go of a file that failed, so that nothing tries to end it later; does nothing after `close`."""
        with suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._writer.is_open = False

    def _put(self) -> None:
        # One array per column: pages would end where pieces do.
        group = pa.concat_tables(self._held or [self._schema.empty_table()]).combine_chunks()
        self._held, self._rows = [], 0
        self._groups += 1
        with _environment(self._path):
            self._writer.write_table(group, row_group_size=ROW_GROUP)


def _encoding(kind: pa.DataType) -> str | None:
    if (pa.types.is_integer(kind) and kind.bit_width >= 32) or pa.types.is_timestamp(kind):
        return "DELTA_BINARY_PACKED"
    return "BYTE_STREAM_SPLIT" if pa.types.is_floating(kind) else None


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads one of our Parquet files with its page checksums verified.

    Raises:
        InputError: the file is missing, damaged or lacks a column.
    """
    try:
        names = None if columns is None else list(columns)
        return pq.read_table(path, columns=names, page_checksum_verification=True, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise InputError.at(path, f"cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def file_metadata(path: Path) -> dict[str, str]:
    """The key-value metadata of a Parquet schema, as text."""
    stored = pq.read_schema(path).metadata or {}
    return {key.decode(): value.decode() for key, value in stored.items()}


def digest_of(content: Any) -> str:
    """sha256 of plain values in canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_code(folders: Sequence[Path]) -> str:
    """sha256 over the Python sources below some folders (or single files): the code version of a stage."""
    digest = hashlib.sha256()
    for folder in folders:
        sources = [folder] if folder.is_file() else sorted(folder.rglob("*.py"))
        for source in sources:
            digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds a run folder against other processes.

    Raises:
        Busy: another process holds it.
    """
    with _environment(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    with file:
        if not _flock(file):
            raise Busy(f"{folder}: another process holds this run; wait for it, or give this one another name=")
        yield


def _flock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True)
class Output:
    """A stage's finished folder and its manifest."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The key that downstream stages put into theirs."""
        return str(self.manifest["key"])

    @classmethod
    def at(cls, folder: Path, stage: str = "") -> Output:
        """Opens a finished folder.

        Raises:
            InputError: there is no manifest, so the stage's output does not exist; or a file is missing or cut.
        """
        if not (folder / MANIFEST).is_file():
            raise InputError(f"{folder}: no finished output of stage '{stage or folder.name}' here; run it first")
        output = cls(folder.resolve(), read_json(folder / MANIFEST))
        for name, entry in output.manifest["files"].items():
            _check_size(output.path / name, int(entry["bytes"]))
        return output


def _check_size(path: Path, size: int) -> None:
    found = path.stat().st_size if path.is_file() else None
    if found != size:
        rule = "is missing" if found is None else f"has {found:,} bytes, and the manifest says {size:,}"
        raise InputError.at(path, rule, fix="run the stage that wrote it again")


@dataclass(frozen=True)
class Store:
    """Stage outputs by key: `root/STAGE/KEY`, shared by every run and trial under the same root."""

    root: Path

    def digest_input(self, path: Path) -> str:
        """sha256 of a file, remembered by path, size and modification time so that a rerun need not read it again.

        Raises:
            EnvironmentProblem: the file may not be read.
        """
        try:
            return self._digest_input(path)
        except OSError as error:
            rule = f"{path}: cannot be read ({error.strerror})"
            raise EnvironmentProblem(f"{rule}; check its permissions and the disk") from error

    def _digest_input(self, path: Path) -> str:
        stat = path.stat()
        name = digest_of([str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino])
        memo = self.root / "digests" / name
        if memo.is_file():
            return memo.read_text()
        digest = digest_file(path)
        write_text(memo, digest)
        return digest

    def find(self, stage: str, key: str) -> Output | None:
        """The finished output of this key, or None; a damaged one is none, and is named in the log.

        Files are compared with the manifest's sha256 once, and again when their size, time or place changed.
        """
        folder = self.root / stage / key
        if not (folder / MANIFEST).is_file():
            return None
        try:
            output = Output.at(folder)
            self._compare(stage, output)
        except InputError as error:
            log.warning("%s: what is stored is damaged and is made again (%s)", stage, error)
            return None
        return output

    def _compare(self, stage: str, output: Output) -> None:
        memo = self._memo(stage, output)
        if memo.is_file() and memo.read_text() == _stamp(output):
            return
        wrong = verify(output)
        if wrong:
            raise InputError(wrong[0])
        write_text(memo, _stamp(output))

    def _memo(self, stage: str, output: Output) -> Path:
        return self.root / "digests" / f"{stage}.{output.path.name}"

    def make(
        self, stage: str, key: str, config: Any, inputs: Mapping[str, str], write: Callable[[Path], Mapping[str, Any]]
    ) -> Output:
        """Runs `write(folder)` in a temporary folder, adds the manifest last and renames it into place.

        `write` returns what the manifest says of the content: rows, totals, time span, scales, counts;
        plain values, no timings. Where another process makes the same output, its result is waited for and taken.
        """
        with self._alone(stage, key) as waited:
            made = self.find(stage, key) if waited else None
            return made or self._make(stage, key, config, inputs, write)

    @contextmanager
    def _alone(self, stage: str, key: str) -> Iterator[bool]:
        """Holds one key against other processes; True where it had to wait. What a killed one left behind goes."""
        with _environment(self.root / "locks"):
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
            file = (self.root / "locks" / f"{stage}.{key}").open("w")
        with file:
            waited = not _flock(file)
            if waited:
                log.info("%s: another run is making this; waiting for it", stage)
                fcntl.flock(file, fcntl.LOCK_EX)
            for left in (self.root / stage).glob(f".{key[:16]}.*"):
                shutil.rmtree(left, ignore_errors=True)
            yield waited

    def _make(
        self, stage: str, key: str, config: Any, inputs: Mapping[str, str], write: Callable[[Path], Mapping[str, Any]]
    ) -> Output:
        target = self.root / stage / key
        with _environment(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{key[:16]}."))
        try:
            content = write(folder)
            manifest = {
                "schema_version": SCHEMA_VERSION,
                "stage": stage,
                "key": key,
                "config": config,
                "inputs": dict(inputs),
                **content,
                "files": _file_list(folder),
            }
            write_json(folder / MANIFEST, manifest)
            with _environment(target):
                _put(folder, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        output = Output.at(target, stage)
        write_text(self._memo(stage, output), _stamp(output))
        return output


def _stamp(output: Output) -> str:
    """Changes whenever a file of the output is written again or replaced."""
    stats = {name: (output.path / name).stat() for name in output.manifest["files"]}
    return digest_of({name: [stat.st_size, stat.st_mtime_ns, stat.st_ino] for name, stat in stats.items()})


def _file_list(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": digest_file(path)} for path in files
    }


def _put(folder: Path, target: Path) -> None:
    """Moves a finished folder into place; what stood there (an older run of the same key) goes."""
    os.chmod(folder, 0o755)
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=".old."))
    if target.exists():
        os.rename(target, old / target.name)
    os.rename(folder, target)
    shutil.rmtree(old)
    _sync_folder(target.parent)


def link(run_folder: Path, name: str, output: Output) -> None:
    """Points `run_folder/name` at a finished output by a relative symbolic link, replaced atomically."""
    with _environment(run_folder / name):
        run_folder.mkdir(parents=True, exist_ok=True)
        temporary = run_folder / f".{name}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(output.path, run_folder))
        os.replace(temporary, run_folder / name)


def verify(output: Output) -> list[str]:
    """Files of an output whose bytes are not the manifest's: one line each."""
    wrong = []
    for name, entry in output.manifest["files"].items():
        path = output.path / name
        if not path.is_file():
            wrong.append(f"{path}: missing, but the manifest lists it")
        elif digest_file(path) != entry["sha256"]:
            wrong.append(f"{path}: sha256 differs from the manifest's")
    return wrong
