"""The stage's files, month by month, and states on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from gpu_pipeline.core.config import BarsSection, FeaturesSection, RunConfig
from gpu_pipeline.core.errors import ConfigError, InputError
from gpu_pipeline.core.schema import Bars, Depth, Symbol
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.features import _audit, _stage, _state
from gpu_pipeline.features._make import make_features
from gpu_pipeline.features._set import read_set
from gpu_pipeline.features.engine import Engine
from tests.features.factory import SYMBOL, Tape, market, random_tape

CPU = torch.device("cpu")
SET = {"return": {"windows": [1]}, "sma": {"windows": [4]}, "rsi": {"windows": [3], "on": ["short", "time"]}}


@pytest.fixture(scope="module")
def tables() -> dict[str, Bars]:
    """Two months and a bit, with a month without a single trade between."""
    tape = random_tape(6000, seed=8, minutes=14 * 1440)
    gap = (tape.time >= 1_583_020_800_000_000_000) * 31 * 86_400_000_000_000
    return market(
        Tape(tape.time + gap, tape.price, tape.quantity, tape.side), threshold=60_000, step_ns=60 * 60_000_000_000
    )


def config(features: object, **bars: object) -> RunConfig:
    section = BarsSection.model_construct(type="dollar", resolutions={"medium": None, "long": None}, time=["1min"])
    return RunConfig.model_construct(bars=section, features=FeaturesSection(set=features))  # type: ignore[arg-type]


def write(folder: Path, tables: dict[str, Bars], features: object = SET) -> dict[str, object]:
    asked: list[str] = []

    def bars(symbol: Symbol, resolution: str) -> Bars:
        asked.append(resolution)
        return tables[resolution]

    content = _stage.write(folder, config(features), {SYMBOL.name: SYMBOL}, bars, no_book, CPU, Trace())
    return {**content, "asked": asked}


def no_book(symbol: Symbol) -> Depth:
    raise AssertionError("no feature of the set is of the book")


def test_months_on_disk_are_one_call_in_memory(tmp_path: Path, tables: dict[str, Bars]) -> None:
    content = write(tmp_path, tables)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet"))
    assert files == ["TESTUSDT/TESTUSDT_2020_02.parquet", "TESTUSDT/TESTUSDT_2020_04.parquet"]
    whole, loaded = make_features(tables, SET), _stage.load(tmp_path, SYMBOL, CPU)
    assert _audit.same_bits(whole.values.contiguous(), loaded.values.contiguous()).all()
    for name in ("time_ns", "known_ns", "last_trade_row"):
        assert torch.equal(getattr(whole, name), getattr(loaded, name))
    assert (loaded.names, loaded.levels, loaded.warmup) == (whole.names, whole.levels, whole.warmup)
    assert content["rows_in"] == content["rows_out"] == len(whole) and content["columns"] == list(whole.names)
    span = [int(whole.time_ns[0]), int(whole.time_ns[-1])]
    assert content["symbols"] == {"TESTUSDT": {"bars": len(whole), "rows": len(whole), "span": span}}
    assert content["levels"] == list(whole.levels) and json.dumps(content)


def test_a_file_holds_floats_times_and_what_is_said_of_the_columns(tmp_path: Path, tables: dict[str, Bars]) -> None:
    write(tmp_path, tables)
    path = tmp_path / "TESTUSDT" / "TESTUSDT_2020_04.parquet"
    schema = pq.read_schema(path)
    assert str(schema.field("time_ns").type) == str(schema.field("known_ns").type) == "timestamp[ns, tz=UTC]"
    assert str(schema.field("return_1_db_s").type) == "double"
    about = json.loads(schema.metadata[b"features"])
    assert about["levels"][0] == "sma_4_db_s" and about["warmup"]["rsi_3_tb_1min"] == 3
    months = pq.read_table(path)["time_ns"].to_pandas().dt.month
    assert set(months) == {4}


def test_only_resolutions_that_the_set_needs_are_loaded(tmp_path: Path, tables: dict[str, Bars]) -> None:
    assert write(tmp_path, tables, {"rsi": {"windows": [3], "on": ["long"]}})["asked"] == ["short", "long"]


def test_no_bars_are_an_error_that_says_why(tmp_path: Path, tables: dict[str, Bars]) -> None:
    none = {name: table.select(slice(0, 0)) for name, table in tables.items()}
    with pytest.raises(
        InputError, match=r"the trades of TESTUSDT do not fill one bar .*; use more trades or a smaller"
    ):
        write(tmp_path, none)
    with pytest.raises(InputError, match="TESTUSDT: holds no features; run the stage 'features' first"):
        _stage.load(tmp_path, SYMBOL, CPU)


def test_a_run_without_bars_or_with_a_wrong_set(tmp_path: Path, tables: dict[str, Bars]) -> None:
    with pytest.raises(InputError, match="the run file needs the sections 'bars' and 'features'"):
        _stage.compile_run(RunConfig.model_construct(bars=None, features=None))
    with pytest.raises(ConfigError, match="no feature 'rsy'; did you mean 'rsi'"):
        write(tmp_path, tables, {"rsy": {}})


def test_states_of_another_set_or_damaged_are_refused(tmp_path: Path) -> None:
    engine = Engine(read_set({"sma": {"windows": [4]}}))
    _state.save_state(tmp_path, engine, engine.start(CPU))
    other = Engine(read_set({"sma": {"windows": [5]}}))
    with pytest.raises(InputError, match=r"another feature set \(columns that differ: sma_4_db_s, sma_5_db_s\)"):
        _state.load_state(tmp_path, other, CPU)
    (tmp_path / "state.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"is not the state that state.json describes; delete both"):
        _state.load_state(tmp_path, engine, CPU)
    with pytest.raises(InputError, match=r"state.json: cannot be read as JSON"):
        _state.load_state(tmp_path / "gone", engine, CPU)
