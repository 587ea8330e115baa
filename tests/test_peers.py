"""Peers of the benchmark of bars: the process protocol, what each rule says, and that a wrong bar is refused."""

from __future__ import annotations

import csv
import gc
import importlib
import subprocess
import sys
import time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import _measure, _plain, bars
from bench._inputs import TradeColumns
from bench._measure import Case, Elsewhere, interleaved
from bench._tables import SYMBOL, as_trades, trade_table, write_clean
from bench.peers import _cases, _environments, finmlkit, mlfinpy, polars
from bench.peers._check import check, compare
from bench.peers._client import PeerFailed, Worker
from bench.peers._contract import FILE, RESIDENT, FileTrades, read
from bench.peers._definition import columns_of
from bench.peers._worker import PLAIN
from tests import fake_peer

CPU = torch.device("cpu")
PEERS = {"finmlkit": finmlkit, "mlfinpy": mlfinpy, "polars": polars}
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


def made(price, lots, time_ns=None, sold=None, tick="1", lot="1") -> FileTrades:
    """Trades by hand."""
    rows = len(price)
    return FileTrades(
        path=Path("none"),
        time_ns=np.arange(rows) if time_ns is None else np.array(time_ns),
        price_ticks=np.array(price),
        quantity_lots=np.array(lots),
        trade_id=np.arange(1, rows + 1),
        is_buyer_maker=np.zeros(rows, bool) if sold is None else np.array(sold, bool),
        price_step=Fraction(tick),
        lot=Fraction(lot),
    )


def random_trades(rows: int, seed: int, tick="0.01", lot="0.001") -> FileTrades:
    """Small sizes, some zero; a third of the prices repeat; equal times."""
    random = np.random.default_rng(seed)
    price = 50_000 + np.cumsum(random.integers(-1, 2, rows))
    times = np.cumsum(random.integers(0, 3, rows))
    return made(price, random.integers(0, 9, rows), times, random.integers(0, 2, rows), tick, lot)


def rows_of(columns) -> list[tuple[int, int]]:
    return list(zip(columns["first_trade_row"].tolist(), columns["last_trade_row"].tolist(), strict=True))


# The process


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


# The check


def test_the_check_counts_bars_that_are_none_of_ours(worker, clean_file):
    (line,) = check(worker, fake_peer, clean_file, THRESHOLD)
    found = len(fake_peer.definition(read(clean_file), THRESHOLD, "bars")["volume"])
    assert found > 100
    assert line.startswith(f"fake_peer, bars: {found} bars of 4,000 trades, all as its rule says; none of ours are 0 ")
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


# The rules


def test_finmlkit_carries_the_excess_and_leaves_the_first_trade_out():
    trades = made([1] * 8, [5, 5, 30, 1, 1, 1, 8, 1], sold=[0, 0, 1, 0, 1, 0, 0, 0])
    bars = finmlkit.definition(trades, 10, "bars")
    assert rows_of(bars) == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6)]
    assert bars["close_index"].tolist() == [1, 2, 3, 4, 6] and bars["volume"].tolist() == [5, 30, 1, 1, 9]
    assert list(bars["ticks_sell"]) == [0, 1, 0, 1, 0] and list(bars["dollars_buy"]) == [5, 0, 1, 0, 9]
    assert list(bars["median_trade_size"]) == [5, 30, 1, 1, 4.5]


def test_finmlkit_merges_trades_when_it_preprocesses():
    trades = made([7, 7, 7, 7, 8], [1, 2, 3, 4, 1 << 24 | 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1])
    starts = finmlkit._merged_starts(trades)
    assert starts.tolist() == [0, 2, 3, 4]
    amounts = finmlkit._merged_amounts(trades.quantity, starts)
    assert amounts.dtype == np.float32 and amounts.tolist() == [3, 3, 4, 1 << 24]
    bars = finmlkit.definition(trades, 42, "preprocessed")
    assert rows_of(bars) == [(2, 2), (3, 4)] and bars["close_index"].tolist() == [1, 3]


def test_mlfinpy_resets_and_guesses_sides():
    trades = made([10, 11, 11, 10, 10, 12], [1, 2, 3, 4, 5, 6])
    bars = mlfinpy.definition(trades, 50, "bars")
    assert rows_of(bars) == [(0, 2), (3, 4), (5, 5)] and bars["tick_num"].tolist() == [3, 5, 6]
    assert bars["cum_buy_volume"].tolist() == [5, 0, 6] and bars["cum_dollar_value"].tolist() == [65, 90, 72]


