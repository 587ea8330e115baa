"""What the manifest of a dataset says of each stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpu_pipeline.core.units import parse_duration
from gpu_pipeline.dataset._adaptive import KeptLevels
from gpu_pipeline.dataset._align import least_of, reference_of
from gpu_pipeline.dataset.model_input import Fitted
from gpu_pipeline.dataset.samples import same_bars
from gpu_pipeline.dataset.streams import Rows


def describe(
    rows: Rows, fitted: Fitted, levels: KeptLevels | None, spans: Sequence[tuple[int, int]], decision: Rows
) -> dict[str, Any]:
    """What the manifest says of a stream: its rows, columns, and what was fitted.

    Args:
        rows: the stream as it is used.
        fitted: imputation and scaling.
        levels: adaptive depth.
        spans: its training rows.
        decision: the stream whose rows decide.
    """
    return {
        "from": rows.section.from_,
        "window": rows.section.window,
        "latency_ns": parse_duration(rows.section.latency),
        "same_bars": same_bars(rows, decision),
        "columns": list(rows.columns),
        "rows": len(rows),
        "warmup_rows": sum(first - offset for first, offset in zip(rows.first, rows.offsets[:-1], strict=True)),
        "missing_rows": int(rows.missing.sum()),
        "training_rows": sum(hi - lo for lo, hi in spans),
        "dropped_levels": list(rows.dropped_levels),
        "imputed_columns": list(fitted.imputed),
        "zero_spread_columns": list(fitted.zero_spread),
        **_OF_ITS_KIND[rows.section.from_](rows),
        **({"levels": levels.to_json()} if levels else {}),
    }


def _of_book(rows: Rows) -> dict[str, Any]:
    said: dict[str, Any] = {key: getattr(rows.section, key) for key in ("price", "quantity", "normalise")}
    if rows.section.partial_fill_threshold is not None:
        said["partial_fill_threshold"] = rows.section.partial_fill_threshold
    if rows.assets:
        said["assets"] = list(rows.assets)
        said["reference"] = rows.assets[reference_of(rows.name, rows.section, rows.assets)]
        said["min_assets_required"] = least_of(rows.name, rows.section, rows.assets)
        said["missing_cells"] = dict(rows.missing_cells)
        said["filled_cells"] = int(rows.filled.sum()) if rows.filled is not None else 0
    return said


def _of_daily(rows: Rows) -> dict[str, Any]:
    said = {"returns": rows.section.returns, "days_without_trades": dict(rows.missing_cells)}
    return said | ({"assets": list(rows.assets)} if rows.assets else {})


_OF_ITS_KIND = {"features": lambda rows: {}, "book": _of_book, "daily": _of_daily}
