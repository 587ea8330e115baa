"""A dataset's files: one tensor file per stream, one table of samples, the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.store import Output, read_table, write_bytes, write_table
from gpu_pipeline.dataset.tables import PARTS, Batch, Dataset, StreamData, Target

__all__ = ["PARTS", "Batch", "Dataset", "StreamData", "Target", "check_dataset", "load_dataset", "save_dataset"]

_STREAM = {"values": torch.float32, "time_ns": torch.int64, "known_ns": torch.int64, "symbol_id": torch.int64}
_TIMES = {"decision_timestamp": "decision_ns", "known_timestamp": "known_ns"}
_NUMBERS = {"weight": torch.float32, "uniqueness": torch.float64}
_TARGET = {"target": "target", "code": "code", "return": "label_return", "t_end": "t_end_ns"}
_NO_PART = "none"


def save_dataset(dataset: Dataset, folder: Path) -> None:
    """Writes `streams/NAME.safetensors` and `samples.parquet` below `folder`; the manifest is the store's to write."""
    for name, stream in dataset.streams.items():
        tensors = {key: getattr(stream, key).cpu().contiguous() for key in _STREAM}
        write_bytes(folder / "streams" / f"{name}.safetensors", save(tensors))
    write_table(folder / "samples.parquet", _sample_table(dataset))


def _sample_table(dataset: Dataset) -> pa.Table:
    columns = {"symbol": pa.array(dataset.symbol_names).take(_array(dataset.symbol_id)), "part": _part_names(dataset)}
    columns |= {name: _times(getattr(dataset, key)) for name, key in _TIMES.items()}
    columns |= {name: _array(getattr(dataset, name)) for name in (*_NUMBERS, "end_row")}
    columns |= {f"row/{name}": _array(dataset.index[:, s]) for s, name in enumerate(dataset.streams)}
    for name, target in dataset.targets.items():
        values = {column: getattr(target, key) for column, key in _TARGET.items()}
        columns |= {f"{column}/{name}": _column(column, value) for column, value in values.items()}
    return pa.table(columns)


def _array(tensor: Tensor) -> pa.Array:
    return pa.array(tensor.cpu().numpy())


def _column(column: str, values: Tensor) -> pa.Array:
    return _times(values) if column == "t_end" else _array(values)


def _times(values: Tensor) -> pa.Array:
    plain = values.cpu().numpy()
    return pa.array(plain, mask=plain < 0).cast(pa.timestamp("ns", tz="UTC"))


def _part_names(dataset: Dataset) -> pa.Array:
    place = torch.full((len(dataset),), len(PARTS), device=dataset.device)
    for number, part in enumerate(PARTS):
        place[dataset.parts[part]] = number
    return pa.array([*PARTS, _NO_PART]).take(_array(place))


def load_dataset(folder: Path, device: torch.device, resident: bool | None = None) -> Dataset:
    """Reads and checks a finished dataset.

    Args:
        folder: of the dataset stage.
        device: where samples, and streams that are resident, go.
        resident: False leaves the stream values in the file, mapped into host memory and read when touched; by default
            that is so where the dataset has shards.

    Raises:
        InputError: there is no finished dataset, or a file is damaged or breaks a rule of this schema.
    """
    manifest = Output.at(Path(folder), "dataset").manifest
    resident = not manifest.get("shards") if resident is None else resident
    streams = {
        name: _load_stream(Path(folder), name, manifest["streams"][name], device, resident)
        for name in manifest["stream_names"]
    }
    dataset = _load_samples(Path(folder), manifest, streams, device)
    check_dataset(dataset)
    return dataset


