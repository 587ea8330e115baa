"""A selection keeps what is worth keeping, sees the training part alone, and writes a list that a run accepts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from gpu_pipeline import cli, pipeline
from gpu_pipeline.core.config import RunConfig, SelectSection, check_config
from gpu_pipeline.core.errors import ConfigError, InputError
from gpu_pipeline.core.runfile import write_yaml
from gpu_pipeline.core.store import MANIFEST, Store, read_json, verify
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.dataset.data import Dataset, load_dataset
from gpu_pipeline.dataset.splits._times import SampleTimes
from gpu_pipeline.dataset.splits.chronological import end_with_embargo as split_ends
from gpu_pipeline.features._set import read_include
from gpu_pipeline.results import load_run
from train._selection_samples import ends_with_embargo, evenly
from train.select import combine, select
from train.selectors._study import Verdict

QUICK = [
    "correlation",
    {"name": "vif", "limit": 50},
    "mutual_information",
    {"name": "random_forest", "trees": 5, "repeats": 1},
    {"name": "gradient_boosting", "iterations": 5, "repeats": 1},
    {"name": "rfe", "step": 0.3},
    "pca",
]
ONE = ["correlation", "mutual_information"]
NOISE = [f"noise{number}" for number in range(5)]


@pytest.fixture(scope="module")
def planted(request):
    """Named columns: one that decides, a copy of it, an exact sum, a constant, noise."""
    from tests.train.conftest import make_dataset

    def make(samples: int = 900) -> Dataset:
        dataset = make_dataset(samples)
        stream = dataset.streams["bars"]
        random = np.random.default_rng(4)
        noise = random.normal(size=(len(stream), 5))
        edge = stream.values[:, 0].numpy()
        columns = {
            "edge": edge,
            "copy": edge * 3 + 0.01 * random.normal(size=len(edge)),
            **dict(zip(NOISE, noise.T, strict=True)),
            "sum": noise[:, 0] + noise[:, 1],
            "flat": np.full(len(edge), 2.0),
        }
        values = torch.from_numpy(np.column_stack(list(columns.values())).astype(np.float32))
        return replace(
            dataset, streams={**dataset.streams, "bars": replace(stream, values=values, columns=tuple(columns))}
        )

    return make


def config(tmp_path: Path, run_seed: int = 7, **section) -> RunConfig:
    chosen = SelectSection.model_validate({"top": 3, "steps": QUICK, **section})
    names = {"name": "toy", "seed": run_seed, "device": "cpu", "runs": str(tmp_path / "runs")}
    return RunConfig.model_construct(**names, dataset=None, select=chosen)


@pytest.fixture
def selected(tmp_path, stored, trace):
    """Stores a dataset, selects from it and returns the folder."""

    def make(dataset: Dataset, place: str = "runs", jobs: int = 1, **section) -> Path:
        runs = tmp_path / place
        folder = stored(dataset, runs)
        store = Store(runs / ".store")
        select(config(tmp_path, **section), folder, store, runs / "toy", torch.device("cpu"), trace, jobs=jobs)
        return runs / "toy" / "selection"

    return make


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest, which names the dataset."""
    return {path.name: path.read_bytes() for path in folder.resolve().iterdir() if path.name != MANIFEST}


def _whole(folder: Path) -> None:
    """Everything is there, under its sum, and the page can be looked at offline."""
    assert set(content(folder)) == {
        "top_3.txt",
        "scores.parquet",
        "correlation.parquet",
        "correlation_clusters.parquet",
        "pca.parquet",
        "selection.json",
        "index.html",
    }
    assert verify(Store(folder.resolve().parents[1]).find("select", folder.resolve().name)) == []
    page = (folder / "index.html").read_text()
    assert page.count("<svg") == 4 and not re.search(r"(src|href)=.http", page)
    facts = read_json(folder / "selection.json")
    assert facts["training_samples"] == facts["sampled"] == 625 and facts["columns"] == 9
    assert facts["messages"][0] == "left out: 1 column: flat (constant in the training part)"


