"""From rows and labels to a dataset: samples, parts, what is fitted on training rows, model input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gpu_pipeline.core.config import DatasetSection, RunConfig, StreamSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Depth, Features, Labels, Symbol, Trades
from gpu_pipeline.dataset._adaptive import fit_levels, keep_levels
from gpu_pipeline.dataset._align import aligned_rows
from gpu_pipeline.dataset._daily import daily_rows, read_days
from gpu_pipeline.dataset._describe import describe
from gpu_pipeline.dataset._normalise import fit_rows
from gpu_pipeline.dataset.model_input import Fitted, model_input
from gpu_pipeline.dataset.samples import (
    RowLabels,
    Samples,
    average_uniqueness,
    find_samples,
    pool_labels,
    sample_times,
)
from gpu_pipeline.dataset.streams import Rows, book_rows, feature_rows
from gpu_pipeline.dataset.tables import PARTS, Dataset, StreamData, Target

CHUNK_ROWS = 1 << 18


@dataclass(frozen=True)
class Sources:
    """Where a dataset's rows come from, one call per symbol.

    Attributes:
        features: feature columns beside the bars.
        labels: one named label.
        depth: the depth tensor.
        trades: trades in chunks, of which days are told; None where there are none.
    """

    features: Callable[[Symbol], Features]
    labels: Callable[[Symbol, str], Labels]
    depth: Callable[[Symbol], Depth]
    trades: Callable[[Symbol], Iterator[Trades]] | None = None


def make_dataset(config: RunConfig, symbols: Sequence[Symbol], sources: Sources) -> tuple[Dataset, dict[str, Fitted]]:
    """Makes a dataset in memory, and returns it with what was fitted for each stream.

    Raises:
        InputError: no eligible samples, an empty part, a training part with one class, or tables that do not fit.
    """
    section = config.dataset
    if section is None:
        raise InputError("dataset: the run file has no section 'dataset'")
    streams = _read_streams(config, section, symbols, sources)
    decision = next(rows for rows in streams if rows.section.from_ == "features")
    labels = {
        name: pool_labels(name, [sources.labels(symbol, name) for symbol in symbols], decision)
        for name in section.targets
    }
    samples = find_samples(streams, decision, labels[section.targets[0]])
    times = sample_times(samples, decision, list(labels.values()))
    division = section.split.plugin.function(times, section.split.options)
    targets, absent = _targets(labels, samples, division.parts["train"])
    parts, left_out = _with_class(division.parts, next(iter(targets.values())).target)
    fitted, spans, levels = {}, {}, {}
    for s, rows in enumerate(streams):
        spans[rows.name] = training_spans(samples.index[parts["train"], s], samples.symbol_id[parts["train"]], rows)
        levels[rows.name] = fit_levels(rows, spans[rows.name])
        streams[s] = rows = keep_levels(rows, levels[rows.name])
        fitted[rows.name] = fit_rows(rows, spans[rows.name], section.scaler)
    dataset = _assemble(section, symbols, streams, decision, samples, labels, targets, parts)
    counts = {
        "dropped": samples.dropped,
        "purged": division.purged,
        "absent_classes": absent,
        "dropped_with_absent_class": left_out,
    }
    described = {
        rows.name: describe(rows, fitted[rows.name], levels[rows.name], spans[rows.name], decision) for rows in streams
    }
    manifest = _manifest(dataset, decision, labels, counts, described)
    inputs = {rows.name: _stream_data(rows, fitted[rows.name]) for rows in streams}
    return replace(dataset, streams=inputs, manifest=manifest), fitted


def _read_streams(
    config: RunConfig, section: DatasetSection, symbols: Sequence[Symbol], sources: Sources
) -> list[Rows]:
    listed = config.features is not None and config.features.include is not None
    features = [sources.features(symbol) for symbol in symbols]
    by_name = {symbol.name: symbol for symbol in symbols}
    shown = {
        name: stream.assets_among(list(by_name)) for name, stream in section.streams.items() if stream.from_ == "book"
    }
    needed = dict.fromkeys(asset for assets in shown.values() for asset in assets or by_name)
    depth = {asset: sources.depth(by_name[asset]) for asset in needed}
    rows = []
    for name, stream in section.streams.items():
        if stream.from_ == "features":
            rows.append(feature_rows(name, stream, features, listed))
        elif stream.from_ == "daily":
            rows.append(_daily(name, stream, by_name, sources, features))
        elif shown[name]:
            rows.append(aligned_rows(name, stream, [depth[asset] for asset in shown[name]]))
        else:
            rows.append(book_rows(name, stream, [depth[symbol] for symbol in by_name]))
    return rows


def _daily(
    name: str,
    stream: StreamSection,
    symbols: Mapping[str, Symbol],
    sources: Sources,
    features: Sequence[Features],
) -> Rows:
    if sources.trades is None:
        raise InputError(f"dataset.streams.{name}: days are told by trades, and there are none; leave the stream out")
    chosen = [symbols[asset] for asset in stream.assets_among(list(symbols)) or symbols]
    device = features[0].time_ns.device
    days = [read_days(symbol, sources.trades(symbol), stream, device) for symbol in chosen]
    reached_ns = max((int(part.known_ns[-1]) for part in features if len(part)), default=-1)
    return daily_rows(name, stream, days, reached_ns)


def training_spans(last: Tensor, symbol_id: Tensor, rows: Rows) -> list[tuple[int, int]]:
    """The rows that scaling and imputation are fitted on, one span per symbol with training samples, or for all.

    From the first row of the first training window to the last row of the last one: all of them were known at the last
    training decision.

    Args:
        last: [n] int64, last row of each training sample's window.
        symbol_id: [n] int64.
        rows: the stream.
    """
    spans = []
    for symbol in range(len(rows.first)):
        seen = last if rows.assets else last[symbol_id == symbol]
        if len(seen):
            spans.append((int(seen.min()) - rows.section.window + 1, int(seen.max()) + 1))
    return spans


def _targets(
    labels: Mapping[str, RowLabels], samples: Samples, train: Tensor
) -> tuple[dict[str, Target], dict[str, list[str]]]:
    """Targets beside the samples; a class that training does not hold is removed and named."""
    made, absent = {}, {}
    for name, label in labels.items():
        target = label.target[samples.row]
        seen = target[train]
        present = torch.bincount(seen[seen >= 0], minlength=len(label.class_names)) > 0
        place = torch.where(present, present.to(torch.int64).cumsum(0) - 1, -1)
        kept = present.tolist()
        made[name] = Target(
            target=torch.where(target >= 0, place[target.clamp(min=0)], -1),
            code=label.code[samples.row],
            label_return=label.label_return[samples.row],
            t_end_ns=label.t_end_ns[samples.row],
            class_names=tuple(title for title, here in zip(label.class_names, kept, strict=True) if here),
        )
        absent[name] = [title for title, here in zip(label.class_names, kept, strict=True) if not here]
    first = next(iter(labels))
    if len(made[first].class_names) < 2:
        raise InputError(
            f"dataset.target: the training part of '{first}' holds one class only (value {made[first].class_names}, "
            f"{len(train):,} samples); use more data or other barriers"
        )
    return made, absent


def _with_class(parts: Mapping[str, Tensor], target: Tensor) -> tuple[dict[str, Tensor], dict[str, int]]:
    kept = {part: positions[target[positions] >= 0] for part, positions in parts.items()}
    for part, positions in kept.items():
        if not len(positions):
            raise InputError(f"dataset.target: every class of the part '{part}' is absent from training; use more data")
    return kept, {part: len(parts[part]) - len(kept[part]) for part in parts}


def _assemble(
    section: DatasetSection,
    symbols: Sequence[Symbol],
    streams: Sequence[Rows],
    decision: Rows,
    samples: Samples,
    labels: Mapping[str, RowLabels],
    targets: Mapping[str, Target],
    parts: Mapping[str, Tensor],
) -> Dataset:
    first, label = targets[section.targets[0]], labels[section.targets[0]]
    return Dataset(
        streams={},
        index=samples.index,
        target=first.target,
        weight=label.weight[samples.row].to(torch.float32),
        class_names=first.class_names,
        decision_ns=decision.time_ns[samples.row],
        known_ns=decision.known_ns[samples.row],
        t_end_ns=first.t_end_ns,
        end_row=label.end_row[samples.row],
        symbol_id=samples.symbol_id,
        symbol_names=tuple(symbol.name for symbol in symbols),
        label_return=first.label_return,
        code=first.code,
        uniqueness=_uniqueness(samples, label, parts, len(decision)),
        parts=parts,
        targets=targets,
        segment_rows=section.segment_rows,
    )


def _uniqueness(samples: Samples, label: RowLabels, parts: Mapping[str, Tensor], rows: int) -> Tensor:
    """Within each part, so that a training sample's figure does not depend on test samples."""
    made = torch.zeros(len(samples.row), dtype=torch.float64, device=samples.row.device)
    for positions in parts.values():
        start = samples.row[positions]
        made[positions] = average_uniqueness(start, label.end_row[start], rows)
    return made


