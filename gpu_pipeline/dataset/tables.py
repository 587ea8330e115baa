"""What training sees: streams of model input, samples that point into them, and the parts they belong to.

Axes: R rows of a stream, F its columns, S streams, W samples, N samples of a batch, T steps of a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class StreamData:
    """One stream of model input, all symbols one after the other.

    Attributes:
        values: [R, F] float32 model input.
        window: rows of the stream that a sample sees.
        columns: F names.
        time_ns: [R] int64, what the row describes.
        known_ns: [R] int64, when it could be read, latency included; non-decreasing within a symbol.
        symbol_id: [R] int64, non-decreasing; -1 where a row belongs to all symbols; None where there is one symbol.
    """

    values: Tensor
    window: int
    columns: tuple[str, ...]
    time_ns: Tensor
    known_ns: Tensor
    symbol_id: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Target:
    """One named label beside the samples.

    Attributes:
        target: [W] int64 class index, -1 where the sample has no such label or its class is absent from training.
        code: [W] int64, the label's own code, 0 where there is none.
        label_return: [W] float64 exit / entry - 1, NaN where there is none.
        t_end_ns: [W] int64, -1 where there is none.
        class_names: names of the classes, in the order of their indices.
    """

    target: Tensor
    code: Tensor
    label_return: Tensor
    t_end_ns: Tensor
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """Streams, samples in decision order, and parts (DESIGN 4.8).

    Attributes:
        streams: name -> rows; the order of the names is the order of `index`'s columns.
        index: [W, S] int64, last row of each stream that the sample sees.
        target: [W] int64 class index of the first target.
        weight: [W] float32.
        class_names: classes of the first target.
        decision_ns: [W] int64 close of the decision bar, non-decreasing.
        known_ns: [W] int64, when the decision row could be read.
        t_end_ns: [W] int64, when the first target is decided.
        end_row: [W] int64 row of the decision stream at which it is decided: times alone can be equal.
        symbol_id: [W] int64 into `symbol_names`.
        label_return: [W] float64.
        code: [W] int64.
        uniqueness: [W] float64 average uniqueness within the sample's part; 0 for a sample that is in no part.
        parts: train, validation, test -> int64 sample positions in decision order, after the purge.
        targets: all named targets.
        manifest: counts: samples, dropped, purged, imputed and zero-spread columns, absent classes.
        segment_rows: samples of one segment of the order.
        folder: where it was read from.
    """

    streams: Mapping[str, StreamData]
    index: Tensor
    target: Tensor
    weight: Tensor
    class_names: tuple[str, ...]
    decision_ns: Tensor
    known_ns: Tensor
    t_end_ns: Tensor
    end_row: Tensor
    symbol_id: Tensor
    symbol_names: tuple[str, ...]
    label_return: Tensor
    code: Tensor
    uniqueness: Tensor
    parts: Mapping[str, Tensor]
    targets: Mapping[str, Target] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    segment_rows: int = 4096
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.target)

    @property
    def row(self) -> Tensor:
        """[W] int64: the sample's own row of the decision stream."""
        return self.index[:, list(self.streams).index(self.manifest["decision_stream"])]

    @property
    def device(self) -> torch.device:
        """Where the samples live."""
        return self.index.device

    def segment_of(self, part: str) -> Tensor:
        """[n] int64: the segment of each sample of a part: runs of `segment_rows` in decision order."""
        return torch.arange(len(self.parts[part]), device=self.device) // self.segment_rows


@dataclass(frozen=True)
class Batch:
    """One rank's slice of a global batch.

    Attributes:
        inputs: stream -> [N, T, F] float32.
        target: [N] int64 class index.
        weight: [N] float32.
        sample: [N] int64 position among the dataset's samples.
        weight_total: sum of the weights of the global batch over all ranks.
    """

    inputs: Mapping[str, Tensor]
    target: Tensor
    weight: Tensor
    sample: Tensor
    weight_total: float
