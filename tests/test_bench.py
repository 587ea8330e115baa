"""Benchmarks run, record what they say they record, and take no figure without a passing test."""

from __future__ import annotations

import ast
import csv
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

import bench
from bench import __main__ as command
from bench import _measure, _rings, _suite, gpu
from bench._measure import COLUMNS, Case, record_of
from bench._record import append, quantity, show, slug
from bench._rings import Outcome, run_tests

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parent.parent
KERNELS_MAY_IMPORT = {"torch", "numpy", "numba", "kernels", "bench", "talib", *sys.stdlib_module_names}
FAKE = """
import torch
{extra}
from bench._measure import Case

TESTS = "{tests}"


def cases(device, tiny):
    yield Case("fake {name}", "ours", "8 items", 8, "items", lambda: torch.ones(8) + 1, 64)
"""


@pytest.fixture(autouse=True)
def known_ceiling(monkeypatch):
    monkeypatch.setattr(_measure, "copy_bandwidth", lambda device: 1e10)
    monkeypatch.setattr(gpu, "copy_bandwidth", lambda device: 1e10)


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Makes benchmarks: fakes(name=(tests, extra line), ...)."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    monkeypatch.setattr(bench, "__path__", [str(folder)])

    def make(**modules):
        for name, (tests, extra) in modules.items():
            (folder / f"{name}.py").write_text(FAKE.format(name=name, tests=tests, extra=extra))
            monkeypatch.delitem(sys.modules, f"bench.{name}", raising=False)

    return make


def rows_of(folder: Path) -> list[list[str]]:
    (file,) = folder.glob("*.csv")
    with file.open(newline="") as opened:
        return list(csv.reader(opened))


def test_a_tiny_run_ends_in_a_table_and_a_file(tmp_path, capsys):
    for _ in range(2):
        assert command.main(["reset_ends", "--tiny", "--device", "cpu", "--out", str(tmp_path)]) == 0
    header, *rows = rows_of(tmp_path)
    assert tuple(header) == COLUMNS and len(rows) == 4
    for row in (dict(zip(header, line, strict=True)) for line in rows):
        assert row["op"] == "reset_ends" and row["shape"] == "100k trades" and row["device"] == "cpu"
        assert 0 < float(row["p20"]) <= float(row["p50"]) <= float(row["p80"])
        assert float(row["seconds_p50"]) * float(row["p50"]) == pytest.approx(100_000, rel=1e-4)
        assert float(row["share_of_copy"]) == pytest.approx(float(row["bytes_per_s"]) / 1e10, rel=1e-4)
        assert row["commit"] and row["machine"] and row["torch"] == torch.__version__
    assert "plain numba loop, 1 thread" in capsys.readouterr().out


def test_tiny_records_nothing_unless_told_where(monkeypatch, fakes):
    fakes(one=("tests/test_layers.py", ""))
    monkeypatch.setattr(command, "append", lambda *arguments: pytest.fail("recorded"))
    monkeypatch.setattr(command, "run_tests", lambda *arguments: pytest.fail("tests of a tiny run"))
    assert command.main(["one", "--tiny", "--device", "cpu"]) == 0


def test_percentiles_are_those_of_the_times():
    case = Case("op", "ours", "shape", 100, "items", lambda: None, 1000)
    record = record_of(case, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.0, CPU)
    assert (record.p20, record.p50, record.p80) == pytest.approx((100 / 5, 100 / 3.5, 100 / 2))
    assert record.repeats == 6 and record.bytes_per_s == pytest.approx(1000 / 3.5)
    assert record_of(case, [2.0], 0.0, CPU).p20 == 50


def test_another_header_is_refused(tmp_path):
    record = record_of(Case("op", "ours", "shape", 1, "items", lambda: None), [1.0], 0.0, CPU)
    append([record], tmp_path)
    (file,) = tmp_path.glob("*.csv")
    file.write_text("op,seconds\n")
    with pytest.raises(SystemExit, match="its header is not op,implementation,"):
        append([record], tmp_path)


def test_the_table_says_how_many_times_as_fast_ours_is(capsys):
    def record(implementation, shape, seconds):
        return record_of(Case("op", implementation, shape, 1, "items", lambda: None), [seconds], 0.0, CPU)

    show([record("ours", "a", 0.5), record("peer", "a", 1.25), record("peer", "b", 9.0)])
    head, mine, theirs, alone = capsys.readouterr().out.splitlines()
    place = head.index("ours is")
    assert [line[place : place + 7].strip() for line in (mine, theirs, alone)] == ["", "2.5 x", ""]


def test_numbers_and_names_for_people():
    assert [quantity(value) for value in (12.34, 1234.0, 1.5e7, 2e9)] == ["12.3 ", "1.23 k", "15 M", "2 G"]
    assert slug("AMD EPYC 7B13, 2 threads") == "amd_epyc_7b13_2_threads"


def test_peak_memory_is_seen():
    assert 200 < _measure.peak_of(lambda: torch.ones(1 << 26), CPU) < 400 or not Path("/proc/self/clear_refs").exists()


