"""Labels in memory: the call that people make in a notebook."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpu_pipeline.core.config import LabelSection, check_values
from gpu_pipeline.core.schema import Bars, Labels


def make_labels(bars: Bars, name: str, *, classes: str = "binary", label: str | None = None, **options: Any) -> Labels:
    """Labels of complete bars.

    Args:
        bars: complete bars of one series.
        name: a label plug-in: `triple_barrier`, `null_symmetric`, or a dotted path to a module.
        classes: `binary` (is the code +1?) or `codes` (a class per code).
        label: the name that the table carries; the plug-in's where not given.
        options: the plug-in's `Config`, for example `take_profit=2.0, stop_loss=1.0, horizon_bars=100`.

    Raises:
        ConfigError: wrong options, a line each.
        InputError: some bars are partial.
    """
    return from_section(
        bars, check_values(LabelSection, {**options, "name": name, "classes": classes}, "make_labels"), label or name
    )


def from_section(bars: Bars, section: LabelSection, label: str) -> Labels:
    """Labels as a section of the run file asks for them."""
    made: Labels = section.plugin.function(bars, section.options, section.classes)
    return replace(made, name=label)
