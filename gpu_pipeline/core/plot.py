"""A look at a market: bars with their trades' range, volume and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gpu_pipeline.core.schema import Bars, Labels

UP, DOWN, FLAT = "#1a7f5a", "#b3382c", "#8a8a8a"


def plot_bars(bars: Bars, labels: Labels | None = None, last: int = 300) -> Any:
    """Draws the last bars: high-low range coloured by direction, closes, volume, and labels as marks.

    Args:
        bars: bars of one symbol and resolution.
        labels: a label over the same bars; positive codes point up, negative ones down, others are dots.
        last: how many bars from the end.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    first = max(0, len(bars) - last)
    column = {name: bars.columns[name][first:].cpu().numpy() for name in ("open", "high", "low", "close", "volume")}
    rows = np.arange(first, len(bars))
    figure = Figure(figsize=(11, 6), layout="constrained")
    prices, volume = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    colours = np.where(column["close"] >= column["open"], UP, DOWN)
    prices.vlines(rows, column["low"], column["high"], colors=colours, linewidth=1.0)
    prices.plot(rows, column["close"], color="#333333", linewidth=0.7, label="close")
    if labels is not None:
        _mark(prices, rows, column, labels, first)
    prices.set_title(f"{bars.symbol.name} {bars.name}: bars {first:,} to {len(bars):,}")
    prices.set_ylabel(f"price ({bars.symbol.quote})")
    volume.bar(rows, column["volume"], color=colours, width=1.0)
    volume.set_ylabel("volume")
    volume.set_xlabel("bar")
    return figure


def _mark(axes: Any, rows: np.ndarray, column: dict[str, np.ndarray], labels: Labels, first: int) -> None:
    code, valid = labels.code[first:].cpu().numpy(), labels.valid[first:].cpu().numpy()
    marks = ((code > 0, "^", UP, "low"), (code < 0, "v", DOWN, "high"), (code == 0, ".", FLAT, "close"))
    for chosen, marker, colour, side in marks:
        rows_in = chosen & valid
        if rows_in.any():
            axes.scatter(rows[rows_in], column[side][rows_in], marker=marker, s=14, color=colour, zorder=3)
    axes.legend([f"label {labels.name}"], loc="upper left", handlelength=0)
