"""Plots of the report, each an inline SVG: they open offline and scale."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

Array = NDArray[Any]

MAXIMUM_POINTS = 2000
PALETTE = ("#1f5a94", "#c2571a", "#1a7f5a", "#8a3f8f", "#8a8a8a", "#b3382c")
SETTINGS = {
    "svg.hashsalt": "report",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}


def svg(draw: Callable[[Figure], None], width: float = 7.0, height: float = 3.2) -> str:
    """Draws on a fresh figure and returns it as SVG text with the same bytes every time."""
    with rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _thin(count: int) -> Array:
    return np.unique(np.linspace(0, count - 1, min(count, MAXIMUM_POINTS)).astype(np.int64))


def price(time: Array, close: Array, volume: Array, cuts: Mapping[str, Any]) -> str:
    """Close and volume of the bars over time, with the first decision of each part marked."""

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        rows = _thin(len(close))
        top.plot(time[rows], close[rows], color=PALETTE[0], linewidth=0.8)
        top.set_ylabel("close")
        bottom.fill_between(time[rows], volume[rows], color=PALETTE[4], linewidth=0)
        bottom.set_ylabel("volume")
        for colour, (name, moment) in zip(PALETTE[1:], cuts.items(), strict=False):
            top.axvline(moment, color=colour, linewidth=1, linestyle="--", label=f"{name} begins")
        if cuts:
            top.legend(frameon=False)

    return svg(draw, 10.0, 3.8)


def shares(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Class shares of the target in each part."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        classes = list(next(iter(counts.values()), {}))
        width = 0.8 / max(1, len(classes))
        for place, name in enumerate(classes):
            share = [row[name] / max(1, sum(row.values())) for row in counts.values()]
            bars = axes.bar(np.arange(len(counts)) + place * width, share, width, label=name, color=PALETTE[place % 6])
            axes.bar_label(bars, [f"{row[name]:,}" for row in counts.values()], fontsize=7)
        axes.set_xticks(np.arange(len(counts)) + width * (len(classes) - 1) / 2, list(counts))
        axes.set_ylim(0, 1)
        axes.set_ylabel("share of samples")
        axes.legend(frameon=False)

    return svg(draw, 5.0, 3.0)


def distributions(columns: Mapping[str, Array]) -> str:
    """A small histogram of each column, between its 1st and 99th percentile."""

    def draw(figure: Figure) -> None:
        across = 6
        down = -(-len(columns) // across)
        grid = np.atleast_1d(figure.subplots(down, across, squeeze=False)).ravel()
        for axes in grid[len(columns) :]:
            axes.set_axis_off()
        for axes, (name, values) in zip(grid, columns.items(), strict=False):
            _small_histogram(axes, name, values[np.isfinite(values)])

    return svg(draw, 11.0, max(1.4, 1.15 * -(-len(columns) // 6)))


def _small_histogram(axes: Any, name: str, values: Array) -> None:
    axes.set_title(name, fontsize=6)
    axes.set_yticks([])
    axes.tick_params(labelsize=5)
    axes.grid(visible=False)
    if len(values):
        low, high = np.quantile(values, [0.01, 0.99])
        axes.hist(np.clip(values, low, high), bins=30, color=PALETTE[0])
        axes.locator_params(axis="x", nbins=3)


def losses(history: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Training and validation loss per epoch, one panel per model."""

    def draw(figure: Figure) -> None:
        panels = np.atleast_1d(figure.subplots(1, max(1, len(history)), squeeze=False)).ravel()
        for axes, (model, rows) in zip(panels, history.items(), strict=False):
            axes.plot(rows["epoch"], rows["train_loss"], marker="o", markersize=3, label="training", color=PALETTE[0])
            axes.plot(
                rows["epoch"], rows["validation_loss"], marker="o", markersize=3, label="validation", color=PALETTE[1]
            )
            best = int(np.nanargmin(np.asarray(rows["validation_loss"])))
            axes.axvline(rows["epoch"][best], color=PALETTE[4], linewidth=1, linestyle=":", label="kept")
            axes.set_title(model)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(frameon=False)
        panels[0].set_ylabel("weighted cross-entropy")

    return svg(draw, 4.2 * max(1, len(history)), 3.0)


def roc(curves: Mapping[str, tuple[Array, Array]], title: str) -> str:
    """False against true positive rates, one line per model."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=PALETTE[4], linewidth=1, linestyle=":")
        for colour, (name, (false, true)) in zip(PALETTE, curves.items(), strict=False):
            rows = _thin(len(false))
            axes.plot(false[rows], true[rows], color=colour, linewidth=1.2, label=name)
        axes.set_title(title)
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.legend(frameon=False)

    return svg(draw, 4.0, 3.6)


def reliability(curves: Mapping[str, tuple[Array, Array, Array]], title: str) -> str:
    """Observed frequency against predicted probability in ten equal-count bins, with 95 % binomial bars."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=PALETTE[4], linewidth=1, linestyle=":")
        for colour, (name, (predicted, observed, count)) in zip(PALETTE, curves.items(), strict=False):
            spread = 1.96 * np.sqrt(observed * (1 - observed) / np.maximum(count, 1))
            axes.errorbar(
                predicted, observed, yerr=spread, color=colour, marker="o", markersize=3, linewidth=1, label=name
            )
        axes.set_title(title)
        axes.set_xlabel("predicted probability")
        axes.set_ylabel("observed frequency")
        axes.legend(frameon=False)

    return svg(draw, 4.0, 3.6)


def confusion(counts: Array, classes: Sequence[str], title: str) -> str:
    """Counts and row shares: rows are the truth, columns the prediction."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if share[row, column] > 0.6 else "black"
            axes.text(
                column,
                row,
                f"{counts[row, column]:,.0f}\n{share[row, column]:.0%}",
                ha="center",
                va="center",
                color=colour,
            )
        axes.set_xticks(range(len(classes)), classes)
        axes.set_yticks(range(len(classes)), classes)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(title)
        axes.grid(visible=False)

    return svg(draw, 3.4, 3.2)
