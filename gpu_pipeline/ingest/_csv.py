"""Exchange CSV as record batches: plain, gzip or zip, with or without a header, every error with its file and row."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pc

from gpu_pipeline.core.errors import InputError

BLOCK_BYTES = 4 << 20
# What stands for a missing value; `NaN` is read as the number that it names, so that its error shows it.
EMPTY = ["", "null", "NULL", "None"]
SUFFIXES = (".csv", ".csv.gz", ".zip")
_DAMAGE = (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, NotImplementedError)


@dataclass(frozen=True)
class Layout:
    """Columns of a CSV in file order, and how many lines stand before the first row of data."""

    names: tuple[str, ...]
    header_lines: int


def members(path: Path) -> list[str]:
    """Names of the CSV members of a zip in order of names; one empty name for any other file.

    Raises:
        InputError: no zip, cut short, encrypted, or without a CSV.
    """
    if path.suffix != ".zip":
        return [""]
    with damage(path), zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if _is_data(info.filename)]
    if not infos:
        raise InputError.at(path, "holds no CSV file", fix="give the archive that the exchange publishes")
    if any(info.flag_bits & 1 for info in infos):
        raise InputError.at(path, "is encrypted", fix="unpack it first")
    return sorted(info.filename for info in infos)


def _is_data(name: str) -> bool:
    return name.endswith(".csv") and not name.startswith("__MACOSX/")


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """What a damaged archive raises, as one line."""
    try:
        yield
    except _DAMAGE as error:
        fix = "the file is damaged or cut short: download it again"
        raise InputError.at(path, f"cannot be unpacked: {error}", fix=fix) from error
    except UnicodeDecodeError as error:
        raise InputError.at(path, f"is no UTF-8 text: {error}", fix="download it again") from error
    except OSError as error:
        raise InputError.at(path, f"cannot be read: {error}", fix="check permissions and the disk") from error


@contextmanager
def opened(path: Path, member: str) -> Iterator[IO[bytes]]:
    """The bytes of a CSV, unpacked as they are read; CRC and length are checked at the end."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield file
    elif path.suffix == ".gz":
        with gzip.open(path, "rb") as packed:
            yield packed  # type: ignore[misc]
    else:
        with path.open("rb") as plain:
            yield plain


def first_lines(path: Path, member: str) -> list[str]:
    """The first two lines, without their ends."""
    with opened(path, member) as file:
        lines = [file.readline(1 << 16) for _ in range(2)]
    return [line.decode("utf-8-sig").strip() for line in lines if line.strip()]


def batches(
    path: Path,
    member: str,
    layout: Layout,
    types: dict[str, pa.DataType],
    label: str,
) -> Iterator[pa.RecordBatch]:
    """Record batches of the columns in `types`.

    Raises:
        InputError: a cell is not of its type or a row has too few or too many columns; names the row and the value.
    """
    read = pc.ReadOptions(column_names=list(layout.names), skip_rows=layout.header_lines, block_size=BLOCK_BYTES)
    convert = pc.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=EMPTY, strings_can_be_null=True
    )
    try:
        with opened(path, member) as file, pc.open_csv(file, read_options=read, convert_options=convert) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        raise _explained(path, member, layout, types, label, error) from error


def _explained(
    path: Path,
    member: str,
    layout: Layout,
    types: dict[str, pa.DataType],
    label: str,
    error: Exception,
) -> InputError:
    """Reads again, slowly, to find the first row that is wrong."""
    with opened(path, member) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline=None)
        filled = (line for line in text if line.strip())
        for row, line in enumerate(filled, start=1 - layout.header_lines):
            if row < 1:
                continue
            cells = line.rstrip("\n").split(",")
            if len(cells) != len(layout.names):
                rule = f"has {len(cells)} columns where {len(layout.names)} are due"
                return InputError.at(label, rule, row=row, value=line.strip()[:200], fix=_FIX)
            for name, cell in zip(layout.names, cells, strict=True):
                if name in types and types[name] in _WORDS and not _parses(cell, types[name]):
                    return InputError.at(
                        label, f"column {name} holds no {_WORDS[types[name]]}", row=row, value=cell, fix=_FIX
                    )
    return InputError.at(label, f"cannot be read as CSV: {str(error).splitlines()[0]}", fix=_FIX)


_FIX = "the file is damaged or of another kind: download it again"
_WORDS = {pa.int64(): "whole number", pa.float64(): "number", pa.bool_(): "true or false"}


def _parses(cell: str, kind: pa.DataType) -> bool:
    checks: dict[pa.DataType, Callable[[str], Any]] = {pa.int64(): int, pa.float64(): float, pa.bool_(): _flag}
    try:
        checks[kind](cell.strip() or "0")
    except ValueError:
        return False
    return True


def _flag(cell: str) -> bool:
    if cell.lower() not in ("true", "false", "0", "1"):
        raise ValueError(cell)
    return cell.lower() in ("true", "1")
