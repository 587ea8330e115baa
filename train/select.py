"""Feature selection inside the training part: steps that prune and rank, and the list of the best columns.

Only the samples of the dataset's training part are read, which the split has purged; each shows the decision stream's
row at its decision, imputed and scaled by the numbers of the training part. So no value or label of the later parts
reaches the list.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from gpu_pipeline.core.config import DatasetSection, RunConfig, SelectorSection, SelectSection, plain
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.store import Output, Store, digest_code, digest_of, link, write_json, write_table, write_text
from gpu_pipeline.core.trace import Ticker, Trace
from gpu_pipeline.dataset.data import Dataset, load_dataset
from train import _selection_page as selection_page
from train._selection_samples import make_study
from train.selectors._study import Study, Verdict, one_thread

ROOT = Path(__file__).resolve().parent
CODE = ("select.py", "_selection_samples.py", "selectors", "_selection_page.py", "_page.py", "_plots.py")
# Title of a step -> the columns that it saw, and what it says of them.
Verdicts = dict[str, tuple[tuple[str, ...], Verdict]]


def select(
    config: RunConfig,
    dataset_folder: Path,
    store: Store,
    run_folder: Path,
    device: torch.device,
    trace: Trace,
    *,
    jobs: int | None = None,
) -> Output:
    """Runs the steps of the section `select` and links what they made as `run_folder/selection`.

    Args:
        config: the run; without a section `select` every method runs with its defaults.
        dataset_folder: finished output of the stage `dataset`.
        store: where the selection is kept; an unchanged one is taken from there.
        run_folder: gets `selection`.
        device: cuda lets a step use cuML where that is installed.
        trace: progress.
        jobs: threads; all cores where not given. No byte of the output depends on it.

    Raises:
        InputError: there is no dataset, no such target, or too few training samples, or `top` is above the number of
            columns.
    """
    section = config.select or SelectSection()
    data = Output.at(dataset_folder, "dataset")
    described = {
        "select": {**plain(section), "seed": config.seed if section.seed is None else section.seed},
        "embargo": _embargo(config.dataset),
        "libraries": {name: version(name) for name in ("scikit-learn", "numpy", "pandas", "matplotlib")},
        "device": device.type,
    }
    plugins = [Path(str(step.plugin.module.__file__)) for step in section.steps]
    key = digest_of([described, data.key, digest_code([*(ROOT / name for name in CODE), *plugins])])

    def write(folder: Path) -> dict[str, Any]:
        dataset = load_dataset(data.path, torch.device("cpu"), resident=False)
        with trace.progress(f"select {config.name}", len(section.steps)) as ticker:
            return write_selection(folder, section, dataset, described, _threads(jobs), ticker)

    with trace.stage("select") as record:
        found = store.find("select", key)
        record.reused = found is not None
        output = found or store.make("select", key, described, {"dataset": data.key}, write)
    link(run_folder, "selection", output)
    return output


def _threads(jobs: int | None) -> int:
    return jobs or len(os.sched_getaffinity(0))


def _embargo(section: DatasetSection | None) -> int | str:
    return getattr(section.split.options, "embargo", 0) if section is not None else 0


def write_selection(
    folder: Path, section: SelectSection, dataset: Dataset, described: dict[str, Any], jobs: int, ticker: Ticker
) -> dict[str, Any]:
    """Writes the list, `scores.parquet`, a table or two per step, `selection.json` and `index.html`.

    Returns the manifest's content.
    """
    study, without = make_study(
        dataset,
        section,
        embargo=described["embargo"],
        seed=described["select"]["seed"],
        jobs=jobs,
        device=described["device"],
        tick=ticker.advance,
    )
    with one_thread():
        verdicts, dropped = run_steps(study, section.steps, ticker)
    left_out = {**without, **dropped}
    scores = combine(study.columns, verdicts, left_out)
    chosen = [name for name in scores["column"][: section.top] if name not in left_out]
    scores.insert(1, "selected", scores["column"].isin(chosen))
    facts = {
        "target": section.target or next(iter(dataset.targets)),
        "training_samples": len(study.target),
        "sampled": len(study.sample),
        "columns": len(study.columns) + len(without),
        "left_out": left_out,
        "steps": {title: dict(verdict.facts) for title, (_, verdict) in verdicts.items()},
        "messages": _messages(section, chosen, without, verdicts),
        **described,
    }
    file = section.file.format(top=section.top)
    write_text(folder / file, list_text(scores, ranking(verdicts), facts))
    _write_tables(folder, scores, facts, verdicts)
    return {"rows": len(chosen), "rows_in": facts["columns"], "file": file, **facts}


def _write_tables(folder: Path, scores: pd.DataFrame, facts: dict[str, Any], verdicts: Verdicts) -> None:
    write_table(folder / "scores.parquet", pa.Table.from_pandas(scores, preserve_index=False))
    for _, verdict in verdicts.values():
        for name, content in verdict.tables.items():
            write_table(folder / f"{name}.parquet", content)
    write_json(folder / "selection.json", facts)
    draw = {title: verdict.draw for title, (_, verdict) in verdicts.items() if verdict.draw is not None}
    write_text(folder / "index.html", selection_page.write(scores, ranking(verdicts), facts, draw))


def run_steps(study: Study, steps: Sequence[SelectorSection], ticker: Ticker) -> tuple[Verdicts, dict[str, str]]:
    """What each step says of which columns, by its title, and the columns that were dropped, with the reason.

    Raises:
        InputError: a step drops every column that is left, or no step ranks.
    """
    verdicts: Verdicts = {}
    dropped: dict[str, str] = {}
    for step in steps:
        ticker.advance(0, step.title)
        seen = study.among([name for name in study.columns if name not in dropped])
        verdict = step.plugin.function(seen, step.options)
        dropped |= {name: f"{step.title}: {why}" for name, why in verdict.dropped.items()}
        verdicts[step.title] = (seen.columns, verdict)
        if len(dropped) == len(study.columns):
            raise InputError(f"select.steps: after {step.title} no column is left; use a higher limit")
        ticker.advance(1, step.title)
    if not ranking(verdicts):
        raise InputError(f"select.steps: none of {', '.join(verdicts)} ranks the columns; add mutual_information")
    return verdicts, dropped


def ranking(verdicts: Verdicts) -> list[str]:
    """Titles of the steps that rank."""
    return [title for title, (_, verdict) in verdicts.items() if verdict.score is not None]


def combine(columns: Sequence[str], verdicts: Verdicts, left_out: dict[str, str]) -> pd.DataFrame:
    """Every column with its scores and ranks side by side, best first; what was left out is last, with the reason.

    A method's rank is among the columns that stayed, equal scores sharing their mean rank; columns are ordered by the
    mean of the methods' ranks, equal ones by name.
    """
    names = [*columns, *(name for name in left_out if name not in set(columns))]
    frame = pd.DataFrame({"column": names, "rank": pd.NA, "mean_rank": np.nan, "left_out": ""}).set_index("column")
    for name, why in left_out.items():
        frame.loc[name, "left_out"] = why
    stayed = frame.index[frame["left_out"] == ""]
    for title, (seen, verdict) in verdicts.items():
        if verdict.score is not None:
            frame[title] = pd.Series(verdict.score, index=seen)
            frame[f"{title}_rank"] = frame.loc[stayed, title].rank(ascending=False, method="average")
        for number, values in verdict.numbers.items():
            frame[number] = pd.Series(values, index=seen)
    ranks = [f"{title}_rank" for title in ranking(verdicts)]
    frame["mean_rank"] = frame[ranks].mean(axis=1)
    frame = frame.reset_index().sort_values(["mean_rank", "column"], na_position="last", ignore_index=True)
    frame["rank"] = pd.array([*range(1, len(stayed) + 1), *[pd.NA] * (len(frame) - len(stayed))], dtype="Int64")
    return frame


def _messages(
    section: SelectSection,
    chosen: Sequence[str],
    without: dict[str, str],
    verdicts: Verdicts,
) -> list[str]:
    told = [f"left out: {_some(without)}"] if without else []
    told += [f"{title} drops {_some(verdict.dropped)}" for title, (_, verdict) in verdicts.items() if verdict.dropped]
    if len(chosen) < section.top:
        told.append(
            f"{len(chosen)} columns are left after pruning, fewer than select.top = {section.top}: all are listed"
        )
    return told


def _some(columns: Any, shown: int = 5) -> str:
    listed = ", ".join(f"{name} ({why})" for name, why in list(columns.items())[:shown])
    more = f" and {len(columns) - shown} more (see scores.parquet)" if len(columns) > shown else ""
    return f"{len(columns)} column{'' if len(columns) == 1 else 's'}: {listed}{more}"


def list_text(scores: pd.DataFrame, methods: Sequence[str], facts: dict[str, Any]) -> str:
    """The list that `features.include` reads: a column per line, with its rank and scores as a comment."""
    best = scores[scores["selected"]]
    lines = [
        f"# {len(best)} of {facts['columns']} columns for {facts['target']}, by their mean rank over "
        f"{', '.join(methods)}; from {facts['training_samples']:,} training samples.",
        "# In a run file: features: {include: this file}",
    ]
    for row in best.to_dict("records"):
        told = ", ".join(f"{name} {row[name]:.6g}" for name in methods)
        lines.append(f"{row['column']}  # {row['rank']}: mean rank {row['mean_rank']:.2f} ({told})")
    return "\n".join(lines) + "\n"
