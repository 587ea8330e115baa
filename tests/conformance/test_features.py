"""Every feature of the folder, present and future: no look-ahead, any chunking, declared warm-up, unique names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpu_pipeline.core import plugins
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features import _audit, _audit_plan, _feature, _state
from gpu_pipeline.features._audit_values import check_warmup
from gpu_pipeline.features._book import BookRows
from gpu_pipeline.features._set import Choice, read_set
from gpu_pipeline.features.engine import Engine, suffix
from gpu_pipeline.features.expression import Columns, Expression, loop
from kernels.loops import RowLoop, row_loop
from tests.features.factory import depth_of, market, random_tape

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
RESOLUTIONS = ("short", "medium", "long", "1min", "book")


def default_choice(name: str) -> Choice:
    """A feature with small parameters: 7 for whatever has no default."""
    feature = _feature.catalogue()[name]
    fields = feature.config.model_fields
    return Choice(feature, feature.config(**{key: 7 for key, field in fields.items() if field.is_required()}))


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    tape = random_tape(4000, seed=11, minutes=40)
    return {**market(tape, threshold=30_000, medium=4, long=3), "book": BookRows.of(depth_of(tape))}


@pytest.fixture(scope="module")
def choices() -> list[Choice]:
    return [default_choice(name) for name in _feature.catalogue()]


def trade_count(tables: dict[str, Any]) -> int:
    return int(tables["short"].last_trade_row[-1]) + 1


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest, tables: dict[str, Any]) -> dict[str, list[_audit.Finding]]:
    """What `gpu-pipeline audit features` finds, by column, in one audit of the features whose tests run."""
    calls = [getattr(item, "callspec", None) for item in request.session.items if "keeps_the_laws" in item.name]
    asked = sorted({call.params["name"] for call in calls if call is not None})
    result = _audit_plan.audit([default_choice(name) for name in asked], tables, seed=3)
    assert result.checks >= 15 and result.audited == result.rows == len(tables["short"])
    return _audit_plan.by_column(result.failures)


def show(findings: list[_audit.Finding]) -> str:
    return "\n".join(map(str, findings))


def test_the_market_has_what_the_checks_need(tables: dict[str, Any]) -> None:
    assert all(len(tables[name]) > least for name, least in (("short", 100), ("medium", 25), ("long", 9), ("1min", 20)))
    assert (tables["short"].close_timestamp.diff() == 0).any()


@pytest.mark.parametrize("name", sorted(_feature.catalogue()))
def test_feature_keeps_the_laws(name: str, found: dict[str, list[_audit.Finding]]) -> None:
    choice = default_choice(name)
    columns = choice.feature.columns(choice.parameters)
    tails = tuple(suffix(resolution) for resolution in RESOLUTIONS)
    findings = [part for column in columns for tail in tails for part in found.get(column + tail, ())]
    assert not findings, show(findings)
    assert choice.feature.summary and set(choice.feature.level_columns(choice.parameters)) <= set(columns)


def test_one_bar_at_a_time_gives_the_bits_of_one_call(tables: dict[str, Any], choices: list[Choice]) -> None:
    engine = Engine(choices, tuple(tables))
    base = tables["short"]
    every_bar = sorted({row for name, table in tables.items() for row in _audit.arrival(name, table, base).tolist()})
    findings = _audit.check_chunks(engine, tables, every_bar)
    assert not findings, show(findings)


def test_state_restored_by_another_process_goes_on_with_the_same_bits(
    tables: dict[str, Any], choices: list[Choice], tmp_path: Path
) -> None:
    engine = Engine(choices, tuple(tables))
    middle = trade_count(tables) // 2 + 7
    _, state = engine.step(_audit.cut(tables, -1, middle), engine.start(CPU))
    _state.save_state(tmp_path / "state", engine, state)
    for name, table in tables.items():
        if name == "book":
            torch.save([table.depth, table.known_ns, table.valid], tmp_path / "book.pt")
        else:
            table.to_parquet(tmp_path / f"{name}.parquet")
    script = f"""
import sys, torch
sys.path.insert(0, {str(ROOT)!r})
from tests.conformance.test_features import resume
resume({str(tmp_path)!r}, {list(tables)!r}, {middle})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    rest = torch.load(tmp_path / "rest.pt", weights_only=True)
    whole = _audit.run_whole(engine, tables).values
    assert 0 < len(rest) < len(whole)
    assert _audit.same_bits(whole[-len(rest) :].contiguous(), rest).all()


