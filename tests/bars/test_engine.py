"""Bars made file by file apart from each other, in any order, against one pass over all trades: integers and bytes."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.bars import _engine, _fold, _parts, _stage
from gpu_pipeline.bars._account import Totals
from gpu_pipeline.bars._parts import Task
from gpu_pipeline.core import cluster as cluster_module
from gpu_pipeline.core import plugins
from gpu_pipeline.core.cluster import Answer, Cluster, open_cluster
from gpu_pipeline.core.config import EngineSection, check_config, plain
from gpu_pipeline.core.errors import ConfigError, EnvironmentProblem, InputError
from gpu_pipeline.core.schema import Symbol, Trades
from gpu_pipeline.core.store import digest_file
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.core.units import month_of
from tests.bars.market import BTC, random_trades, trades_of
from tests.bars.test_fold import cut
from tests.conformance.options import example

CPU = torch.device("cpu")
ETH = Symbol("ETHUSDT", Decimal("0.01"), Decimal("0.001"))
SYMBOLS = {"BTCUSDT": BTC, "ETHUSDT": ETH}
JANUARY_NS, FEBRUARY_NS, MARCH_NS = (at * 10**9 for at in (1_704_067_200, 1_706_745_600, 1_709_251_200))
CASES = [
    {"type": "dollar", "threshold": 20_000, "time": ["1min", "1day"]},
    {
        "type": "dollar",
        "threshold": 33_333,
        "on_close": "carry",
        "resolutions": {"wide": {"threshold": 10**5}, "six": 6},
    },
    {"type": "dollar", "threshold": 10**9, "resolutions": {}},
    {"type": "time", "step": "10min", "empty": True, "resolutions": {"medium": {"of": "short", "bars": 4}}},
    {"type": "dollar", "threshold": 20_000, "at_file_end": "flush", "time": ["1hour"]},
]


@dataclass(frozen=True)
class File:
    """A file of trades that lies in memory, read in small chunks."""

    trades: Trades
    chunk: int = 1000
    delay: float = 0.0
    broken: bool = False

    @property
    def first_row(self):
        return self.trades.first_row

    @property
    def rows(self):
        return len(self.trades)

    @property
    def month(self):
        return month_of(int(self.trades.time_ns[0]))


def read(file: File, symbol, device, columns=None) -> Iterator[Trades]:
    """As ingest reads: columns that were not asked for are empty, the times always come."""
    wanted = {"time_ns", *(Trades.COLUMNS if columns is None else columns)}
    time.sleep(file.delay)
    if file.broken:
        raise InputError.at("2024_02.parquet", "is damaged")
    for begin in range(0, len(file.trades), file.chunk):
        chunk = file.trades[begin : begin + file.chunk]
        kept = {name: getattr(chunk, name) if name in wanted else torch.zeros(0) for name in Trades.COLUMNS}
        yield Trades(chunk.symbol, first_row=chunk.first_row, has_side=chunk.has_side, **kept)


def tasks_of(section, pieces, scratch: Path, chunk: int = 1000) -> list[Task]:
    files = [File(piece, chunk) for piece in pieces]
    return [Task(read, section, BTC, file, CPU, scratch, number) for number, file in enumerate(files)]


def in_parts(tasks: list[Task], extracted: bool):
    """Sums per resolution and the state, of files that were summed apart."""
    chains, state, entry = tasks[0].chains(), {}, {}
    found = {chain.resolution: [] for chain in chains}
    totals = Totals()
    for task in tasks:
        part = _parts.make(task, entry)
        entry = _parts.chase(task, entry, _parts.extract(task) if extracted else None)
        sums, state = _parts.join(chains, state, part)
        totals = totals.plus(part.totals)
        for name, closed in sums.items():
            found[name].append(closed)
    return {name: torch.cat(closed, 1) for name, closed in found.items()}, state, totals


def check_parts(section, trades: Trades, pieces, chunk: int = 1000) -> None:
    chains = _fold.plan(section)
    whole, after = _fold.step(trades, chains, {})
    with tempfile.TemporaryDirectory() as scratch:
        tasks = tasks_of(section, pieces, Path(scratch), chunk)
        for extracted in (True, False):
            sums, state, totals = in_parts(tasks, extracted)
            assert all(sums[name].equal(whole[name]) for name in whole)
            assert {name: value.tolist() for name, value in state.items()} == _fold.state_to_json(after)
            assert totals.trades == len(trades)
        for task in tasks:
            _parts.forget(task)
        assert not list(Path(scratch).iterdir())


@pytest.mark.parametrize("case", CASES[:-1])
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 5), cuts=st.lists(st.integers(1, 699), max_size=6), chunk=st.sampled_from([7, 100, 1000]))
def test_parts_join_to_the_bars_of_one_pass(case, seed, cuts, chunk):
    trades, values = random_trades(seed, 700), dict(case)
    section = _fold.section_of(values.pop("type"), values, "test")
    check_parts(section, trades, cut(trades, sorted(set(cuts))), chunk)


@pytest.mark.parametrize("has_side", [True, False])
@pytest.mark.parametrize("name", plugins.names("bars"))
def test_every_bar_type_can_be_made_in_parts(name, has_side):
    part = random_trades(3, 2_000)
    side = part.is_buyer_maker.numpy() & has_side
    columns = [getattr(part, column).numpy() for column in ("time_ns", "price_ticks", "quantity_lots")]
    trades = trades_of(BTC, *columns, side, has_side=has_side)
    options = example(plugins.load("bars", name).config).model_dump()
    section = _fold.section_of(name, {**options, "time": []}, "test")
    check_parts(section, trades, cut(trades, [1, 400, 1_100]), 300)


def test_one_block_of_scratch_after_another(monkeypatch):
    monkeypatch.setattr(_parts, "BLOCK", 64)
    trades = random_trades(4, 1_000)
    check_parts(_fold.section_of("dollar", {"threshold": 20_000}, "test"), trades, cut(trades, [64, 200, 840]))


def test_rules_read_what_their_types_declare():
    plan = _fold.plan(_fold.section_of("dollar", {"threshold": 5, "time": ["1min"]}, "test"))
    assert _parts.rule_columns(plan) == ("time_ns", "notional")
    unsaid = SimpleNamespace(of=None, plugin=SimpleNamespace(module=SimpleNamespace()))
    assert _parts.rule_columns([unsaid]) == Trades.COLUMNS
    assert _parts.rule_columns([SimpleNamespace(of="short")]) == ("time_ns",)


def threads_of_this_process(workers: int):
    """A cluster whose workers are threads; its statistics are on a free port."""
    from distributed import LocalCluster

    port = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    options = {"processes": False, "protocol": "tcp", "dashboard_address": None, "scheduler_kwargs": port}
    return LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=0, **options)


@pytest.fixture(scope="module")
def address():
    with threads_of_this_process(2) as local:
        yield local.scheduler_address


def three_months(symbol: Symbol, seed: int) -> list[File]:
    """Files of January, February and March; reading the first takes longest, so that the last comes first."""
    trades = random_trades(seed, 3_000, symbol=symbol)
    times = (trades.time_ns - trades.time_ns[0]) * 200 + JANUARY_NS
    columns = [getattr(trades, name).numpy() for name in ("price_ticks", "quantity_lots", "is_buyer_maker")]
    trades = trades_of(symbol, times.numpy(), *columns)
    pieces = cut(trades, torch.searchsorted(times, torch.tensor([FEBRUARY_NS, MARCH_NS])).tolist())
    return [File(piece, delay=delay) for piece, delay in zip(pieces, (0.3, 0.1, 0.0), strict=True)]


def stage(folder: Path, engine, files: dict[str, list[File]], bars=CASES[0]):
    values = {
        "name": "t",
        "symbols": list(files),
        "ingest": {"trades": {"source": "tests.bars.source"}},
        "bars": bars,
        "engine": engine,
    }
    chosen = {name: SYMBOLS[name] for name in files}
    return _stage.write(folder, check_config(values), chosen, lambda symbol: files[symbol.name], read, CPU, Trace())


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest_file(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_the_stage_writes_the_bytes_of_a_single_process(tmp_path, address, case):
    files = {name: three_months(symbol, seed) for seed, (name, symbol) in enumerate(SYMBOLS.items())}
    alone = stage(tmp_path / "alone", None, files, case)
    spread = stage(tmp_path / "spread", {"name": "dask", "scheduler": address}, files, case)
    assert spread == alone
    assert digests(tmp_path / "spread") == digests(tmp_path / "alone")
    assert (alone["rows_out"] > 100) == (case.get("threshold") != 10**9)
    assert not (tmp_path / "spread" / ".scratch").exists()


def test_a_window_of_one_file_ends_too(tmp_path, address, monkeypatch):
    monkeypatch.setattr(_engine, "AHEAD", 0.5)
    files = {"BTCUSDT": three_months(BTC, 1)}
    assert stage(tmp_path / "a", {"name": "dask", "scheduler": address}, files) == stage(tmp_path / "b", None, files)


def test_files_begun_are_bounded(tmp_path, address, monkeypatch):
    """Of nine files never more than the window is begun and not yet taken; scratch is gone after the chase."""
    begun, taken, most = [], [], 0

    def count(self, kind, number, *arguments, start=_engine._Schedule._start):
        nonlocal most
        begun.append(number)
        most = max(most, len(set(begun)) - len(taken))
        start(self, kind, number, *arguments)

    monkeypatch.setattr(_engine._Schedule, "_start", count)
    monkeypatch.setattr(_engine, "AHEAD", 1)
    pieces = cut(random_trades(1, 900), range(100, 900, 100))
    section = _fold.section_of("dollar", {"threshold": 9_000}, "test")
    with open_cluster(EngineSection(name="dask", scheduler=address), CPU, tmp_path, 9) as cluster:
        assert cluster.slots == 2
        for number, _ in enumerate(_engine.parts(cluster, tasks_of(section, pieces, tmp_path), False, lambda: None)):
            taken.append(number)
    assert (len(taken), most) == (9, 2)
    assert not list(tmp_path.iterdir())


def test_cuda_workers_would_read_files_in_the_chase(tmp_path, address):
    """Where decoding is fast nothing is extracted; the schedule is the same."""
    kinds = []
    pieces = cut(random_trades(1, 900), [300, 600])
    section = _fold.section_of("dollar", {"threshold": 9_000}, "test")
    tasks = tasks_of(section, pieces, tmp_path)
    with open_cluster(EngineSection(name="dask", scheduler=address), CPU, tmp_path, 3) as cluster:
        schedule = _engine._Schedule(Cluster(cluster.client, 2, torch.device("cuda")), tasks, False, lambda: None)
        start = schedule._start
        schedule._start = lambda kind, *arguments: (kinds.append(kind), start(kind, *arguments))
        found = [part.state for part in schedule.run()]
    assert sorted(kinds) == ["chase"] * 2 + ["make"] * 3
    entry = {}
    for task, state in zip(tasks, found, strict=True):
        assert state == _parts.make(task, entry).state
        entry = _parts.chase(task, entry)


def test_an_error_of_a_file_is_the_workers_own_line(tmp_path, address):
    first, second, third = three_months(BTC, 1)
    files = {"BTCUSDT": [first, replace(second, broken=True), third]}
    with pytest.raises(InputError, match=r"^2024_02\.parquet: is damaged$"):
        stage(tmp_path, {"name": "dask", "scheduler": address}, files)
    assert not (tmp_path / ".scratch").exists()


def test_nobody_answers_or_nobody_works(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1)
    with (
        pytest.raises(EnvironmentProblem, match=r"scheduler: nothing answers at tcp://127.0.0.1:9 .*dask scheduler"),
        open_cluster(EngineSection(name="dask", scheduler="tcp://127.0.0.1:9"), CPU, tmp_path, 1),
    ):
        pass
    with threads_of_this_process(0) as empty:
        engine = EngineSection(name="dask", scheduler=empty.scheduler_address)
        with (
            pytest.raises(EnvironmentProblem, match=r"engine\.scheduler: tcp://.* has no workers; start some there"),
            open_cluster(engine, CPU, tmp_path, 1),
        ):
            pass


def test_workers_that_cannot_do_it_are_named(tmp_path, address, monkeypatch):
    engine = EngineSection(name="dask", scheduler=address)
    own = cluster_module.probe(str(tmp_path))
    assert own == Answer(own.code, True, torch.cuda.is_available())
    for answer, device, rule in (
        (replace(own, code="other"), CPU, "has another version of this project; install the same one"),
        (replace(own, sees_folder=False), CPU, f"cannot write to {tmp_path}; choose a folder for runs that all"),
        (replace(own, has_cuda=False), torch.device("cuda"), "sees no CUDA device; start workers with dask cuda"),
    ):
        assert cluster_module._what_lacks(answer, own, device, tmp_path).startswith(rule)
    missing = tmp_path / "elsewhere"
    with (
        pytest.raises(EnvironmentProblem, match=rf"^engine: worker tcp://\S+ cannot write to {missing}; "),
        open_cluster(engine, CPU, missing, 1),
    ):
        pass

    with (
        pytest.raises(
            EnvironmentProblem, match=r"cannot run this project's code \(ModuleNotFoundError\(.*; install the"
        ),
        failing(monkeypatch, Exception("ModuleNotFoundError(\"No module named 'gpu_pipeline'\")\nmore")),
        open_cluster(engine, CPU, tmp_path, 1),
    ):
        pass


@contextmanager
def failing(monkeypatch, error):
    """Workers answer the probe with an error."""

    def fail(client, folder):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(cluster_module, "_on_workers", fail)
        yield


def test_a_cluster_that_goes_away_is_one_line(tmp_path, address, monkeypatch):
    from distributed import CancelledError
    from distributed.comm import CommClosedError

    engine = EngineSection(name="dask", scheduler=address)
    rule = "^engine: the cluster went away; start it again, then the same command$"
    with (
        pytest.raises(EnvironmentProblem, match=rule),
        failing(monkeypatch, CommClosedError("closed")),
        open_cluster(engine, CPU, tmp_path, 1),
    ):
        pass
    with pytest.raises(EnvironmentProblem, match=rule), open_cluster(engine, CPU, tmp_path, 1):
        raise CancelledError("make-1")


def test_missing_packages_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    with (
        pytest.raises(EnvironmentProblem, match=r"engine: dask-cuda is not installed \(.*; run make venv, or set"),
        open_cluster(EngineSection(name="dask"), torch.device("cuda:1"), tmp_path, 1),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(EnvironmentProblem, match=r"engine: dask is not installed \("),
        open_cluster(EngineSection(name="dask"), CPU, tmp_path, 1),
    ):
        pass


def test_workers_that_do_not_start_are_one_line(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(cluster_module, "_local_cluster", refuse)
    with (
        pytest.raises(EnvironmentProblem, match=r"do not start \(Nanny failed to start\.\); in a script of your own"),
        open_cluster(EngineSection(name="dask"), CPU, tmp_path, 1),
    ):
        pass


class FakeCudaCluster:
    """Notes what LocalCUDACluster would be asked for."""

    def __init__(self, **options):
        self.options = options


@pytest.mark.parametrize(
    ("workers", "device", "files", "gpus", "made"),
    [("auto", "cuda", 9, ["4", "7"], 2), ("auto", "cuda", 1, ["4", "7"], 1), ("auto", "cuda:1", 9, ["7"], 1)],
)
def test_there_is_one_worker_per_gpu(tmp_path, monkeypatch, workers, device, files, gpus, made):
    fake = SimpleNamespace(LocalCUDACluster=FakeCudaCluster)
    monkeypatch.setitem(sys.modules, "dask_cuda", fake)
    monkeypatch.setitem(sys.modules, "dask_cuda.utils", SimpleNamespace(cuda_visible_devices=lambda index: "4,7"))
    make = cluster_module._local_cluster
    options = make(EngineSection(name="dask"), torch.device(device), tmp_path, files).options
    assert (options["CUDA_VISIBLE_DEVICES"], options["n_workers"]) == (gpus, made)
    with pytest.raises(EnvironmentProblem, match=r"engine\.workers: 3 workers, but . GPUs; one worker takes one GPU"):
        make(EngineSection(name="dask", workers=3), torch.device(device), tmp_path, files)


def run_file(engine):
    return {"name": "t", "symbols": ["X"], "ingest": {"trades": {"source": "simulated"}}, "engine": engine}


def test_the_engine_is_a_name_or_a_section():
    assert check_config(run_file(None)).engine is None
    assert check_config(run_file("dask")).engine == EngineSection(name="dask")
    engine = check_config(run_file({"name": "dask", "scheduler": "tcp://10.0.0.1:8786"})).engine
    assert check_config(run_file(plain(engine))).engine == engine


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("dusk", r"engine\.name: Input should be 'dask' \(value 'dusk'\); did you mean 'dask'\?"),
        ({"workers": 2}, r"engine\.name: Field required"),
        ({"name": "dask", "wokers": 2}, r"engine\.wokers: unknown key \(value 2\); did you mean 'workers'\?"),
        ({"name": "dask", "workers": 0}, r"engine\.workers: .*greater than 0"),
        ({"name": "dask", "scheduler": "10.0.0.1"}, r"engine\.scheduler: .*\(value '10\.0\.0\.1'\)"),
        ({"name": "dask", "scheduler": "tcp://h:1", "workers": 2}, r"engine: the cluster of a scheduler has workers"),
    ],
)
def test_wrong_engines_are_mistakes_of_the_run_file(engine, message):
    with pytest.raises(ConfigError, match=message):
        check_config(run_file(engine))