def test_the_informative_column_stays_its_copy_goes_and_noise_ranks_lower(selected, planted):
    folder = selected(planted())
    _whole(folder)
    scores = pq.read_table(folder / "scores.parquet").to_pandas().set_index("column")
    assert scores.index[0] == "edge" and scores.loc["edge", "rank"] == 1 and scores.loc["edge", "selected"]
    assert (
        scores.loc["copy", "left_out"].startswith("correlation: r = ") and "with edge" in scores.loc["copy", "left_out"]
    )
    assert scores.loc["flat", "left_out"] == "constant in the training part"
    assert scores.loc["sum", "left_out"] == "vif: an exact linear combination of columns before it"
    for method in ("mutual_information", "random_forest", "gradient_boosting", "rfe"):
        assert scores.loc["edge", f"{method}_rank"] < scores.loc[NOISE, f"{method}_rank"].min()
        assert scores.loc["edge", method] > scores.loc[NOISE, method].max()
    assert np.isfinite(scores.loc["edge", ["vif", "random_forest_impurity"]].astype(float)).all()
    names = read_include(folder / "top_3.txt")
    assert names == tuple(scores.index[:3]) and set(names) - {"edge"} < set(NOISE)
    assert scores["selected"].sum() == 3 and len(scores) == 9


def test_nothing_after_the_training_part_changes_a_byte(selected, planted):
    dataset = planted()
    train = dataset.parts["train"]
    later = torch.ones(len(dataset), dtype=torch.bool)
    later[train] = False
    values = dataset.streams["bars"].values.clone()
    values[int(dataset.index[train, 0].max()) + 1 :] = 1e6
    flipped = torch.where(later, 1 - dataset.target, dataset.target)
    other = replace(
        dataset,
        streams={**dataset.streams, "bars": replace(dataset.streams["bars"], values=values)},
        target=flipped,
        targets={"toy": replace(dataset.targets["toy"], target=flipped)},
    )
    first, second = content(selected(dataset, "a")), content(selected(other, "b"))
    assert first == second
    # The same change inside the training part is seen.
    moved = replace(dataset, targets={"toy": replace(dataset.targets["toy"], target=1 - dataset.target)})
    moved.targets["toy"].target[train[:300]] = dataset.target[train[:300]]
    same = {"steps": ONE}
    assert (
        content(selected(moved, "c", **same))["scores.parquet"]
        != content(selected(dataset, "d", **same))["scores.parquet"]
    )


def test_the_same_bytes_again_on_two_threads(selected, planted):
    first = content(selected(planted(), "a"))
    assert content(selected(planted(), "b", jobs=2)) == first


def test_the_seed_is_the_runs_or_the_sections_own(selected, planted):
    forest = [{"name": "random_forest", "trees": 3, "repeats": 1}]
    files = {
        name: selected(planted(), name, steps=forest, **seeds) / "scores.parquet"
        for name, seeds in {"a": {}, "b": {"run_seed": 8}, "c": {"run_seed": 8, "seed": 7}}.items()
    }
    assert files["a"].read_bytes() == files["c"].read_bytes() != files["b"].read_bytes()


def test_an_unchanged_selection_is_kept(planted, stored, tmp_path, trace):
    folder, store, run = (
        stored(planted(), tmp_path / "runs"),
        Store(tmp_path / "runs" / ".store"),
        tmp_path / "runs" / "toy",
    )
    for top in (2, 2, 3):
        select(config(tmp_path, top=top, steps=["mutual_information"]), folder, store, run, torch.device("cpu"), trace)
    assert [record.reused for record in trace.records] == [False, True, False]
    assert (run / "selection" / "top_3.txt").is_file()