def test_mlfinpy_as_its_own_tests_have_it(market_data):
    with (market_data / "goldens" / "tick_data.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    price, lots = ([int(Decimal(row[name]) * 100) for row in found] for name in ("Price", "Volume"))
    trades = made(price, lots, tick="0.01", lot="0.01")
    bars = mlfinpy.definition(trades, 100_000 * 100 * 100, "bars")
    assert bars["cum_ticks"].tolist() == [24, 37, 37]
    assert bars["cum_dollar_value"].tolist() == pytest.approx([107178.25, 103065.00, 100394.25])


def test_polars_names_a_bar_by_the_quotient():
    bars = polars.definition(made([1] * 6, [4, 6, 3, 30, 2, 1]), 10, "all")
    assert rows_of(bars) == [(0, 0), (1, 2), (3, 5)] and bars["volume"].tolist() == [4, 9, 33]


def test_polars_as_fmlpy_has_volume_bars(market_data):
    with (market_data / "goldens" / "bar_test_data.csv").open(newline="") as file:
        ticks = list(csv.DictReader(file))
    with (market_data / "goldens" / "vol_bar.csv").open(newline="") as file:
        expected = [int(row["V"]) for row in csv.DictReader(file)]
    bars = polars.definition(made([1] * len(ticks), [int(row["Volume"]) for row in ticks]), 100, "all")
    assert bars["volume"].tolist() == expected


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [1, 60_000, 250_000, 9_000_000])
def test_the_plain_loop_is_the_definition(seed, threshold):
    trades = random_trades(700, seed)
    columns = trades.time_ns, trades.price_ticks, trades.quantity_lots, trades.notional, trades.is_buyer_maker
    out = _plain.room(trades.notional, threshold)
    found = _plain.named(*out, _plain.dollar_bars(*columns, threshold, 0.01, 0.001, *out))
    reset = fake_peer.closed(trades, threshold)
    expected = columns_of(trades, reset["first_trade_row"], reset["last_trade_row"])
    assert set(found) == set(expected) and len(found["open"]) > 0
    compare("plain", found, expected)


def test_ours_is_the_definition_too():
    trades = random_trades(3000, 3, str(SYMBOL.price_tick), str(SYMBOL.quantity_lot))
    arrays = trades.time_ns, trades.price_ticks, trades.quantity_lots, trades.notional, trades.is_buyer_maker
    ours = bars.dollar_bars(TradeColumns(*(torch.from_numpy(array) for array in arrays)), 3_000_000).columns
    reset = fake_peer.closed(trades, 3_000_000)
    expected = columns_of(trades, reset["first_trade_row"], reset["last_trade_row"])
    found = {name: column.numpy() for name, column in ours.items() if name != "is_partial"}
    assert set(found) == set(expected)
    compare("ours", found, expected)


def test_a_clean_file_is_read_as_it_was_written(clean_file):
    trades, table = read(clean_file), trade_table(ROWS, CPU)
    assert np.array_equal(trades.notional, table.notional.numpy())
    assert np.array_equal(trades.price, table.symbol.price.to_float(table.price_ticks).numpy())
    assert np.array_equal(trades.quantity, table.symbol.quantity.to_float(table.quantity_lots).numpy())
    assert trades.quote(10**9) == float(table.symbol.notional.exact(10**9))
    assert len(trades.head(7)) == 7 and len(trades.head(None)) == ROWS


# The folder


@pytest.mark.parametrize("name", _environments.names())
def test_a_peer_is_a_file_and_its_pins(name):
    module = importlib.import_module(f"bench.peers.{name}")
    pins = [line for line in (_environments.PINS / f"{name}.txt").read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line for line in pins)
    assert {name, "numba", "numpy", "pyarrow", *module.PACKAGES} <= {line.split("==")[0] for line in pins}
    assert name in module.PACKAGES and "\nRule: " in module.__doc__
    assert {call.op for call in module.CALLS.values()} <= {RESIDENT, FILE}
    for call in module.CALLS:
        bars = module.definition(random_trades(400, 1), 250_000, call)
        assert len({len(column) for column in bars.values()}) == 1 and len(rows_of(bars)) > 10


def test_every_file_of_a_peer_has_pins():
    files = {path.stem for path in _environments.PINS.glob("*.py") if not path.stem.startswith("_")}
    assert files == set(_environments.names()) == set(PEERS)


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
    assert "no peer is called 'nobody'; they are finmlkit, mlfinpy, polars" in capsys.readouterr().err


# The benchmark


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
