"""A depth tensor in one safetensors file, written piece by piece: memory holds a piece, not the history."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open

from gpu_pipeline.book._pieces import DEPTH_COLUMNS
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Depth, Symbol
from gpu_pipeline.core.store import atomic_file

_TYPES = {torch.float64: "F64", torch.int64: "I64", torch.bool: "BOOL"}
_ALIGNMENT = 8


class DepthFile:
    """Takes consecutive cells of one symbol; their bytes wait in unnamed files beside the target."""

    def __init__(self, parts: Mapping[str, IO[bytes]]) -> None:
        self._parts = parts
        self._first: Depth | None = None
        self._cells = 0

    def append(self, depth: Depth) -> None:
        """Adds cells behind those before."""
        self._first = self._first or depth
        self._cells += len(depth)
        for name in DEPTH_COLUMNS:
            self._parts[name].write(getattr(depth, name).contiguous().cpu().numpy().data)

    def copy_to(self, file: IO[bytes]) -> None:
        """Writes header and tensors in the safetensors format."""
        header = json.dumps(self._header(), sort_keys=True).encode()
        header += b" " * (-len(header) % _ALIGNMENT)
        file.write(len(header).to_bytes(8, "little") + header)
        for name in DEPTH_COLUMNS:
            self._parts[name].seek(0)
            shutil.copyfileobj(self._parts[name], file, 1 << 20)

    def _header(self) -> dict[str, Any]:
        assert self._first is not None
        # One metadata key only: safetensors does not promise an order of several.
        said = json.dumps(self._first.symbol.to_json(), sort_keys=True)
        header: dict[str, Any] = {"__metadata__": {"symbol": said}}
        begin = 0
        for name in DEPTH_COLUMNS:
            tensor = getattr(self._first, name)
            shape = [self._cells, *tensor.shape[1:]]
            stop = begin + self._parts[name].tell()
            header[name] = {"dtype": _TYPES[tensor.dtype], "shape": shape, "data_offsets": [begin, stop]}
            begin = stop
        return header


@contextmanager
def depth_file(path: Path) -> Iterator[DepthFile]:
    """A file that is there, whole, after the block; equal cells give equal bytes however they are cut into pieces.

    Raises:
        InputError: nothing was appended, not even an empty piece.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        parts = {name: stack.enter_context(TemporaryFile(dir=path.parent)) for name in DEPTH_COLUMNS}
        made = DepthFile(parts)
        yield made
        if made._first is None:
            raise InputError(f"{path.stem}: the book stream holds nothing; check its source in ingest")
        with atomic_file(path) as file:
            made.copy_to(file)


def load_depth(path: Path, device: torch.device) -> Depth:
    """Reads what a `depth_file` holds.

    Raises:
        InputError: the file is missing, damaged, or not one of ours.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            symbol = Symbol.from_json(json.loads(file.metadata()["symbol"]))
            return Depth(symbol, **{name: file.get_tensor(name) for name in DEPTH_COLUMNS})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError.at(path, f"cannot be read as a depth tensor: {error}", fix="rerun the book stage") from error
