"""`audit features`: what it says of sound and of faulty features, and the code that it ends with."""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from gpu_pipeline.cli import main
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars, Trades
from gpu_pipeline.features import _audit, _audit_plan, _feature
from gpu_pipeline.features._audit_values import check_warmup
from gpu_pipeline.features._set import Choice, read_set
from gpu_pipeline.features.engine import Engine
from gpu_pipeline.features.expression import Columns, Expression, loop
from kernels.loops import row_loop
from tests.features.factory import market, plain_bars, random_tape

SET = {"return": {"windows": [1]}, "rsi": {"windows": [7]}, "sma_ratio": {"windows": [5], "on": ["short", "1min"]}}
MODULE = "some_other_features"


@row_loop
def next_row(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    for row in range(x.shape[1]):
        y[0, row] = x[0, min(row + 1, x.shape[1] - 1)]


@row_loop
def infinite_at_100(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    for row in range(x.shape[1]):
        y[0, row] = np.inf if seen + row == 100 else x[0, row]


@row_loop
def forgets(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Counts the rows of a call: what it knows is not in the state."""
    for row in range(x.shape[1]):
        y[0, row] = row


def leak(bars: Columns) -> dict[str, Expression]:
    """The next close."""
    return {"leak": loop(next_row, (bars.close,), state=0)[0] / bars.close}


def boundless(bars: Columns) -> dict[str, Expression]:
    """Infinite once."""
    return {"boundless": loop(infinite_at_100, (bars.close,), state=0)[0]}


def forgetful(bars: Columns) -> dict[str, Expression]:
    """Another number in every chunk."""
    return {"forgetful": loop(forgets, (bars.close,), state=0)[0]}


def still(bars: Columns) -> dict[str, Expression]:
    """Always 2."""
    return {"still": bars.close - bars.close + 2.0}


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType(MODULE)
    module.__file__ = __file__
    functions = (leak, boundless, forgetful, still)
    module.FEATURES = tuple(_feature.Feature(f.__name__, f) for f in functions)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, MODULE, module)
    return module


@pytest.fixture(scope="module")
def tables() -> dict[str, Bars]:
    return market(random_tape(3000, seed=5, minutes=40), threshold=15_000)


def audited(tables: dict[str, Bars], features: Any, **options: Any) -> _audit_plan.Result:
    return _audit_plan.audit(read_set(features), tables, **options)


def test_where_there_is_a_gpu_its_numbers_are_compared(tables: dict[str, Bars], tmp_path: Path) -> None:
    engine = Engine(read_set(SET), tuple(tables))
    part = _audit_plan.Slice(engine, tables, {}, seed=0)
    with_gpu, without = ([name for name, _ in part.checks(engine, torch.device(d), tmp_path)] for d in ("cuda", "cpu"))
    assert with_gpu == [*without, "cuda"] and without[-1] == "grouped"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_passes_the_audit(tables: dict[str, Bars]) -> None:
    result = audited(tables, SET, device=torch.device("cuda"))
    assert not result.failures and not any("did not run" in line for line in result.remarks())


def test_a_sound_set_has_no_failure(tables: dict[str, Bars]) -> None:
    told: list[str] = []
    result = audited(tables, SET, told=told.append)
    assert not result.failures and not list(result.lines())
    assert (result.columns, result.rows, result.audited) == (10, len(tables["short"]), len(tables["short"]))
    assert result.checks == len(told) >= 4 + 5 + 4
    assert {"values", "look-ahead", "chunks", "bar by bar", "restored state", "grouped"} == set(told)
    assert result.summary() == f"TESTUSDT: 10 columns, {result.rows:,} rows, {result.checks} checks, 0 failures"
    assert "TESTUSDT: CPU against CUDA did not run: the device of the run is cpu" in list(result.remarks())


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("leak", {"look-ahead (future cut off)", "look-ahead (future changed)", "chunks", "bar by bar"}),
        ("forgetful", {"chunks", "bar by bar", "restored state"}),
        ("boundless", {"finite"}),
    ],
)
def test_a_faulty_feature_is_told_by_its_column_in_one_line(
    tables: dict[str, Bars], outside: types.ModuleType, name: str, checks: set[str]
) -> None:
    result = audited(tables, {f"{MODULE}.{name}": {"on": "short"}, "return": {"windows": [1]}})
    assert {finding.column for finding in result.failures} == {f"{name}_db_s"}
    assert {finding.check for finding in result.failures} >= checks
    (line,) = result.lines()
    assert line.startswith(f"TESTUSDT: {name}_db_s: ")
    assert "1 failures" in result.summary()


def test_constant_columns_and_columns_without_a_value_are_warnings(
    tables: dict[str, Bars], outside: types.ModuleType
) -> None:
    few = len(tables["long"])
    result = audited(tables, {f"{MODULE}.still": {"on": "short"}, "sma_ratio": {"windows": [few + 1], "on": "long"}})
    assert not result.failures
    assert [str(finding) for finding in result.warnings] == [
        f"constant: still_db_s: is 2 in all {len(tables['short']):,} rows",
        f"no value: sma_ratio_{few + 1}_db_l: needs {few + 1} rows of {few}",
    ]
    assert list(result.remarks())[:2] == [
        f"TESTUSDT: warning: 1 columns have no value: sma_ratio_{few + 1}_db_l (needs {few + 1} rows of {few})",
        f"TESTUSDT: warning: still_db_s is 2 in all {len(tables['short']):,} rows",
    ]


def test_big_data_are_audited_at_both_ends(
    tables: dict[str, Bars], outside: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = _audit_plan.slices(tables, 20)
    short = tables["short"].last_trade_row
    assert [len(first["short"]), len(last["short"])] == [20, 20]
    assert int(first["short"].last_trade_row[-1]) == int(short[19]) and int(last["short"].last_trade_row[0]) == int(
        short[-20]
    )
    assert 0 < len(last["medium"]) <= 5 and len(last["1min"]) < len(tables["1min"])
    whole = audited(tables, SET)
    result = audited(tables, SET, slice_rows=20)
    assert not result.failures and result.audited == 40 < result.rows and result.checks > whole.checks
    assert "folds on 40 of them" in result.summary()
    monkeypatch.setattr(_audit_plan, "ENDS", (slice(None, 90), slice(-90, None)))
    monkeypatch.setattr(_audit_plan, "VALUE_ROWS", 90)
    # Rows are counted within an end, so that the fault at row 100 is in neither.
    assert not audited(tables, {f"{MODULE}.boundless": {"on": "short"}}, slice_rows=20).failures


def test_values_are_looked_through_in_pieces(tables: dict[str, Bars], outside: types.ModuleType) -> None:
    from gpu_pipeline.features import _audit_values

    choices = read_set({f"{MODULE}.boundless": {"on": "short"}, "sma_ratio": {"windows": [70], "on": "short"}})
    engine = Engine(choices, tuple(tables))
    wanted = _audit_values.look_through(engine, "short", tables["short"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_audit_values, "ROWS_AT_ONCE", 7)
        assert _audit_values.look_through(engine, "short", tables["short"]) == wanted
    assert [str(finding) for finding in wanted.failures] == ["finite: boundless_db_s: is infinite at row 100"]


def test_devices_may_differ_by_the_tolerance_of_the_column_and_in_nothing_else() -> None:
    engine = Engine(read_set({"sma": {"windows": [1]}}), ("short",), suffixes=False)
    wanted = torch.tensor([[math.nan], [4.0], [math.inf], [-1.0]], dtype=torch.float64)

    def found(row: int, value: float) -> list[_audit.Finding]:
        got = wanted.clone()
        got[row] = value
        return _audit.check_devices("cuda", engine, {"sma_1": 1e-9}, wanted, got)

    assert not found(0, math.nan) and not found(3, -1.0 + 3e-9) and not found(1, 4.0 + 3e-9)
    assert str(found(3, -1.0 + 5e-9)[0]) == "cuda: sma_1: row 3 is -0.999999995 instead of -1.0 (5e-09 apart)"
    for row, value in ((0, 1.0), (1, math.nan), (2, -math.inf), (2, 1.0), (1, math.inf)):
        assert found(row, value)


def test_time_bars_as_the_base_are_there_with_the_trade_after_their_last(tables: dict[str, Bars]) -> None:
    base = tables["1min"]
    assert _audit.arrival("short", base, base).tolist() == (base.last_trade_row + 1).tolist()
    result = audited({"short": base, "medium": tables["medium"]}, {"return": {"windows": [1]}})
    assert not result.failures


def test_live_rows_are_held_against_the_first_rows_of_the_batch(tables: dict[str, Bars]) -> None:
    engine = Engine(read_set(SET), tuple(tables))
    rows = _audit.run_whole(engine, _audit.cut(tables, -1, int(tables["short"].last_trade_row[40])))
    assert not audited(tables, SET, live=lambda _: (rows, "so")).failures
    rows.values[7, 0] += 1e-12
    result = audited(tables, SET, live=lambda _: (rows, "so"))
    assert [finding.check for finding in result.failures] == ["live"]
    assert any("live against batch: 41 rows (so)" in line for line in result.remarks())
    assert any("no bar closed (no)" in line for line in audited(tables, SET, live=lambda _: (None, "no")).remarks())


def test_a_warmup_that_is_too_long_or_too_short(tables: dict[str, Bars]) -> None:
    def late(bars: Columns) -> dict[str, Expression]:
        return {"late": loop(infinite_at_100, (bars.close,), state=0, warmup=100)[0]}

    feature = _feature.Feature("late", late)
    found = check_warmup([Choice(feature, feature.config())], {"short": tables["short"]})
    assert [str(finding) for finding in found] == ["finite: late_db_s: is infinite at row 100"]


def test_no_bars_cannot_be_audited() -> None:
    with pytest.raises(InputError, match="there is no complete bar dollar_plain of TESTUSDT to audit"):
        audited({"short": plain_bars(np.array([1.0])).select(slice(0, 0))}, {"return": {"windows": [1]}})


def run_file(folder: Path, features: Any, **changes: Any) -> Path:
    values = {
        "name": "t",
        "runs": str(folder / "runs"),
        "device": "cpu",
        "symbols": ["BTCUSDT"],
        "ingest": {"trades": {"source": "simulated", "trades": 6_000, "trades_per_day": 100_000}},
        "bars": {"type": "dollar", "threshold": 20_000, "time": ["1min"]},
        "features": {"set": features},
    }
    path = folder / "run.yaml"
    YAML().dump(values | changes, path)
    return path


@pytest.fixture
def few_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_pipeline.live.replay.ONE_BY_ONE", {Trades: 300})


@pytest.mark.usefixtures("few_one_by_one")
def test_the_command_passes_a_sound_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = {"source": "simulated", "trades": 6_000, "trades_per_day": 100_000, "book_step": "10s", "book_levels": 6}
    changes = {
        "ingest": {"trades": both, "book": both},
        "book": {"form": "snapshots", "cadence": "10s", "near_levels": 4, "deep_bins": None},
    }
    path = run_file(tmp_path, {**SET, "microprice": {}}, **changes)
    assert main(["audit", "features", str(path)]) == 0
    out = capsys.readouterr().out
    assert "nothing is wrong with the features" in out
    assert "0 failures" in out and "live against batch: " in out and "(300 trades one by one, then to 6,000)" in out
    assert not (tmp_path / "runs/t/features").exists()


@pytest.mark.usefixtures("few_one_by_one")
def test_the_command_catches_a_leak(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], outside: types.ModuleType
) -> None:
    path = run_file(tmp_path, {**SET, f"{MODULE}.leak": {}})
    assert main(["audit", "features", str(path)]) == 1
    said = capsys.readouterr()
    for resolution in ("s", "m"):
        assert f"BTCUSDT: leak_db_{resolution}: look-ahead (future cut off)" in said.out
    assert "BTCUSDT: return_1" not in said.out
    assert "columns fail" in said.err


@pytest.mark.usefixtures("few_one_by_one")
def test_the_command_audits_columns_that_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_file(tmp_path, {})
    features = "{set: {return: {windows: [1], on: [short, long]}}, include: [return_1_db_s]}"
    assert main(["audit", "features", str(path), f"features={features}"]) == 0
    assert "BTCUSDT: 1 columns" in capsys.readouterr().out


def test_what_cannot_be_audited_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_file(tmp_path, SET)
    assert main(["audit", "featurs", str(path)]) == 2
    assert (
        "audit: cannot audit 'featurs'; there are book, features; did you mean 'features'?" in capsys.readouterr().err
    )
    assert main(["audit", "features", str(path), "features=null"]) == 2
    assert "features: the run file needs the sections 'bars' and 'features'" in capsys.readouterr().err
