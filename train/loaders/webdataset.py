"""WebDataset shards, one segment each: groups of segments are read ahead, windows gathered when a batch is used.

The webdataset library takes the archives apart. Its URLs, decoders, shuffling and splitting are not used: this module
opens the files itself, so nothing is piped, fetched or unpickled, checks their sha256 against the index, and decodes
`.npy` and `.json` alone. A segment that lacks a sample is an error. Order and slices are those of dataset/order.py.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from webdataset.tariterators import group_by_keys, tar_file_expander

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.store import read_json
from gpu_pipeline.dataset.order import GROUP, rank_slice, segment_groups
from gpu_pipeline.dataset.shards import INDEX
from gpu_pipeline.dataset.tables import Batch, Dataset
from kernels.window_gather import gather_windows
from train.loaders._plan import Buffers, plan_epoch, stream_names

FIX = "rerun the dataset stage"
COLUMNS = {"target": torch.int64, "weight": torch.float32, "sample": torch.int64}


class Config(Options):
    """No keys."""


@dataclass(frozen=True)
class _Group:
    """Segments that are mixed with each other, side by side.

    Attributes:
        stop: end of the group in the order of the epoch.
        segment_rows: samples of a segment.
        base: [segments of the part] int64: where a segment's samples begin in this group.
        columns: sample, target, weight [n].
        rows: stream -> [r, F] float32.
        last: stream -> [n] int64 into `rows`.
    """

    stop: int
    segment_rows: int
    base: Tensor
    columns: Mapping[str, Tensor]
    rows: Mapping[str, Tensor]
    last: Mapping[str, Tensor]

    def local(self, positions: Tensor) -> Tensor:
        """Where samples, given by position within the part, lie in this group."""
        positions = positions.to(self.base.device)
        return self.base[positions // self.segment_rows] + positions % self.segment_rows


def load(
    dataset: Dataset,
    part: str,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    device: torch.device,
    shuffle: bool,
    inputs: Sequence[str] | None = None,
    reuse: bool = False,
) -> Iterator[Batch]:
    """One rank's slices of an epoch's global batches, the same as those of the loader `device`.

    Arguments are those of `train.loaders.device.load`; the dataset's streams are not touched.

    Raises:
        InputError: no such part or stream; no shards; a shard that is missing, damaged or not of this dataset.
    """
    names = stream_names(dataset, inputs)
    plan = plan_epoch(dataset, part, batch_size, seed, epoch, shuffle)
    shards = _Shards(dataset, part, names, torch.device(device))
    buffers, first = Buffers(dataset, names, shards.device, reuse), 0
    with _ReadAhead(shards, segment_groups(len(shards.entries), seed, epoch, GROUP, shuffle)) as reader:
        for batch, total in zip(plan.batches, plan.totals, strict=True):
            places = range(first, first + len(batch))[rank::world]
            made = shards.new_columns(len(places)), buffers.get(len(places))
            _fill(reader, rank_slice(batch, rank, world), places, *made)
            yield Batch(made[1], **made[0], weight_total=total)
            first += len(batch)


def _fill(
    reader: _ReadAhead, positions: Tensor, places: range, columns: dict[str, Tensor], windows: dict[str, Tensor]
) -> None:
    """Writes one batch, given its positions within the part and their places in the order of the epoch."""
    begin = 0
    while begin < len(places):
        group = reader.group_at(places[begin])
        stop = begin + len(range(places[begin], min(group.stop, places[-1] + 1), places.step))
        local = group.local(positions[begin:stop])
        for name, column in columns.items():
            column[begin:stop] = group.columns[name][local]
        for name, out in windows.items():
            gather_windows(group.rows[name], group.last[name][local], out.shape[1], out[begin:stop])
        begin = stop


class _ReadAhead:
    """Keeps one group in use and reads the next one in a thread, which ends with the `with` block."""

    def __init__(self, shards: _Shards, groups: list[list[int]]) -> None:
        self._shards, self._groups = shards, iter(groups)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._stop = 0
        self._group: _Group | None = None
        self._next: Future[_Group] | None = None

    def __enter__(self) -> Self:
        self._ask()
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def group_at(self, place: int) -> _Group:
        """The group that holds a place in the order of the epoch; places are asked for in rising order."""
        while self._group is None or place >= self._group.stop:
            if self._next is None:
                raise InputError(f"{self._shards.folder}: the shards end before sample {place:,} of the epoch; {FIX}")
            self._group = self._next.result()
            self._ask()
        return self._group

    def _ask(self) -> None:
        numbers = next(self._groups, None)
        if numbers is None:
            self._next = None
            return
        self._stop += sum(self._shards.entries[number]["samples"] for number in numbers)
        self._next = self._pool.submit(self._shards.read_group, numbers, self._stop)


class _Shards:
    """The segments of one part, checked against the dataset that they were cut from."""

    def __init__(self, dataset: Dataset, part: str, names: Sequence[str], device: torch.device) -> None:
        if dataset.folder is None or not (dataset.folder / "shards" / INDEX).is_file():
            raise InputError(f"{dataset.folder}: the dataset has no shards; {FIX} with train.loader: webdataset")
        self.folder, self.part, self.device = dataset.folder / "shards", part, device
        self.segment_rows = dataset.segment_rows
        positions, step = dataset.parts[part].cpu().numpy(), dataset.segment_rows
        self._pieces = [positions[start : start + step] for start in range(0, len(positions), step)]
        order = list(dataset.streams)
        self._streams = {name: (order.index(name), dataset.streams[name]) for name in names}
        self.entries = self._read_index()

    def new_columns(self, count: int) -> dict[str, Tensor]:
        """The columns of a batch, not initialised."""
        return {name: torch.empty(count, dtype=kind, device=self.device) for name, kind in COLUMNS.items()}

    def read_group(self, numbers: Sequence[int], stop: int) -> _Group:
        """Reads segments and puts them side by side on the device."""
        segments = [self._read(number) for number in numbers]
        begins = np.cumsum([0, *(len(segment["sample"]) for segment in segments)])[:-1].tolist()
        base = torch.zeros(len(self.entries), dtype=torch.int64)
        base[list(numbers)] = torch.tensor(begins)
        numbered = {name: s for name, (s, _) in self._streams.items()}
        return _Group(
            stop=stop,
            segment_rows=self.segment_rows,
            base=base.to(self.device),
            columns={name: self._join([segment[name] for segment in segments]) for name in COLUMNS},
            rows={name: self._join([segment[f"rows{s}"] for segment in segments]) for name, s in numbered.items()},
            last={name: self._join_last(segments, s) for name, s in numbered.items()},
        )

    def _join(self, parts: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(self.device)

    def _join_last(self, segments: list[dict[str, np.ndarray]], s: int) -> Tensor:
        counts = [len(segment[f"rows{s}"]) for segment in segments]
        offsets = np.cumsum([0, *counts])[:-1]
        return self._join([segment[f"last{s}"] + offset for segment, offset in zip(segments, offsets, strict=True)])

    def _read_index(self) -> list[dict[str, Any]]:
        path = self.folder / INDEX
        index = read_json(path)
        try:
            entries = [dict(entry) for entry in index["parts"][self.part]]
            sizes = [(str(entry["sha256"]), int(entry["samples"])) for entry in entries]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError.at(path, f"lacks a key of part '{self.part}': {error}", fix=FIX) from error
        expected = [len(piece) for piece in self._pieces]
        if [samples for _, samples in sizes] != expected:
            raise InputError.at(
                path,
                f"part '{self.part}' has {sum(expected):,} samples in {len(expected):,} segments in the dataset",
                value=f"{sum(samples for _, samples in sizes):,} in {len(sizes):,}",
                fix=FIX,
            )
        return entries

    def _read(self, number: int) -> dict[str, np.ndarray]:
        path = self.folder / f"{self.part}-{number:06d}.tar"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError.at(path, f"cannot be read ({error.strerror})", fix=FIX) from error
        if hashlib.sha256(content).hexdigest() != self.entries[number]["sha256"]:
            raise InputError.at(path, "sha256 differs from the index's", fix=FIX)
        return self._check(path, number, _decode(path, content, self._wanted()))

    def _wanted(self) -> tuple[str, ...]:
        streams = [f"{kind}{s}" for s, _ in self._streams.values() for kind in ("last", "rows")]
        return (*COLUMNS, *streams)

    def _check(self, path: Path, number: int, segment: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        lacks = [name for name in self._wanted() if name not in segment]
        if lacks:
            raise InputError.at(path, f"lacks the member '{lacks[0]}.npy'", fix=FIX)
        expected = self._pieces[number]
        for name, kind in COLUMNS.items():
            _require(path, segment, name, kind, (len(expected),))
        if not np.array_equal(segment["sample"], expected):
            raise InputError.at(path, f"does not hold the {len(expected):,} samples of this segment", fix=FIX)
        for s, stream in self._streams.values():
            rows, last = segment[f"rows{s}"], segment[f"last{s}"]
            _require(path, segment, f"last{s}", torch.int64, (len(expected),))
            _require(path, segment, f"rows{s}", torch.float32, (len(rows), len(stream.columns)))
            if last.min() < stream.window - 1 or last.max() >= len(rows):
                raise InputError.at(path, f"'last{s}.npy' points outside 'rows{s}.npy'", fix=FIX)
        return segment


def _require(
    path: Path, segment: Mapping[str, np.ndarray], name: str, kind: torch.dtype, shape: tuple[int, ...]
) -> None:
    found, dtype = segment[name], str(kind).removeprefix("torch.")
    if found.dtype != dtype or found.shape != shape:
        rule = f"'{name}.npy' must be {dtype} of shape {list(shape)}"
        raise InputError.at(path, rule, value=f"{found.dtype} {list(found.shape)}", fix=FIX)


def _decode(path: Path, content: bytes, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """Members of the one sample in a shard, as read-only arrays; members other than `.npy` and `.json` are errors."""
    source = [{"url": path.name, "stream": io.BytesIO(content)}]
    try:
        found = list(group_by_keys(tar_file_expander(source)))
        if len(found) != 1:
            raise InputError.at(path, "must hold the members of one segment", value=len(found), fix=FIX)
        members = {name: value for name, value in found[0].items() if not name.startswith("__")}
        foreign = [name for name in members if not name.endswith((".npy", ".json"))]
        if foreign:
            raise InputError.at(path, "may hold .npy and .json members only", value=foreign[0], fix=FIX)
        return {name: _array(members[f"{name}.npy"]) for name in wanted if f"{name}.npy" in members}
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise InputError.at(path, f"cannot be read as a shard: {_first_line(error)}", fix=FIX) from error


def _array(content: bytes) -> np.ndarray:
    """The array in the bytes of a `.npy` file, without a copy and without objects."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("a .npy member is not of version 1.0")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or fortran_order:
        raise ValueError("a .npy member holds Python objects or is in Fortran order")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
