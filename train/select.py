"""Feature selection inside the training part: steps that prune and rank, and the list of the best columns.

Only the samples of the dataset's training part are read, which the split has purged; each shows the decision stream's
row at its decision, imputed and scaled by the numbers of the training part. So no value or label of the later parts
reaches the list.
"""

from __future__ import annotations

import logging
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
from gpu_pipeline.core.units import parse_duration
from gpu_pipeline.dataset.data import Dataset, Target, load_dataset
from train import _selection_page as selection_page
from train.metrics._tables import Ints
from train.selectors._study import Study, Verdict, one_thread

log = logging.getLogger("gpu_pipeline")
ROOT = Path(__file__).resolve().parent
CODE = ("select.py", "selectors", "_selection_page.py", "_page.py", "_plots.py")
NEVER = np.iinfo(np.int64).max


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
        InputError: no such target, `top` above the number of columns, a dataset of another configuration, or too few
            training samples.
    """
    section = config.select or SelectSection()
    data = Output.at(dataset_folder, "dataset")
    _refuse_other_dataset(config, data)
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


def _refuse_other_dataset(config: RunConfig, data: Output) -> None:
    made = (data.manifest.get("config") or {}).get("dataset")
    if made is not None and made != config.section("dataset"):
        raise InputError(
            f"{data.path}: this dataset was made with another section 'dataset' than the run file's; run: gpu-pipeline "
            "run with --to dataset and the same run file first"
        )


def write_selection(
    folder: Path, section: SelectSection, dataset: Dataset, described: dict[str, Any], jobs: int, ticker: Ticker
) -> dict[str, Any]:
    """Writes the list, `scores.parquet`, a table or two per step, `selection.json` and `index.html`.

    Returns the manifest's content.
    """
    name = section.target or next(iter(dataset.targets))
    study, without = make_study(dataset, name, section, described, jobs, ticker.advance)
    with one_thread():
        verdicts, dropped = run_steps(study, section.steps, ticker)
    made = combine(study.columns, verdicts, {**without, **dropped})
    chosen = [str(column) for column in made["column"][: section.top] if column not in {**without, **dropped}]
    messages = _messages(section, chosen, without, verdicts)
    for line in messages:
        log.info("select: %s", line)
    facts = {
        "target": name,
        "training_samples": len(study.target),
        "sampled": len(study.sample),
        "columns": len(study.columns) + len(without),
        "left_out": {**without, **dropped},
        "steps": {title: dict(verdict.facts) for title, (_, verdict) in verdicts.items()},
        "messages": messages,
        **described,
    }
    made.insert(1, "selected", made["column"].isin(chosen))
    file = section.file.format(top=section.top)
    write_text(folder / file, list_text(made, chosen, facts))
    write_table(folder / "scores.parquet", pa.Table.from_pandas(made, preserve_index=False))
    for title, (_, verdict) in verdicts.items():
        for table, content in verdict.tables.items():
            stem = table if table.startswith(title) else f"{title}_{table}"
            write_table(folder / f"{stem}.parquet", content)
    write_json(folder / "selection.json", facts)
    draw = {title: verdict.draw for title, (_, verdict) in verdicts.items() if verdict.draw is not None}
    write_text(folder / "index.html", selection_page.write(made, ranking(verdicts), facts, draw))
    return {"rows": len(chosen), "rows_in": facts["columns"], "file": file, **facts}


def make_study(
    dataset: Dataset, target: str, section: SelectSection, described: dict[str, Any], jobs: int, tick: Any
) -> tuple[Study, dict[str, str]]:
    """The training samples that have this target, and the columns left out because they never change there.

    Raises:
        InputError: no such target, one class only, or `top` above the number of columns.
    """
    if target not in dataset.targets:
        raise InputError(f"select.target: no target '{target}' in the dataset; it has {', '.join(dataset.targets)}")
    labels = dataset.targets[target]
    samples = dataset.parts["train"][labels.target[dataset.parts["train"]] >= 0]
    stream = dataset.streams[dataset.manifest["decision_stream"]]
    if section.top > len(stream.columns):
        raise InputError(
            f"select.top: the dataset has {len(stream.columns)} columns (value {section.top}); set select.top to "
            f"{len(stream.columns)} or less"
        )
    values = stream.values[dataset.row[samples]].numpy()
    classes = labels.target[samples].numpy()
    if len(np.unique(classes)) < 2:
        raise InputError(
            f"select.target: '{target}' has one class among {len(samples):,} training samples; use more data"
        )
    flat = values.min(0) == values.max(0)
    described_stream = dataset.manifest["streams"][dataset.manifest["decision_stream"]]
    empty = set(described_stream.get("imputed_columns", ()))
    without = {
        column: "no value in the training part" if column in empty else "constant in the training part"
        for column, constant in zip(stream.columns, flat, strict=True)
        if constant
    }
    study = Study(
        columns=tuple(column for column in stream.columns if column not in without),
        values=values[:, ~flat],
        target=classes,
        decision_ns=dataset.decision_ns[samples].numpy(),
        end_ns=ends_with_embargo(dataset, labels, samples, described["embargo"]),
        sample=evenly(len(samples), section.max_samples),
        seed=described["select"]["seed"],
        jobs=jobs,
        device=described["device"],
        tick=tick,
    )
    return study, without


def evenly(count: int, most: int) -> Ints:
    """At most `most` of `count` positions: the first of each of equally long stretches."""
    size = min(count, most)
    return np.arange(size, dtype=np.int64) * count // max(size, 1)


def ends_with_embargo(dataset: Dataset, labels: Target, samples: torch.Tensor, embargo: int | str) -> Ints:
    """[n] int64: end of each label plus the split's embargo; never, where one in bars runs past the last bar."""
    ends = labels.t_end_ns[samples].numpy()
    if isinstance(embargo, str):
        return ends + parse_duration(embargo)
    if embargo == 0:
        return ends
    stream = dataset.streams[dataset.manifest["decision_stream"]]
    rows, symbols = stream.time_ns.numpy(), dataset.symbol_id[samples].numpy()
    owners = np.zeros(len(rows)) if stream.symbol_id is None else stream.symbol_id.numpy()
    made = np.full(len(ends), NEVER)
    for symbol in np.unique(symbols):
        own, times = symbols == symbol, rows[owners == symbol]
        # Of bars that share the time, the last: the longer embargo.
        place = np.searchsorted(times, ends[own], side="right") - 1 + embargo
        made[own] = np.where(place < len(times), times[np.minimum(place, len(times) - 1)], NEVER)
    return made