def _load_stream(
    folder: Path, name: str, described: Mapping[str, Any], device: torch.device, resident: bool
) -> StreamData:
    path = folder / "streams" / f"{name}.safetensors"
    try:
        with safe_open(path, "pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in _STREAM}
    except (OSError, SafetensorError) as error:
        raise _damaged(path, f"cannot be read: {str(error).splitlines()[0]}") from error
    shape = (len(tensors["time_ns"]), len(described["columns"]))
    for key, kind in _STREAM.items():
        if tensors[key].dtype != kind or tuple(tensors[key].shape) != (shape if key == "values" else shape[:1]):
            raise _damaged(path, f"'{key}' must be {kind} with {shape[0]} rows", tuple(tensors[key].shape))
    moved = {key: tensor.to(device) if resident or key != "values" else tensor for key, tensor in tensors.items()}
    return StreamData(window=int(described["window"]), columns=tuple(described["columns"]), **moved)


def _load_samples(
    folder: Path, manifest: Mapping[str, Any], streams: Mapping[str, StreamData], device: torch.device
) -> Dataset:
    path = folder / "samples.parquet"
    table = read_table(path)
    lacks = [name for name in (*_TIMES, *_NUMBERS, "end_row", "symbol", "part") if name not in table.column_names]
    if lacks:
        raise _damaged(path, f"lacks the column '{lacks[0]}'")

    def column(name: str) -> Tensor:
        return _tensor(path, table, name).to(device)

    targets = {}
    for name in manifest["target_names"]:
        columns = {key: column(f"{stored}/{name}") for stored, key in _TARGET.items()}
        targets[name] = Target(**columns, class_names=tuple(manifest["targets"][name]["classes"]))
    first = next(iter(targets.values()))
    part = _numbered(path, table, "part", (*PARTS, _NO_PART))
    symbol_names = tuple(manifest["symbols"])
    return Dataset(
        streams=streams,
        index=torch.stack([column(f"row/{name}") for name in streams], dim=1),
        target=first.target,
        class_names=first.class_names,
        symbol_id=_numbered(path, table, "symbol", symbol_names).to(device),
        symbol_names=symbol_names,
        label_return=first.label_return,
        code=first.code,
        t_end_ns=first.t_end_ns,
        end_row=column("end_row"),
        parts={name: (part == number).nonzero().squeeze(1).to(device) for number, name in enumerate(PARTS)},
        targets=targets,
        manifest=manifest,
        segment_rows=int(manifest["segment_rows"]),
        folder=folder,
        **{key: column(name) for name, key in _TIMES.items()},
        **{name: column(name) for name in _NUMBERS},
    )


def _tensor(path: Path, table: pa.Table, name: str) -> Tensor:
    if name not in table.column_names:
        raise _damaged(path, f"lacks the column '{name}'")
    column = table.column(name)
    if pa.types.is_timestamp(column.type):
        column = pc.fill_null(column.cast(pa.int64()), -1)
    if column.null_count:
        raise _damaged(path, f"column '{name}' has nulls", column.null_count)
    return torch.from_numpy(np.array(column.to_numpy()))


def _numbered(path: Path, table: pa.Table, name: str, values: tuple[str, ...]) -> Tensor:
    found = pc.index_in(table.column(name), value_set=pa.array(values))
    if found.null_count:
        raise _damaged(path, f"column '{name}' holds a value that is none of {', '.join(values)}")
    return torch.from_numpy(np.array(found.to_numpy())).to(torch.int64)


def check_dataset(dataset: Dataset) -> None:
    """Raises InputError where a sample's window leaves its symbol or its stream, or sees what was not yet known."""
    path = (dataset.folder or Path()) / "samples.parquet"
    decision = dataset.manifest.get("decision_stream")
    for s, (name, stream) in enumerate(dataset.streams.items()):
        last = dataset.index[:, s]
        begin = last - stream.window + 1
        _require(path, f"row/{name}: a window leaves the stream", (begin >= 0) & (last < len(stream)))
        if stream.symbol_id is not None:
            first, own = stream.symbol_id[begin], stream.symbol_id[last]
            same = (first == own) & ((own == dataset.symbol_id) | (own == -1))
            _require(path, f"row/{name}: a window leaves its symbol", same)
        _require(path, f"row/{name}: a row was not known at the decision", stream.known_ns[last] <= dataset.known_ns)
        if name != decision and not dataset.manifest.get("streams", {}).get(name, {}).get("same_bars", False):
            _require(path, f"row/{name}: a row was not known before", stream.known_ns[last] < dataset.known_ns)
    chosen = torch.cat([dataset.parts[part] for part in PARTS])
    inside = (dataset.target[chosen] >= 0) & (dataset.target[chosen] < len(dataset.class_names))
    _require(path, "target: no class of this index", inside)
    _require(path, "decision times step back", dataset.decision_ns.diff() >= 0)


def _require(path: Path, rule: str, holds: Tensor) -> None:
    if not bool(holds.all()):
        raise InputError.at(path, rule, row=int((~holds).nonzero()[0]), fix="rerun the dataset stage")


def _damaged(path: Path, rule: str, value: object = None) -> InputError:
    return InputError.at(path, rule, value=value, fix="delete the folder and rerun the dataset stage")