def resume(folder: str, names: list[str], middle: int) -> None:
    """The other process: reads bars and state, folds the rest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.features.factory import SYMBOL

    tables: dict[str, Any] = dict.fromkeys(names)
    tables["book"] = BookRows(SYMBOL, *torch.load(Path(folder) / "book.pt", weights_only=True))
    for name in (name for name in names if name != "book"):
        frame = pq.read_table(Path(folder) / f"{name}.parquet")
        plain = {
            key: frame[key].cast(pa.int64()) if pa.types.is_timestamp(frame[key].type) else frame[key]
            for key in frame.column_names
        }
        tables[name] = Bars(SYMBOL, name, {key: torch.tensor(column.to_numpy()) for key, column in plain.items()})
    engine = Engine([default_choice(name) for name in _feature.catalogue()], tuple(tables))
    state = _state.load_state(Path(folder) / "state", engine, CPU)
    values = engine.step(_audit.cut(tables, middle, 1 << 62), state)[0].values
    torch.save(values.contiguous(), Path(folder) / "rest.pt")


def test_feature_names_are_unique_and_column_names_too(choices: list[Choice]) -> None:
    declared = [f.name for name in plugins.names("features") for f in plugins.load("features", name).module.FEATURES]
    assert len(declared) == len(set(declared)) >= 25
    columns = [column for choice in choices for column in choice.feature.columns(choice.parameters)]
    assert len(columns) == len(set(columns))


@pytest.mark.parametrize("name", ["standard", "demo"])
def test_shipped_sets_pass_on_all_resolutions(name: str, tables: dict[str, Any]) -> None:
    engine = Engine(read_set(ROOT / "configs" / "features" / f"{name}.yaml"), tuple(tables))
    assert len(engine.names) == len(set(engine.names)) and not engine.levels
    assert all(column.count("_db_") + column.count("_tb_") == 1 for column in engine.names)
    findings = _audit_plan.audit(read_set(ROOT / "configs" / "features" / f"{name}.yaml"), tables).failures
    assert not findings, show(findings)


@row_loop
def peek(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    for row in range(x.shape[1]):
        y[0, row] = x[0, min(row + 1, x.shape[1] - 1)]


@row_loop
def chunk_mean(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    total = 0.0
    for row in range(x.shape[1]):
        total += x[0, row]
    for row in range(x.shape[1]):
        y[0, row] = x[0, row] - total / x.shape[1]


@row_loop
def running_peak(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    for row in range(x.shape[1]):
        state[0] = max(state[0], x[0, row])
        y[0, row] = state[0]


@row_loop
def gap_of_three(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    for row in range(x.shape[1]):
        y[0, row] = np.nan if seen + row < 3 else x[0, row]


def of_loop(name: str, function: RowLoop, warmup: int = 0) -> Choice:
    def feature(bars: Columns) -> dict[str, Expression]:
        return {name: loop(function, (bars.close,), state=1, warmup=warmup)[0]}

    declared = _feature.Feature(name, feature)
    return Choice(declared, declared.config())


def test_an_honest_loop_passes(tables: dict[str, Any]) -> None:
    engine = Engine([of_loop("peak", running_peak)], tuple(tables))
    findings = _audit.check_chunks(engine, tables, [100, 101, 900]) + _audit.check_future(engine, tables, 1000)
    assert not findings, show(findings)
    peak = _audit.run_whole(engine, tables).values[:, 0]
    assert peak.tolist() == np.maximum.accumulate(tables["short"].close.numpy()).tolist()


@pytest.mark.parametrize(("function", "shifted"), [(peek, "leak"), (chunk_mean, "mean")])
def test_a_loop_that_peeks_is_caught(function: RowLoop, shifted: str, tables: dict[str, Any]) -> None:
    engine = Engine([of_loop(shifted, function)], ("short",))
    future = _audit.check_future(engine, {"short": tables["short"]}, 1000)
    assert {finding.check.split(" ")[0] for finding in future} == {"look-ahead"}
    assert any("cut off" in finding.check for finding in future)
    assert _audit.check_chunks(engine, {"short": tables["short"]}, [1000])


def test_a_wrong_warmup_is_caught(tables: dict[str, Any]) -> None:
    found = check_warmup([of_loop("late", gap_of_three, warmup=1)], {"short": tables["short"]})
    assert [str(finding) for finding in found] == ["warm-up: late_db_s: declares 1 rows, but row 1 has no value"]


def test_a_negative_lag_is_refused() -> None:
    with pytest.raises(InputError, match=r"lag\(-1\): a feature cannot look ahead"):
        Columns().close.lag(-1)


def test_manifest_of_a_state_is_plain_json(tables: dict[str, Any], choices: list[Choice], tmp_path: Path) -> None:
    engine = Engine(choices, tuple(tables))
    _state.save_state(tmp_path, engine, engine.start(CPU))
    assert json.loads((tmp_path / "state.json").read_text())["columns"] == list(engine.names)