def _stream_data(rows: Rows, fitted: Fitted) -> StreamData:
    values = torch.empty(rows.values.shape, dtype=torch.float32, device=rows.values.device)
    for start in range(0, len(rows), CHUNK_ROWS):
        values[start : start + CHUNK_ROWS] = model_input(rows.values[start : start + CHUNK_ROWS], fitted)
    return StreamData(values, rows.section.window, rows.columns, rows.time_ns, rows.known_ns, rows.symbol_id)


def _manifest(
    dataset: Dataset,
    decision: Rows,
    labels: Mapping[str, RowLabels],
    counts: Mapping[str, Any],
    streams: Mapping[str, Any],
) -> dict[str, Any]:
    parts = {part: dataset.parts[part] for part in PARTS}
    return {
        "rows": len(dataset),
        "rows_in": len(decision),
        "symbols": list(dataset.symbol_names),
        "decision_stream": decision.name,
        "segment_rows": dataset.segment_rows,
        # JSON objects are written with sorted keys, and the order of streams and targets has a meaning.
        "stream_names": list(streams),
        "target_names": list(dataset.targets),
        "streams": dict(streams),
        "targets": {
            name: {"classes": list(target.class_names), "codes": {str(k): v for k, v in labels[name].codes.items()}}
            for name, target in dataset.targets.items()
        },
        "eligible": len(dataset),
        **counts,
        "parts": {part: _part(dataset, positions) for part, positions in parts.items()},
    }


def _part(dataset: Dataset, positions: Tensor) -> dict[str, Any]:
    counts = torch.bincount(dataset.target[positions], minlength=len(dataset.class_names)).tolist()
    return {
        "samples": len(positions),
        "classes": dict(zip(dataset.class_names, counts, strict=True)),
        "effective": round(float(dataset.uniqueness[positions].sum()), 6),
        "first_decision_ns": int(dataset.decision_ns[positions[0]]),
        "last_decision_ns": int(dataset.decision_ns[positions[-1]]),
        "last_end_ns": int(dataset.t_end_ns[positions].max()),
    }