def test_slow_steps_see_evenly_spaced_samples(selected, planted):
    folder = selected(planted(), max_samples=200, steps=[QUICK[3]])
    facts = read_json(folder / "selection.json")
    assert (facts["training_samples"], facts["sampled"]) == (625, 200)
    assert facts["steps"]["random_forest"]["fitted_on"] + facts["steps"]["random_forest"]["permuted_on"] <= 200
    for count, most in ((10, 3), (625, 200), (5, 9), (7, 7)):
        places = evenly(count, most)
        assert len(places) == min(count, most) and places[0] == 0 and places[-1] < count
        assert set(np.diff(places)) <= {count // most, -(-count // most)} or count < most


def test_fewer_columns_than_asked_for_are_all_listed(selected, planted):
    folder = selected(planted(), top=9, file="mine.txt", steps=ONE)
    assert len(read_include(folder / "mine.txt")) == 7
    assert (
        "7 columns are left after pruning, fewer than select.top = 9"
        in read_json(folder / "selection.json")["messages"][-1]
    )


def test_more_columns_than_there_are_is_one_line(selected, planted):
    with pytest.raises(
        InputError, match=r"select\.top: the dataset has 9 columns \(value 10\); set select\.top to 9 or less"
    ):
        selected(planted(), top=10)


def test_one_class_is_refused(selected, planted):
    dataset = planted()
    only = torch.where(torch.arange(len(dataset)) < 625, 1, dataset.target)
    with pytest.raises(InputError, match="'toy' has one class in 625 training samples"):
        selected(replace(dataset, targets={"toy": replace(dataset.targets["toy"], target=only)}), top=1)


def test_columns_that_never_change_are_refused(selected, planted):
    dataset = planted()
    flat = replace(dataset.streams["bars"], values=torch.zeros_like(dataset.streams["bars"].values))
    with pytest.raises(InputError, match="all 9 columns are constant in the training part"):
        selected(replace(dataset, streams={**dataset.streams, "bars": flat}))


def test_mean_ranks_are_among_those_that_stayed_and_ties_go_by_name():
    columns = ("d", "c", "b", "a")
    verdicts = {
        "one": (columns, Verdict(score=np.array([4.0, 9.0, 2.0, 4.0]))),
        "prune": (columns, Verdict(dropped={"c": "no use"})),
        "two": (("d", "b", "a"), Verdict(score=np.array([5.0, 7.0, 5.0]), numbers={"more": np.array([1.0, 2.0, 3.0])})),
    }
    made = combine(columns, verdicts, {"z": "constant", "c": "prune: no use"})
    assert made["column"].tolist() == ["a", "b", "d", "c", "z"]
    assert made["one_rank"].tolist()[:3] == [1.5, 3.0, 1.5] and made["two_rank"].tolist()[:3] == [2.5, 1.0, 2.5]
    assert made["mean_rank"].tolist()[:3] == [2.0, 2.0, 2.0] and made["rank"].tolist()[:3] == [1, 2, 3]
    assert made["rank"].isna().tolist() == [False] * 3 + [True] * 2
    assert pd.isna(made["more"][3]) and made["one"][3] == 9.0


@pytest.mark.parametrize("embargo", [0, 7, 400, "90s"])
def test_embargoes_are_the_splits(planted, embargo):
    dataset = planted()
    rows, samples = dataset.streams["bars"].time_ns, torch.arange(len(dataset))
    stops = torch.full((len(dataset),), len(rows))
    end_row = torch.searchsorted(rows, dataset.t_end_ns).clamp(max=len(rows) - 1)
    inside = dataset.t_end_ns <= rows[-1]
    expected = split_ends(SampleTimes(dataset.decision_ns, dataset.t_end_ns, end_row, stops, rows), embargo)
    made = ends_with_embargo(dataset, dataset.targets["toy"], samples, embargo)
    np.testing.assert_array_equal(made[inside], expected[inside].numpy())


def test_all_mistakes_of_the_section_are_told(run_values):
    section = {"target": "tay", "topp": 3, "steps": ["correlatoin", {"name": "vif", "limit": 0.5}]}
    with pytest.raises(ConfigError) as caught:
        check_config(run_values(select=section))
    told = str(caught.value)
    assert "select.topp: unknown key" in told and "did you mean 'top'?" in told
    assert "did you mean 'correlation'?" in told and "steps.1.limit" in told
    with pytest.raises(
        ConfigError, match=r"select\.target: no target of the dataset; there are toy.*did you mean 'toy'"
    ):
        check_config(run_values(select={"target": "toi"}))
    with pytest.raises(ConfigError, match="none of correlation, pca ranks the columns"):
        check_config(run_values(select={"steps": ["correlation", "pca"]}))
    with pytest.raises(ConfigError, match="'rfe' appears twice"):
        check_config(run_values(select={"steps": ["rfe", {"name": "rfe", "step": 0.5}]}))
    with pytest.raises(ConfigError, match="select"):
        check_config(run_values(select={"file": "../out.txt"}))


def small_run(folder: Path) -> dict:
    """A simulated market with an edge, to the dataset."""
    return {
        "name": "s",
        "device": "cpu",
        "runs": str(folder / "runs"),
        "symbols": ["TOY"],
        "ingest": {"trades": {"source": "simulated", "trades": 20_000, "trades_per_day": 200_000, "edge": 0.4}},
        "bars": {"type": "dollar", "threshold": 40_000, "resolutions": {"medium": {"of": "short", "bars": 5}}},
        "features": {
            "set": {
                "log_return": {"windows": [1, 5]},
                "rsi": {"windows": [14]},
                "close_location": {},
                "sma": {"windows": [9]},
            }
        },
        "labels": {"up": {"name": "null_symmetric", "horizon_bars": 20}},
        "dataset": {"target": "up", "streams": {"bars": {"from": "features", "window": 8}}},
        "select": {"top": 3, "steps": ["correlation", {"name": "random_forest", "trees": 5, "repeats": 1}]},
    }


def test_a_run_accepts_the_list(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_log_to_terminal", lambda: None)
    values = small_run(tmp_path)
    file = tmp_path / "s.yaml"
    file.write_text(write_yaml(values))
    assert cli.main(["select", str(file)]) == 2
    told = capsys.readouterr().err
    assert "there is no finished dataset" in told and f"gpu-pipeline run {file} --to dataset" in told
    first = pipeline.run(check_config(values), Trace(), last="dataset")
    assert cli.main(["select", str(file), "dataset.segment_rows=77"]) == 2
    assert "made with another section 'dataset'" in capsys.readouterr().err
    assert cli.main(["select", str(file)]) == 0
    assert f"3 of 8 columns: {tmp_path / 'runs' / 's' / 'selection' / 'top_3.txt'}" in capsys.readouterr().out.replace(
        "\n", ""
    )
    listed = tmp_path / "runs" / "s" / "selection" / "top_3.txt"
    scores = load_run(tmp_path / "runs" / "s").selection
    assert len(scores) == 8 and tuple(scores["column"][scores["selected"]]) == read_include(listed)
    narrow = check_config({**values, "features": {**values["features"], "include": str(listed)}})
    done = pipeline.run(narrow, Trace(), last="dataset")
    kept = load_dataset(done.outputs["dataset"].path, torch.device("cpu")).streams["bars"].columns
    before = load_dataset(first.outputs["dataset"].path, torch.device("cpu")).streams["bars"].columns
    assert set(kept) == set(read_include(listed)) < set(before)


def test_a_foreign_step_that_ranks_nothing_is_told(selected, planted, tmp_path, monkeypatch):
    """A module outside the project is a step by its dotted path; whether it ranks is seen when it ran."""
    package = tmp_path / "elsewhere_steps"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text(
        "from gpu_pipeline.core.plugins import Options\n"
        "from train.selectors._study import Verdict\n"
        "class Config(Options):\n    share: float = 0.5\n"
        "def judge(study, config):\n    return Verdict(dropped={study.columns[0]: 'because'})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="none of first ranks the columns"):
        selected(planted(), steps=["elsewhere_steps.first"])
    folder = selected(planted(), steps=[{"name": "elsewhere_steps.first", "share": 0.1}, "mutual_information"])
    assert read_json(folder / "selection.json")["left_out"]["edge"] == "first: because"
