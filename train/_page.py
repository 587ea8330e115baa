"""The HTML of the report: no script, no link to anything outside the file."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

STYLE = """
body{font:14px/1.5 system-ui,sans-serif;color:#222;max-width:1100px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;border-bottom:1px solid #ddd;margin-top:2rem}
h3{font-size:1rem;margin-bottom:.2rem}
table{border-collapse:collapse;margin:.5rem 0}th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #eee}
th:first-child,td:first-child{text-align:left}.small{color:#777;font-size:.85em}.row{display:flex;flex-wrap:wrap;gap:1rem}
.warnings{background:#fff6e5;border:1px solid #eac67a;border-radius:6px;padding:.6rem 1rem}.warnings li{margin:.35rem 0}
pre{background:#f6f6f6;padding:.8rem;overflow:auto;font-size:.85em}svg{max-width:100%;height:auto}
"""
SHOWN = 4
DAYS_SHOWN = 31


def page(title: str, sections: Sequence[str]) -> str:
    """The whole page."""
    name = html.escape(title)
    head = f'<meta charset="utf-8"><title>{name}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{name}</h1>{"".join(sections)}</body></html>\n'


def section(title: str, body: str) -> str:
    """A heading and what is below it."""
    return f"<h2>{html.escape(title)}</h2>{body}"


def row(items: Sequence[str]) -> str:
    """Pictures beside each other."""
    return f'<div class="row">{"".join(f"<div>{item}</div>" for item in items)}</div>' if items else ""


def warning_list(told: Sequence[str]) -> str:
    """The box of warnings, or the sentence that there are none."""
    if not told:
        return "<p>No warnings.</p>"
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in told)
    return f'<div class="warnings"><b>Before you trust these numbers</b><ul>{lines}</ul></div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are HTML already."""
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for cells in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def number(value: float | None) -> str:
    """Four digits after the point, or a dash."""
    return "-" if value is None else f"{value:.{SHOWN}f}"


def _cell(entry: Mapping[str, Any]) -> str:
    low, high = number(entry["low"]), number(entry["high"])
    return f'{number(entry["value"])}<br><span class="small">{low} .. {high}</span>'


def score_table(metrics: Mapping[str, Any], part: str) -> str:
    """Every predictor's scores of a part with their intervals, models first."""
    facts = metrics["parts"][part]
    predictors = sorted(metrics["predictors"].items(), key=lambda item: item[1]["kind"] != "model")
    names = list(next(iter(metrics["predictors"].values()))["parts"][part]["metrics"])
    rows = [
        [f'{html.escape(name)} <span class="small">{entry["kind"]}</span>']
        + [_cell(entry["parts"][part]["metrics"][metric]) for metric in names]
        for name, entry in predictors
    ]
    drawn = any(cell["low"] is not None for cell in predictors[0][1]["parts"][part]["metrics"].values())
    intervals = (
        f"intervals at {metrics['confidence']:.0%} from a moving-block bootstrap, blocks of {facts['block']} samples"
    )
    about = (
        f"<h3>{part} part</h3><p>{facts['samples']:,} samples, worth {facts['effective_samples']:,.0f} independent "
        f"ones; {intervals if drawn else 'no intervals were drawn (evaluate.resamples)'}.</p>"
    )
    return about + table(["", *names], rows)


def side_by_side(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """One row per run and predictor, one column per metric, on the test part."""
    rows = []
    names: list[str] = []
    for run, metrics in scores.items():
        for predictor, entry in metrics["predictors"].items():
            found = entry["parts"]["test"]["metrics"]
            names = names or list(found)
            rows.append(
                [html.escape(f"{run}: {predictor}"), *[_cell(found[name]) if name in found else "-" for name in names]]
            )
    return table(["", *names], rows)


_BOOK = (
    ("updates", "updates", 0),
    ("per s", "updates_per_s", 1),
    ("crossed", "crossed", 0),
    ("locked", "locked", 0),
    ("empty", "empty", 0),
    ("jumps", "jumps", 0),
    ("gaps", "gaps", 0),
    ("spread", "spread_median", None),
    ("spread p99", "spread_p99", None),
    ("bid levels", "levels_bid", 0),
    ("ask levels", "levels_ask", 0),
    ("fresh", "fresh", 0),
    ("filled", "filled", 0),
    ("missing", "missing", 0),
)


def book_table(days: Sequence[Mapping[str, Any]]) -> str:
    """Quality of the order book, one row per symbol and UTC day, the last DAYS_SHOWN of each symbol."""
    shown: dict[str, list[Mapping[str, Any]]] = {}
    for day in days:
        shown.setdefault(day["symbol"], []).append(day)
    rows = [
        [html.escape(day["symbol"]), html.escape(day["day"]), *(_digits(day[name], most) for _, name, most in _BOOK)]
        for found in shown.values()
        for day in found[-DAYS_SHOWN:]
    ]
    left_out = len(days) - len(rows)
    about = f"<p>{left_out:,} earlier days are in book/quality.parquet.</p>" if left_out else ""
    return table(["symbol", "UTC day", *(title for title, _, _ in _BOOK)], rows) + about


def _digits(value: float | None, most: int | None) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if most is None else f"{value:,.{most}f}"


def account(manifests: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows in and out of each stage and what each stage counted."""
    rows = []
    for stage, manifest in manifests.items():
        found = (manifest.get("rows_in"), manifest.get("rows_out", manifest.get("rows")))
        counts = [f"{count:,}" if isinstance(count, int) else "" for count in found]
        rows.append([html.escape(stage), *counts, html.escape(str(manifest.get("note", "")))])
    details = "".join(_details(stage, manifest) for stage, manifest in manifests.items())
    return table(["stage", "rows in", "rows out", ""], rows) + details


def _details(stage: str, manifest: Mapping[str, Any]) -> str:
    hidden = {
        "files",
        "config",
        "inputs",
        "schema_version",
        "stage",
        "key",
        "rows_in",
        "rows_out",
        "note",
        "metrics",
        "parts",
        "quality",
    }
    lines = [f"{name}: {value}" for name, value in manifest.items() if name not in hidden]
    text = html.escape("\n".join(lines))
    return f"<details><summary>{html.escape(stage)}</summary><pre>{text}</pre></details>" if lines else ""
