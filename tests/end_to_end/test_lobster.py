"""The LOBSTER session by its run file: the tensor is the file, hidden orders leave it alone, a book model is judged."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from gpu_pipeline import load_run, pipeline
from gpu_pipeline.core.config import load_config
from gpu_pipeline.core.schema import Depth
from gpu_pipeline.core.trace import Trace

ROOT = Path(__file__).resolve().parents[2]
SECOND = 10**9
MIDNIGHT = int(dt.datetime(2012, 6, 21, tzinfo=ZoneInfo("America/New_York")).timestamp()) * SECOND
LEVELS, HIDDEN = 5, 5
# LOBSTER's prices are in steps of 0.0001 USD.
CHANNELS = ("bid_px", "bid_sz", "ask_px", "ask_sz")
Run = Callable[..., pipeline.Run]


@pytest.fixture(scope="module")
def file(market_data: Path) -> Path:
    path = market_data / "lobster_amzn_20120621" / "AMZN_L5.parquet"
    if not path.is_file():
        pytest.skip(f"no LOBSTER day: {path} is not there")
    return path


@pytest.fixture(scope="module")
def run(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the run file on a message file, up to a time of day in New York."""
    runs = tmp_path_factory.mktemp("lobster")

    def go(name: str, *changes: str, path: Path = file, until: str = "16:00:00", last: str = "book") -> pipeline.Run:
        cuts = [
            f"ingest.{stream}.{change}"
            for stream in ("trades", "book")
            for change in (f"path={path}", f"end='2012-06-21T{until}-04:00'")
        ]
        features = f"features.set={ROOT / 'configs' / 'features' / 'demo.yaml'}"
        changed = [f"runs={runs}", f"name={name}", "device=cpu", features, *cuts, *changes]
        return pipeline.run(load_config(ROOT / "configs" / "lobster_amzn.yaml", changed), Trace(), last=last)

    return go


def book_of(done: pipeline.Run) -> Depth:
    return load_run(done.folder).book()


def as_published(depth: Depth) -> np.ndarray:
    """[T, L, 4] int64: prices in 0.0001 USD, sizes in shares."""
    step = int(depth.symbol.price_tick * 10_000)
    scale = np.array([step, 1, step, 1])
    return np.rint(depth.depth.numpy()).astype(np.int64) * scale


@pytest.mark.parametrize("cadence_s", [1, 10])
def test_levels_are_those_of_the_file_at_every_grid_time(run: Run, file: Path, cadence_s: int) -> None:
    depth = book_of(run(f"grid_{cadence_s}s", f"book.cadence={cadence_s}s", "dataset=null", "train=null"))
    table = pd.read_parquet(file)
    grid = np.arange(34_200 + cadence_s, 57_600, cadence_s) * SECOND
    expected = table.iloc[np.searchsorted(table["time_ns"], grid, side="right") - 1]
    assert (depth.time_ns.numpy() - MIDNIGHT == grid).all() and (depth.known_ns == depth.time_ns).all()
    assert bool(depth.valid.all()) and (depth.age_ns.numpy() == grid - expected["time_ns"].to_numpy()).all()
    for channel, name in enumerate(CHANNELS):
        levels = expected[[f"{name}_{level}" for level in range(1, LEVELS + 1)]].to_numpy()
        assert (as_published(depth)[:, :, channel] == levels).all(), name


def without_hidden(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["type"] != HIDDEN]


def with_more_hidden(table: pd.DataFrame) -> pd.DataFrame:
    """A hidden execution after every third message, at its time or up to 50 us later, between two cents."""
    after = table.iloc[::3].copy()
    room = (table["time_ns"].shift(-1) - table["time_ns"]).iloc[::3].fillna(0).clip(upper=50_000)
    after["time_ns"] += room.astype(np.int64)
    after["type"], after["order_id"], after["size"] = HIDDEN, 0, 7
    after["price"] = after["bid_px_1"] + 50
    return pd.concat([table, after]).sort_index(kind="stable").reset_index(drop=True)


@pytest.mark.parametrize("change", [without_hidden, with_more_hidden])
def test_hidden_executions_leave_the_tensor_alone(run: Run, file: Path, tmp_path: Path, change: Callable) -> None:
    table = pd.read_parquet(file).head(25_000)
    changed = change(table)
    assert len(changed) != len(table)
    depths = []
    for name, rows in (("as_it_was", table), (change.__name__, changed)):
        rows.to_parquet(tmp_path / f"{name}.parquet")
        done = run(name, "dataset=null", "train=null", path=tmp_path / f"{name}.parquet")
        depths.append(book_of(done))
    before, after = depths
    assert len(before) > 1_000
    assert before.time_ns.equal(after.time_ns) and before.valid.equal(after.valid)
    assert (as_published(before) == as_published(after)).all()


def test_a_slice_is_trained_on_and_judged(run: Run) -> None:
    quick = ("train.max_steps=3", "train.epochs=1", "evaluate.resamples=20")
    done = run("slice", *quick, until="10:45:00", last="report")
    assert set(done.models) == {"deeplob", "cnn_lstm"}
    card = json.loads((done.models["deeplob"].path / "model.json").read_text())
    assert card["order"] == ["book", "bars"]
    assert len(card["inputs"]["book"]["columns"]) == 4 * LEVELS and card["inputs"]["book"]["window"] == 50
    predictors = load_run(done.folder).metrics["predictors"]
    assert set(predictors) == {"deeplob", "cnn_lstm", "majority", "persistence"}
    page = (done.folder / "report" / "index.html").read_text()
    assert "Too few effective samples" in page and "Barriers smaller than round-trip costs" in page


@pytest.mark.slow
def test_the_whole_session(run: Run) -> None:
    """Every execution is accounted for, no decision sees a book of its own future, and the models are judged."""
    done = run("session", "evaluate.resamples=100", last="report")
    account = done.outputs["bars"].manifest["symbols"]["AMZN"]
    short = account["resolutions"]["short"]
    assert short["in_bars"]["trades"] + short["in_open_rest"]["trades"] == 8_974 + 2_445
    quality = done.outputs["book"].manifest["quality"][0]
    assert (quality["crossed"], quality["locked"], quality["missing"]) == (0, 0, 0)
    dataset = load_run(done.folder).dataset()
    seen = dataset.streams["book"].known_ns[dataset.index[:, list(dataset.streams).index("book")]]
    assert bool((seen < dataset.known_ns).all()) and int((dataset.known_ns - seen).max()) <= SECOND
    assert set(done.models) == {"deeplob", "cnn_lstm"}