def run_steps(
    study: Study, steps: Sequence[SelectorSection], ticker: Ticker
) -> tuple[dict[str, tuple[tuple[str, ...], Verdict]], dict[str, str]]:
    """What each step says of which columns, by its title, and the columns that were dropped, with the reason.

    Raises:
        InputError: a step drops every column that is left.
    """
    verdicts: dict[str, tuple[tuple[str, ...], Verdict]] = {}
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
    return verdicts, dropped


def ranking(verdicts: dict[str, tuple[tuple[str, ...], Verdict]]) -> list[str]:
    """Titles of the steps that rank."""
    return [title for title, (_, verdict) in verdicts.items() if verdict.score is not None]


def combine(
    columns: Sequence[str], verdicts: dict[str, tuple[tuple[str, ...], Verdict]], left_out: dict[str, str]
) -> pd.DataFrame:
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
    verdicts: dict[str, tuple[tuple[str, ...], Verdict]],
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


def list_text(made: pd.DataFrame, chosen: Sequence[str], facts: dict[str, Any]) -> str:
    """The list that `features.include` reads: a column per line, with its rank and scores as a comment."""
    methods = [name.removesuffix("_rank") for name in made.columns if name.endswith("_rank") and name != "mean_rank"]
    lines = [
        f"# {len(chosen)} of {facts['columns']} columns for {facts['target']}, by their mean rank over "
        f"{', '.join(methods)}; from {facts['training_samples']:,} training samples.",
        "# In a run file: features: {include: this file}",
    ]
    for row in made[made["selected"]].to_dict("records"):
        scores = ", ".join(f"{name} {row[name]:.6g}" for name in methods)
        lines.append(f"{row['column']}  # {row['rank']}: mean rank {row['mean_rank']:.2f} ({scores})")
    return "\n".join(lines) + "\n"
