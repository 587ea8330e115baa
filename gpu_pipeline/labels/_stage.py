"""The stage: one Parquet file per label and symbol, a row per short bar."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from gpu_pipeline.core.config import RunConfig
from gpu_pipeline.core.errors import InputError, nearest
from gpu_pipeline.core.schema import Bars, Labels, Symbol, Tensor
from gpu_pipeline.core.store import file_metadata, read_table, write_table
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.labels._make import from_section

_NS = pa.timestamp("ns", tz="UTC")


def write(
    folder: Path,
    config: RunConfig,
    symbols: dict[str, Symbol],
    bars: Callable[[Symbol, str], Bars],
    device: torch.device,
    trace: Trace,
) -> dict[str, Any]:
    """Writes `folder/{LABEL}/{SYMBOL}.parquet` for every label of the run and every symbol.

    Returns:
        what the manifest says: rows, and per label and symbol how many bars got each code.

    Raises:
        InputError: a label's name cannot be a folder.
    """
    for name in config.labels:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InputError(f"labels: a name is made of letters, digits, . _ and - (value '{name}'); rename it")
    counts: dict[str, dict[str, Any]] = {name: {} for name in config.labels}
    rows = 0
    with trace.progress("labels", len(symbols) * len(config.labels)) as ticker:
        for symbol in symbols.values():
            series = bars(symbol, "short")
            rows += len(series)
            for name, section in config.labels.items():
                labels = from_section(series, section, name)
                save_labels(folder / name / f"{symbol.name}.parquet", labels, series.close_timestamp)
                counts[name][symbol.name] = _counts(labels)
                ticker.advance(1, f"{symbol.name} {name}")
    labelled = sum(each["labelled"] for symbols_of in counts.values() for each in symbols_of.values())
    return {"rows_in": rows, "rows_out": labelled, "note": "rows are labels", "labels": counts}


def load(folder: Path, symbol: Symbol, name: str, device: torch.device) -> Labels:
    """One label of one symbol, row for row beside the short bars.

    Raises:
        InputError: there is none, or the file is damaged.
    """
    there = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if name not in there:
        hint = nearest(name, there)
        more = f"; did you mean '{hint}'?" if hint else ""
        raise InputError(f"{folder}: no label '{name}'; there are {', '.join(there)}{more}")
    return load_labels(folder / name / f"{symbol.name}.parquet", device)


def save_labels(path: Path, labels: Labels, close_ns: Tensor) -> Path:
    """Writes one label with its codes and classes; `timestamp` is the close of the bar, `t_end` null where invalid."""
    valid = labels.valid.cpu().numpy()
    columns = {
        "timestamp": pa.array(close_ns.cpu().numpy()).cast(_NS),
        "code": pa.array(labels.code.cpu().numpy()),
        "valid": pa.array(valid),
        "t_end": pa.array(labels.t_end.cpu().numpy(), mask=~valid).cast(_NS),
        "return": pa.array(labels.label_return.cpu().numpy()),
        "weight": pa.array(labels.weight.cpu().numpy()),
        "known_row": pa.array(labels.known_row.cpu().numpy()),
    }
    metadata = {
        "symbol": json.dumps(labels.symbol.to_json(), sort_keys=True),
        "label": labels.name,
        "codes": json.dumps(labels.codes),
        "classes": json.dumps(labels.classes),
        "class_names": json.dumps(labels.class_names),
    }
    return write_table(path, pa.table(columns), metadata)


def load_labels(path: Path, device: torch.device) -> Labels:
    """Reads what `save_labels` wrote.

    Raises:
        InputError: the file is missing, damaged, or not one of ours.
    """
    table = read_table(path)
    metadata = file_metadata(path)
    if "codes" not in metadata:
        raise InputError.at(path, "its metadata names no codes", fix="give a file that the labels stage wrote")

    def tensor(name: str) -> Tensor:
        column = table.column(name)
        if name == "t_end":
            column = column.cast(pa.int64()).fill_null(-1)
        return torch.from_numpy(np.array(column.to_numpy())).to(device)

    return Labels(
        symbol=Symbol.from_json(json.loads(metadata["symbol"])),
        name=metadata["label"],
        code=tensor("code"),
        valid=tensor("valid"),
        t_end=tensor("t_end"),
        label_return=tensor("return"),
        weight=tensor("weight"),
        codes={int(code): meaning for code, meaning in json.loads(metadata["codes"]).items()},
        known_row=tensor("known_row"),
        classes={int(code): index for code, index in json.loads(metadata["classes"]).items()},
        class_names=tuple(json.loads(metadata["class_names"])),
    )


def _counts(labels: Labels) -> dict[str, Any]:
    valid = labels.code[labels.valid]
    codes = {meaning: int((valid == code).sum()) for code, meaning in labels.codes.items()}
    return {"bars": len(labels), "labelled": len(valid), "codes": codes}
