"""Which files a `path` names, and whether their bytes are those that were published."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.store import digest_file

CHECKSUM = ".CHECKSUM"
_MAGIC = frozenset("*?[")


def resolve(path: str | Sequence[str], symbol: str, suffixes: Sequence[str]) -> list[Path]:
    """The files that a `path` key names: a file, a folder (searched below, by name), a glob, or a list of these.

    `{SYMBOL}` stands for the symbol's name, `{symbol}` for it in lower case. A list keeps its order; folders and globs
    are in the order of names.

    Raises:
        InputError: nothing there, or a file is named twice.
    """
    patterns = [path] if isinstance(path, str) else list(path)
    files = [file for pattern in patterns for file in _expand(_fill(pattern, symbol), tuple(suffixes))]
    twice = {file for file in files if files.count(file) > 1} if len(set(files)) < len(files) else set()
    if twice:
        raise InputError.at(min(twice), "is named twice by 'path'", fix="name each file once")
    if not files:
        raise InputError(f"path: names no file (value {path!r}); give a file, a folder, a glob or a list of these")
    return files


def _fill(pattern: str, symbol: str) -> str:
    return pattern.replace("{SYMBOL}", symbol).replace("{symbol}", symbol.lower())


def _expand(pattern: str, suffixes: tuple[str, ...]) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        return _below(path, suffixes)
    if _MAGIC.isdisjoint(pattern):
        raise InputError.at(
            path, "no such file or folder", fix="check the path; relative paths start at the working directory"
        )
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    files = [file for file in found if file.is_file() and file.name.endswith(suffixes)]
    if not files:
        raise InputError.at(path, f"the glob matches no file that ends in {', '.join(suffixes)}")
    return files


def _below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name.endswith(suffixes))
    files = [file for file in files if not file.name.startswith(".")]
    if not files:
        raise InputError.at(folder, f"the folder holds no file that ends in {', '.join(suffixes)}")
    return files


def verify_checksum(path: Path, verify: bool = True) -> str:
    """Compares a file with the `.CHECKSUM` beside it, where there is one.

    Returns:
        What was done: `checksum`, `none there` or `skipped`.

    Raises:
        InputError: the bytes are others, or the checksum file is no checksum file.
    """
    beside = path.with_name(path.name + CHECKSUM)
    if not verify:
        return "skipped"
    if not beside.is_file():
        return "none there"
    if digest_file(path) != published_checksum(beside):
        raise InputError.at(
            path, f"its sha256 is not the one in {beside.name}", fix="the file is damaged: download it again"
        )
    return "checksum"


def published_checksum(path: Path) -> str:
    """The sha256 in a `.CHECKSUM` file (`HEX  NAME`).

    Raises:
        InputError: no sha256 in it.
    """
    words = path.read_text(errors="replace").split()
    digest = words[0].lower() if words else ""
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InputError.at(
            path, "must begin with a sha256 in 64 hex digits", value=digest[:80], fix="download it again"
        )
    return digest