def test_tests_run_file_by_file(monkeypatch, tmp_path):
    monkeypatch.setattr(_rings, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    texts = {
        "good": "def test_one(): pass",
        "bad": "def test_one(): assert 0\ndef test_two(): pass",
        "lacks": "import no_such_package.part\ndef test_one(): pass",
        "broken": "import kernels.no_such_file\ndef test_one(): pass",
        "skips": "import pytest\ndef test_one(): pytest.skip('why')",
        "gpu": "import pytest\n@pytest.mark.gpu\ndef test_one(): pass",
    }
    for name, text in texts.items():
        (tmp_path / "tests" / f"test_{name}.py").write_text(text)
    outcome = run_tests(["tests"], CPU)
    refusals = {name: outcome.refusal(f"tests/test_{name}.py") for name in texts}
    assert refusals.pop("good") is None and outcome.refusal("tests/test_good.py tests/test_skips.py") is None
    assert refusals["bad"] == "FAILED: 1 of its tests fail (tests/test_bad.py); no figure is taken"
    assert refusals["lacks"] == "not run: no module named no_such_package (tests/test_lacks.py)"
    assert refusals["broken"].startswith("FAILED: 1 of its tests")
    assert refusals["skips"] == "not run: none of its tests could run here (tests/test_skips.py)"
    assert refusals["gpu"].startswith("not run: none of its tests could run here")
    assert (outcome.total("passed"), outcome.total("failed"), outcome.total("skipped")) == (2, 2, 1)


def test_pytest_that_does_not_start_is_a_failure(monkeypatch):
    monkeypatch.setattr(_rings.sys, "executable", "/bin/false")
    outcome = run_tests(["tests"], CPU)
    assert outcome.crashed and outcome.refusal("tests/test_x.py").startswith("FAILED: the tests did not run")


OUTCOME = Outcome(
    files={"tests/a.py": Counter(passed=3), "tests/b.py": Counter(passed=1, failed=2), "tests/c.py": Counter()},
    output="E   assert 0",
)


def test_a_failing_gate_takes_no_figure(monkeypatch, fakes, tmp_path, capsys):
    fakes(wrong=("tests/b.py", ""))
    monkeypatch.setattr(command, "run_tests", lambda paths, device: OUTCOME)
    assert command.main(["wrong", "--device", "cpu", "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()
    printed = capsys.readouterr().out
    assert "wrong: FAILED: 2 of its tests fail (tests/b.py); no figure is taken" in printed and "assert 0" in printed


def test_without_cuda_nothing_is_claimed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main(["gpu", "--out", str(tmp_path / "out")]) == 3
    assert capsys.readouterr().out == "no CUDA device: nothing was run and no GPU figure is claimed\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("healthy", [True, False])
def test_the_gpu_run_says_what_ran_and_what_did_not(monkeypatch, fakes, tmp_path, capsys, healthy):
    fakes(fine=("tests/a.py", ""), lacking=("tests/a.py", "import no_such_package"), untested=("tests/c.py", ""))
    if not healthy:
        fakes(wrong=("tests/b.py", ""), breaks=("tests/a.py", "1 / 0"))
    good = Outcome(
        files={name: counts for name, counts in OUTCOME.files.items() if not healthy or name != "tests/b.py"}
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "PARTS", {"torch": "everything", "no_such_package": "that", "no.such.part": "this"})
    monkeypatch.setattr(gpu, "run_tests", lambda paths, device: good)
    assert command.main(["gpu", "--out", str(tmp_path)]) == (0 if healthy else 1)
    assert [row[0] for row in rows_of(tmp_path)] == ["op", "fake fine"]
    summary = json.loads((tmp_path / "gpu.json").read_text())
    assert summary["missing"] == {"no_such_package": "that", "no.such.part": "this"}
    assert [record["op"] for record in summary["records"]] == ["fake fine"]
    expected = {
        "lacking": "not run: no module named no_such_package",
        "untested": "not run: none of its tests could run here (tests/c.py)",
    }
    if not healthy:
        expected["breaks"] = "FAILED: ZeroDivisionError: division by zero"
        expected["wrong"] = "FAILED: 2 of its tests fail (tests/b.py); no figure is taken"
    assert summary["not_run"] == expected
    printed = capsys.readouterr().out
    assert all(f"{name}: {reason}" in printed for name, reason in expected.items())
    assert "package no_such_package: missing: that: not run" in printed
    assert "fake fine" in printed.splitlines()[-2] and "gpu ring" in printed.splitlines()[-1]


def test_a_benchmark_comes_after_its_parts(fakes):
    extra = 'PARTS = ("*_ends", "sums")'
    fakes(z_ends=("a", ""), sums=("a", ""), other=("a", ""), a_ends=("a", ""), bars=("a", extra))
    assert _suite.with_parts("bars") == ["a_ends", "sums", "z_ends", "bars"]
    assert _suite.with_parts("other") == ["other"]


def test_the_parts_of_bars_are_their_ops():
    parts = _suite.with_parts("bars")
    assert parts[-1] == "bars" and {"reset_ends", "carry_ends", "time_ends", "bar_sums"} < set(parts)


@pytest.mark.parametrize("name", _suite.ops())
def test_every_benchmark_names_tests_that_exist(name):
    paths = _suite.tests_of(name).split()
    assert paths and all((ROOT / path).is_file() for path in paths)


@pytest.mark.parametrize("name", [name for name in _suite.ops() if _suite.tests_of(name).startswith("tests/kernels")])
def test_benchmarks_of_kernels_need_no_other_package(name):
    for file in (name, "_inputs", "_measure", "_memory", "_suite", "_record", "_rings", "gpu", "__main__"):
        tree = ast.parse((ROOT / "bench" / f"{file}.py").read_text())
        found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert {module.split(".")[0] for module in found if module} <= KERNELS_MAY_IMPORT
