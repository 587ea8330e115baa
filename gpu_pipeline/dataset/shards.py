"""Shards: WebDataset tar files, one segment of the order each, that hold every row its windows need.

A segment is a run of `segment_rows` samples of one part in decision order. For every stream it holds, symbol by symbol,
the contiguous rows from the first window's first to the last window's last, so a row is written about once and not once
per window. Members are `.npy` and `.json` only; names, order, times and owners are fixed: equal data, equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu_pipeline.core.store import write_bytes, write_json
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.dataset.tables import Dataset

INDEX = "index.json"


def write_shards(dataset: Dataset, folder: Path, trace: Trace) -> dict[str, Any]:
    """Writes `PART-NNNNNN.tar` files and `index.json` (counts, bytes, sha256 of each) below `folder`.

    Returns what the manifest says of them: per part the number of segments and samples, and all bytes.
    """
    index: dict[str, Any] = {"streams": list(dataset.streams), "segment_rows": dataset.segment_rows, "parts": {}}
    step = dataset.segment_rows
    pieces = {
        part: [positions[start : start + step] for start in range(0, len(positions), step)]
        for part, positions in dataset.parts.items()
    }
    with trace.progress("shards", sum(map(len, pieces.values()))) as ticker:
        for part, segments in pieces.items():
            index["parts"][part] = []
            for number, samples in enumerate(segments):
                index["parts"][part].append(_write_segment(dataset, samples, folder, f"{part}-{number:06d}"))
                ticker.advance()
    write_json(folder / INDEX, index)
    parts = {
        part: {"segments": len(entries), "samples": sum(entry["samples"] for entry in entries)}
        for part, entries in index["parts"].items()
    }
    size = sum(entry["bytes"] for entries in index["parts"].values() for entry in entries)
    return {"parts": parts, "bytes": size}


def _write_segment(dataset: Dataset, samples: Tensor, folder: Path, key: str) -> dict[str, Any]:
    content = _tar(key, segment_members(dataset, samples))
    write_bytes(folder / f"{key}.tar", content)
    return {
        "file": f"{key}.tar",
        "samples": len(samples),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def segment_members(dataset: Dataset, samples: Tensor) -> dict[str, bytes]:
    """Suffix -> bytes of one segment's members, in the order in which they are written.

    `last<s>.npy` [n] points into `rows<s>.npy` [r, F], both of the stream number s.
    """
    info: dict[str, Any] = {"samples": len(samples), "streams": []}
    arrays = {name: getattr(dataset, name)[samples] for name in ("target", "weight")}
    members = {"sample.npy": _npy(samples), **{f"{name}.npy": _npy(array) for name, array in arrays.items()}}
    for s, (name, stream) in enumerate(dataset.streams.items()):
        rows, last = _cut(dataset, samples, s, stream.window)
        values = stream.values[rows.to(stream.values.device)]
        members |= {f"last{s}.npy": _npy(last), f"rows{s}.npy": _npy(values)}
        info["streams"].append({"name": name, "window": stream.window, "rows": len(rows)})
    return {"segment.json": json.dumps(info, sort_keys=True).encode(), **members}


def _cut(dataset: Dataset, samples: Tensor, s: int, window: int) -> tuple[Tensor, Tensor]:
    """Rows of a stream that the windows of some samples need, and where each window ends among them."""
    last, symbol = dataset.index[samples, s], dataset.symbol_id[samples]
    local, pieces, count = torch.empty_like(last), [], 0
    for number in range(len(dataset.symbol_names)):
        chosen = symbol == number
        if not bool(chosen.any()):
            continue
        begin, stop = int(last[chosen].min()) - window + 1, int(last[chosen].max()) + 1
        pieces.append(torch.arange(begin, stop, device=last.device))
        local[chosen] = last[chosen] - begin + count
        count += stop - begin
    return torch.cat(pieces), local


def _npy(tensor: Tensor) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(tensor.cpu().numpy()), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _tar(key: str, members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for suffix, content in members.items():
            entry = tarfile.TarInfo(f"{key}.{suffix}")
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
