"""The page of a feature selection: the list, the scores of the best columns, and what each step drew."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from train._page import page, section, table
from train._plots import PALETTE, svg

DRAWN, LISTED = 40, 100


def write(
    scores: pd.DataFrame,
    methods: Sequence[str],
    facts: Mapping[str, Any],
    draw: Mapping[str, Callable[[Figure], None]],
) -> str:
    """The whole page.

    Args:
        scores: as `train.select.combine` makes them, best first.
        methods: columns of it with the scores that rank.
        facts: `selection.json`.
        draw: step -> its own plot.
    """
    chosen = scores[scores["selected"]]
    told = "".join(f"<li>{html.escape(line)}</li>" for line in facts["messages"])
    about = (
        f"<p>{len(chosen):,} of {facts['columns']:,} columns for <b>{html.escape(facts['target'])}</b>, judged on "
        f"{facts['training_samples']:,} samples of the training part alone (slow steps on {facts['sampled']:,} of "
        f"them, evenly spaced in time), ordered by the mean of the methods' ranks.</p><ul>{told}</ul>"
    )
    parts = [
        section("What was selected", about),
        section("The best columns", importance(chosen.head(DRAWN), methods) + _table(chosen.head(LISTED), methods)),
        *(section(title.replace("_", " "), svg(drawing, 7.0, 4.6)) for title, drawing in draw.items()),
        section("Left out", _left_out(facts["left_out"])),
    ]
    return page("Feature selection", parts)


def importance(best: pd.DataFrame, methods: Sequence[str]) -> str:
    """One panel of bars per method, the columns in the order of the combined rank."""

    def drawing(figure: Figure) -> None:
        panels = figure.subplots(1, len(methods), sharey=True, squeeze=False).ravel()
        rows = np.arange(len(best))
        for place, (axes, method) in enumerate(zip(panels, methods, strict=True)):
            # Rounds of an elimination are no amounts: their rank is drawn, the best one longest.
            amounts = bool((best[method] >= 0).any())
            ranks = best[f"{method}_rank"]
            axes.barh(rows, best[method] if amounts else ranks.max() + 1 - ranks, color=PALETTE[place % len(PALETTE)])
            axes.set_title(method.replace("_", " ") + ("" if amounts else ", by rank"), fontsize=8)
            axes.tick_params(labelsize=6)
        panels[0].set_yticks(rows, best["column"])
        panels[0].invert_yaxis()

    return svg(drawing, 11.0, 1.2 + 0.16 * len(best))


def _table(best: pd.DataFrame, methods: Sequence[str]) -> str:
    rows = [
        [
            html.escape(str(row["column"])),
            str(row["rank"]),
            f"{row['mean_rank']:.2f}",
            *(f'{row[name]:.3g} <span class="small">{row[f"{name}_rank"]:g}</span>' for name in methods),
        ]
        for row in best.to_dict("records")
    ]
    return table(["column", "rank", "mean rank", *(name.replace("_", " ") for name in methods)], rows)


def _left_out(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return "<p>No column.</p>"
    return table(["column", "why"], [[html.escape(name), html.escape(why)] for name, why in reasons.items()])
