"""Samples: one per row of the decision stream that has a label and full windows of what was known then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Labels
from gpu_pipeline.dataset.splits._times import SampleTimes
from gpu_pipeline.dataset.streams import Rows

UNIQUENESS_BITS = 36


@dataclass(frozen=True)
class RowLabels:
    """One label at every row of the decision stream.

    Attributes:
        valid: [R] bool: there is a label with a finite return and weight.
        target: [R] int64 class index, -1 where not valid.
        code: [R] int64.
        t_end_ns: [R] int64, -1 where not valid.
        end_row: [R] int64 row of the decision stream at which it is decided, -1 where not valid.
        label_return: [R] float64.
        weight: [R] float64.
        class_names: names in the order of the indices.
        codes: code -> meaning.
    """

    valid: Tensor
    target: Tensor
    code: Tensor
    t_end_ns: Tensor
    end_row: Tensor
    label_return: Tensor
    weight: Tensor
    class_names: tuple[str, ...]
    codes: Mapping[int, str]


@dataclass(frozen=True)
class Samples:
    """Eligible samples in decision order: by time, then symbol, then row.

    Attributes:
        row: [W] int64 row of the decision stream.
        index: [W, S] int64 last row of each stream.
        symbol_id: [W] int64.
        dropped: reason -> rows of the decision stream that are no sample for it, the first reason that holds.
    """

    row: Tensor
    index: Tensor
    symbol_id: Tensor
    dropped: dict[str, int]


def pool_labels(name: str, parts: Sequence[Labels], decision: Rows) -> RowLabels:
    """Labels of all symbols beside the rows of the decision stream.

    Raises:
        InputError: rows of labels and features differ, or a label ends at or before its own row.
    """
    lengths = [hi - lo for lo, hi in pairwise(decision.offsets)]
    if [len(part) for part in parts] != lengths:
        raise InputError(
            f"dataset.target: label '{name}' has {[len(part) for part in parts]} rows, the stream '{decision.name}' "
            f"{lengths}; both must come from the same bars: rerun labels and features"
        )
    merged = [_one_symbol(part, offset) for part, offset in zip(parts, decision.offsets[:-1], strict=True)]
    columns = {key: torch.cat([part[key] for part in merged]) for key in merged[0]}
    rows = torch.arange(len(decision), device=decision.time_ns.device)
    wrong = columns["valid"] & (columns["end_row"] <= rows)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise InputError(
            f"dataset.target: label '{name}', row {row:,}: ends at or before its own bar; it must end later"
        )
    return RowLabels(**columns, class_names=parts[0].class_names, codes=parts[0].codes)


def _one_symbol(labels: Labels, offset: int) -> dict[str, Tensor]:
    target = torch.full_like(labels.code, -1)
    for code, place in labels.classes.items():
        target[labels.code == code] = place
    valid = labels.valid & (target >= 0) & torch.isfinite(labels.label_return) & torch.isfinite(labels.weight)
    return {
        "valid": valid,
        "target": target.masked_fill(~valid, -1),
        "code": labels.code.masked_fill(~valid, 0),
        "t_end_ns": labels.t_end.masked_fill(~valid, -1),
        "end_row": (labels.known_row + offset).masked_fill(~valid, -1),
        "label_return": labels.label_return.masked_fill(~valid, float("nan")),
        "weight": labels.weight,
    }


def find_samples(streams: Sequence[Rows], decision: Rows, label: RowLabels) -> Samples:
    """The eligible rows of the decision stream, and why the others are none.

    Raises:
        InputError: no row is eligible; the message counts the reasons.
    """
    last = torch.stack([last_known(stream, decision) for stream in streams], dim=1)
    full = [_is_full(stream, last[:, s], decision) for s, stream in enumerate(streams)]
    present = [_in_window(stream.missing, stream, last[:, s]) == 0 for s, stream in enumerate(streams)]
    tests = {
        "no_label": label.valid,
        "short_feature_not_finite": decision.ready,
        "nothing_known_yet": (last >= 0).all(1),
        "window_not_full": torch.stack(full).all(0),
        "book_ended": _goes_on(streams, last, decision),
        **_assets_present(streams, last),
        "book_row_missing": torch.stack(present).all(0),
        **_little_filled(streams, last),
    }
    eligible, dropped = torch.ones_like(label.valid), {}
    for reason, holds in tests.items():
        dropped[reason] = int((eligible & ~holds).sum())
        eligible = eligible & holds
    rows = eligible.nonzero().squeeze(1)
    if not len(rows):
        raise InputError(
            f"dataset: none of {len(decision):,} rows is a sample: {_listed(dropped)}; {_way_out(dropped)}"
        )
    # Rows are ordered by symbol, then row: a stable sort by time leaves those as tie-breakers.
    rows = rows[torch.argsort(decision.time_ns[rows], stable=True)]
    return Samples(rows, last[rows], decision.symbol_id[rows], dropped)


def last_known(stream: Rows, decision: Rows) -> Tensor:
    """[R] int64: for each row of the decision stream, the last row of `stream` known then, or -1.

    It is a row of the same symbol, or any where rows show several assets.

    The decision stream sees its own row, and so does another stream of the same bars and latency: within one symbol the
    order is that of the trades. Any other stream is seen strictly before: known_ns < the decision's known_ns.
    """
    if same_bars(stream, decision):
        return torch.arange(len(decision), device=decision.time_ns.device)
    symbols = list(pairwise(decision.offsets))
    own = [(0, len(stream))] * len(symbols) if stream.assets else list(pairwise(stream.offsets))
    found = []
    for (lo, hi), (first, stop) in zip(own, symbols, strict=True):
        place = torch.searchsorted(stream.known_ns[lo:hi].contiguous(), decision.known_ns[first:stop].contiguous())
        found.append(torch.where(place > 0, place - 1 + lo, -1))
    return torch.cat(found)


def same_bars(stream: Rows, decision: Rows) -> bool:
    """Whether a stream has the decision stream's bars, known at the same times."""
    return stream.section.from_ == "features" and torch.equal(stream.known_ns, decision.known_ns)


