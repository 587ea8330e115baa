"""Peers of the benchmark of bars: their processes, their environments, and that a wrong bar is refused."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import _measure, bars
from bench._inputs import TradeColumns
from bench._measure import Case, Elsewhere, interleaved
from bench._tables import as_trades, trade_table, write_clean
from bench.peers import _cases, _environments
from bench.peers._check import check, compare
from bench.peers._client import PeerFailed, Worker
from bench.peers._contract import FILE, RESIDENT, read
from bench.peers._worker import PLAIN
from tests import fake_peer

CPU = torch.device("cpu")
PEERS = {name: importlib.import_module(f"bench.peers.{name}") for name in _environments.names()}
ROWS, THRESHOLD = 4000, 60_000_000 * 20


@pytest.fixture(scope="module")
def clean_file(tmp_path_factory) -> Path:
    (path,) = write_clean(tmp_path_factory.mktemp("clean"), trade_table(ROWS, CPU))
    return path


@pytest.fixture(scope="module")
def worker(clean_file) -> Worker:
    started = Worker("tests.fake_peer", Path(sys.executable), threads=1)
    started.open(clean_file, THRESHOLD)
    return started


def test_a_call_is_timed_by_the_peers_clock(worker):
    started = time.perf_counter()
    seconds = worker.call("sleeps").seconds()
    assert 0.05 <= seconds <= time.perf_counter() - started
    assert isinstance(worker.call("sleeps"), Elsewhere)


def test_a_case_elsewhere_is_not_timed_here(monkeypatch):
    class There:
        def seconds(self):
            return 0.25

        def peak_mib(self):
            return 7.0

    monkeypatch.setattr(_measure, "copy_bandwidth", lambda device: 1e9)
    here = Case("op", "ours", "shape", 100, "trades", lambda: None)
    (record, _) = interleaved([Case("op", "peer", "shape", 100, "trades", There(), 50), here], CPU)
    assert record.seconds_p50 == 0.25 and record.p50 == 400 and record.peak_mib == 7.0 and record.bytes_per_s == 200


def test_peak_memory_is_the_peers(worker):
    peak = worker.call("holds").peak_mib()
    assert fake_peer.HELD_MIB * 0.9 < peak < fake_peer.HELD_MIB * 1.5 or not Path("/proc/self/clear_refs").exists()


def test_what_a_peer_prints_is_no_answer(worker):
    assert worker.seconds("prints") < 10


def test_a_peer_is_given_our_number_of_threads(worker):
    assert worker.table("threads") == {"count": [1]}


def test_an_exception_there_is_a_line_here(worker):
    with pytest.raises(PeerFailed, match=r"fake_peer: .*'raises'.*: ZeroDivisionError: "):
        worker.seconds("raises")
    assert worker.seconds("sleeps") > 0


def test_a_process_that_ends_says_its_last_words(clean_file):
    started = Worker("tests.fake_peer", Path(sys.executable), threads=1)
    started.open(clean_file, THRESHOLD)
    for _ in range(2):
        with pytest.raises(PeerFailed, match=r"its process ended at .*: out of everything$"):
            started.seconds("dies")
    unknown = Worker("bench.peers.nobody", Path(sys.executable), threads=1)
    with pytest.raises(PeerFailed, match=r"No module named 'bench\.peers\.nobody'$"):
        unknown.open(clean_file, THRESHOLD)


def test_a_process_stops_when_nobody_holds_it():
    started = Worker("tests.fake_peer", Path(sys.executable), threads=1)
    process, call = started._process, started.call("bars")
    del started
    gc.collect()
    assert process.poll() is None
    del call
    gc.collect()
    assert process.poll() is not None


def test_the_check_counts_bars_that_are_none_of_ours(worker, clean_file):
    (line,) = check(worker, fake_peer, clean_file, THRESHOLD)
    found = len(fake_peer.definition(read(clean_file), THRESHOLD, "bars")["volume"])
    assert found > 100
    said = f"fake_peer, bars: {found} bars of 4,000 trades, all as its rule says; 0 differ from ours under reset and "
    assert line.startswith(said)
    assert line.endswith("under carry: none") and " 0 under carry" not in line


def test_the_check_refuses_a_peer_whose_bars_are_not_as_stated(worker, clean_file, monkeypatch):
    monkeypatch.setitem(fake_peer.CALLS, "liar", fake_peer.CALLS["bars"])
    with pytest.raises(PeerFailed, match=r"^fake_peer, liar: volume of bar 0 is 1\.0, its rule says "):
        check(worker, fake_peer, clean_file, THRESHOLD)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"a": [1, 2, 3]}, None),
        ({"a": [1, 2, 4]}, "a of bar 2 is 4, its rule says 3"),
        ({"a": [1, 2]}, "it makes 2 bars, its rule 3"),
        ({"a": []}, "it made no bars"),
        ({}, "it made no bars"),
        ({"b": [0.5, float("nan"), 1e6 + 0.1]}, None),
        ({"b": [0.5, 0.0, 1e6]}, "b of bar 1 is 0.0, its rule says nan"),
        ({"b": [0.5, float("nan"), 1e6 + 2]}, "b of bar 2 is 1000002.0, its rule says 1000000.0"),
        ({"a": [1, 2, 3], "b": [0.500002, float("nan"), 1e6]}, "b of bar 0 is"),
    ],
)
def test_columns_are_compared(found, message):
    expected = {"a": np.array([1, 2, 3]), "b": np.array([0.5, np.nan, 1e6])}
    if message is None:
        compare("x", found, expected)
    else:
        with pytest.raises(PeerFailed, match=message):
            compare("x", found, expected)


def test_a_clean_file_is_read_as_it_was_written(clean_file):
    trades, table = read(clean_file), trade_table(ROWS, CPU)
    assert np.array_equal(trades.notional, table.notional.numpy())
    assert np.array_equal(trades.price, table.symbol.price.to_float(table.price_ticks).numpy())
    assert np.array_equal(trades.quantity, table.symbol.quantity.to_float(table.quantity_lots).numpy())
    assert trades.quote(10**9) == float(table.symbol.notional.exact(10**9))
    assert len(trades.head(7)) == 7 and len(trades.head(None)) == ROWS


@pytest.mark.parametrize("name", _environments.names())
def test_a_peer_is_a_file_and_its_pins(name):
    module = PEERS[name]
    pins = [line for line in (_environments.PINS / f"{name}.txt").read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line for line in pins)
    assert {name, "numba", "numpy", "pyarrow", *module.PACKAGES} <= {line.split("==")[0] for line in pins}
    assert name in module.PACKAGES and "\nRule: " in module.__doc__
    assert {call.op for call in module.CALLS.values()} <= {RESIDENT, FILE}


def test_every_file_of_a_peer_has_pins():
    files = {path.stem for path in _environments.PINS.glob("*.py") if not path.stem.startswith("_")}
    assert files == set(PEERS) >= {"finmlkit", "mlfinpy", "polars"}


def test_an_environment_of_other_pins_does_not_count(monkeypatch, tmp_path):
    monkeypatch.setattr(_environments, "FOLDER", tmp_path)
    assert _environments.python_of("polars") is None
    (tmp_path / "polars").mkdir()
    stamp = tmp_path / "polars" / "pinned.txt"
    stamp.write_text("polars==0.1\n")
    assert _environments.python_of("polars") is None
    stamp.write_text((_environments.PINS / "polars.txt").read_text())
    assert _environments.python_of("polars") == tmp_path / "polars" / "bin" / "python"


def test_an_environment_that_cannot_be_made_is_a_line(monkeypatch, tmp_path, capsys):
    def refuse(command, **options):
        raise subprocess.CalledProcessError(1, command, output="", stderr="ERROR: one\nERROR: no such package\n")

    monkeypatch.setattr(_environments, "FOLDER", tmp_path)
    monkeypatch.setattr(_environments.subprocess, "run", refuse)
    assert _environments.main(["polars"]) == 3
    assert capsys.readouterr().out.endswith("polars: FAILED: ERROR: no such package\n")
    with pytest.raises(SystemExit):
        _environments.main(["nobody"])
    assert "no peer is called 'nobody'; they are " in capsys.readouterr().err


def test_bars_run_without_any_environment(monkeypatch, capsys):
    monkeypatch.setattr(_cases, "python_of", lambda name: None)
    cases = list(bars.cases(CPU, tiny=True))
    assert [case.shape for case in cases if case.implementation == "ours"] == [
        *(f"100k trades, {length} a bar" for length in ("20", "100", "1,000", "20,000")),
        cases[-1].shape,
    ]
    assert cases[-1].op == FILE and cases[-1].shape.startswith("100k trades, 1,000 a bar, ")
    assert {case.implementation for case in cases} == {"ours", "plain numba loop, 1 thread"}
    assert len(cases[-1].call()) == len(cases[4].call())
    said = capsys.readouterr().out
    for name in PEERS:
        assert f"{name}: not run: it has no environment; `python -m bench peers {name}` makes it\n" in said


@pytest.mark.parametrize("length", bars.TRADES_A_BAR[:3])
def test_bars_have_the_length_that_they_are_named_by(length):
    table = trade_table(400_000, CPU)
    columns = TradeColumns(*(getattr(table, name) for name in TradeColumns._fields))
    found = bars.dollar_bars(columns, bars.threshold_of(columns, length)).columns["num_ticks"]
    assert float(found.double().mean()) == pytest.approx(length, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", _environments.names())
def test_a_real_peer_does_what_its_file_says(name, tmp_path):
    if _environments.python_of(name) is None:
        try:
            _environments.make(name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"the environment of {name} cannot be made here: {(error.stderr or '').strip()[-200:]}")
    (path,) = write_clean(tmp_path, as_trades(bars.trades(20_000, CPU)))
    real = Worker(f"bench.peers.{name}", _environments.python_of(name), threads=2)
    lines = check(real, PEERS[name], path, 60_000_000 * 100)
    assert len(lines) == len(PEERS[name].CALLS)
    for call in (*PEERS[name].CALLS, PLAIN):
        assert real.seconds(call) > 0