def _is_full(stream: Rows, last: Tensor, decision: Rows) -> Tensor:
    own = stream.first * (len(decision.first) if stream.assets else 1)
    return last - stream.section.window + 1 >= decision.of_rows(torch.tensor(own, device=last.device))


def _in_window(numbers: Tensor, stream: Rows, last: Tensor) -> Tensor:
    """Sum of a number of each row over the windows that end at `last`, as far as they lie in the stream."""
    total = torch.nn.functional.pad(numbers.to(torch.int64).cumsum(0), (1, 0))
    return total[(last + 1).clamp(min=0)] - total[(last - stream.section.window + 1).clamp(min=0)]


def _goes_on(streams: Sequence[Rows], last: Tensor, decision: Rows) -> Tensor:
    """Decisions at most a cadence after the last book row they know: a later one would see a book that has ended."""
    holds = torch.ones_like(last[:, 0], dtype=torch.bool)
    for s, stream in enumerate(streams):
        if stream.cadence_ns is not None:
            waited = decision.known_ns - stream.known_ns[last[:, s].clamp(min=0)]
            holds &= (last[:, s] < 0) | (waited <= stream.cadence_ns)
    return holds


def _assets_present(streams: Sequence[Rows], last: Tensor) -> dict[str, Tensor]:
    """Reason -> windows without such a row, where streams show several assets."""
    found: dict[str, Tensor] = {}
    for s, stream in enumerate(streams):
        for reason, rows in stream.barred.items():
            holds = _in_window(rows, stream, last[:, s]) == 0
            found[reason] = found[reason] & holds if reason in found else holds
    return found


def _little_filled(streams: Sequence[Rows], last: Tensor) -> dict[str, Tensor]:
    """Windows of which at most `partial_fill_threshold` of the cells are filled, where that is asked for."""
    found = []
    for s, stream in enumerate(streams):
        if stream.filled is not None and stream.section.partial_fill_threshold is not None:
            cells = stream.section.window * max(1, len(stream.assets))
            most = Fraction(str(stream.section.partial_fill_threshold)) * cells
            found.append(_in_window(stream.filled, stream, last[:, s]) <= int(most))
    return {"too_many_filled": torch.stack(found).all(0)} if found else {}


def _listed(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in dropped.items() if count)


def _way_out(dropped: Mapping[str, int]) -> str:
    ways = {
        "no_label": "use more data or a shorter label horizon",
        "short_feature_not_finite": "use more data, shorter feature windows, or drop the feature that is never finite",
        "nothing_known_yet": "check that the streams cover the same time",
        "window_not_full": "use more data or a shorter window",
        "book_ended": "give book files that reach as far as the trades",
        "book_row_missing": "use a longer book.max_gap",
        "reference_missing": "use a longer book.max_gap or another reference asset",
        "too_few_assets": "lower min_assets_required, leave an asset out, or use a longer book.max_gap",
        "too_many_filled": "use a higher partial_fill_threshold or a longer book.cadence",
    }
    return ways[max(dropped, key=lambda reason: dropped[reason])]


def sample_times(samples: Samples, decision: Rows, labels: Sequence[RowLabels]) -> SampleTimes:
    """What the split sees: the latest end among all labels that a sample has."""
    ends = torch.stack([label.t_end_ns[samples.row] for label in labels])
    rows = torch.stack([label.end_row[samples.row] for label in labels])
    stops = torch.tensor(decision.offsets[1:], device=samples.row.device)
    return SampleTimes(
        decision_ns=decision.time_ns[samples.row],
        t_end_ns=ends.max(0).values,
        end_row=rows.max(0).values,
        row_stop=stops[samples.symbol_id],
        row_time_ns=decision.time_ns,
    )


def average_uniqueness(start: Tensor, end: Tensor, rows: int) -> Tensor:
    """Mean over a label's life of 1 / (labels alive): [W] float64 (López de Prado 2018, chapter 4).

    A label made at row s and decided at row e is a function of the returns of rows s+1 .. e: those are its life. The
    inverses are summed as integers of 2^-36, so the result has the same bits on every device.

    Args:
        start: [W] int64 decision rows.
        end: [W] int64 deciding rows, > start.
        rows: number of rows.
    """
    if rows >= 1 << (62 - UNIQUENESS_BITS):
        raise InputError(
            f"uniqueness: {rows:,} rows are too many for exact sums (limit {1 << (62 - UNIQUENESS_BITS):,})"
        )
    change = torch.zeros(rows + 1, dtype=torch.int64, device=start.device)
    change.index_add_(0, start + 1, torch.ones_like(start))
    change.index_add_(0, end + 1, -torch.ones_like(end))
    alive = change.cumsum(0)[:rows]
    inverse = (1 << UNIQUENESS_BITS) // alive.clamp(min=1)
    total = torch.nn.functional.pad(inverse.cumsum(0), (1, 0))
    life = (end - start).to(torch.float64)
    return (total[end + 1] - total[start + 1]).to(torch.float64) / (life * float(1 << UNIQUENESS_BITS))
