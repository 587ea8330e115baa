"""The composition root: the picture of the data flow; beside it only `results` knows every stage."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.bars import _stage as bars_stage
from gpu_pipeline.bars import _stage_from_bars as bars_of_bars
from gpu_pipeline.book import _audit as book_audit
from gpu_pipeline.book import _stage as book_stage
from gpu_pipeline.core import plugins
from gpu_pipeline.core.config import STAGES, RunConfig, check_config, plain
from gpu_pipeline.core.device import DeviceChoice, choose_device
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.runfile import read_yaml, write_yaml
from gpu_pipeline.core.schema import Features, Symbol, Trades
from gpu_pipeline.core.store import MANIFEST, Output, Store, digest_code, digest_of, link, lock, read_json, write_text
from gpu_pipeline.core.trace import StageRecord, Trace, log
from gpu_pipeline.dataset import _stage as dataset_stage
from gpu_pipeline.dataset.data import load_dataset
from gpu_pipeline.features import _audit_plan as features_audit
from gpu_pipeline.features import _stage as features_stage
from gpu_pipeline.features._book import BOOK, BookRows
from gpu_pipeline.features._feature import catalogue
from gpu_pipeline.features._set import read_include, read_set
from gpu_pipeline.features.engine import Engine
from gpu_pipeline.ingest import _stage as ingest_stage
from gpu_pipeline.ingest._trade_files import read_file
from gpu_pipeline.labels import _stage as labels_stage
from gpu_pipeline.live.engine import LiveEngine
from gpu_pipeline.live.feed import Piece, interleave, merge, read_lines, rest_of, rest_of_book
from gpu_pipeline.live.fold import LiveRow, SymbolFold
from gpu_pipeline.live.plan import make_plan
from gpu_pipeline.live.replay import replay
from gpu_pipeline.live.session import Open, run_session
from train import report as report_stage
from train import select as selection
from train import stage as train_stage
from train import tune as search
from train.__main__ import find_dataset
from train.checkpoint import predictor
from train.launch import launch

_PROJECT = Path(__file__).resolve().parent.parent
_CODE = {
    "ingest": ("gpu_pipeline/ingest", "kernels/book_sequence.py", "kernels/_op.py"),
    "bars": ("gpu_pipeline/bars", "kernels"),
    "book": ("gpu_pipeline/book", "kernels"),
    "features": ("gpu_pipeline/features", "kernels"),
    "labels": ("gpu_pipeline/labels", "kernels"),
    "dataset": ("gpu_pipeline/dataset", "kernels"),
    "evaluate": ("train/evaluate.py", "train/baselines.py", "train/bootstrap.py", "train/metrics"),
    "report": ("train/report.py", "train/_page.py", "train/_plots.py", "train/_warnings.py"),
}
_CHAIN = ("ingest", "bars", "book", "features", "labels", "dataset")

Write = Callable[[Path], Mapping[str, Any]]
_HOST = torch.device("cpu")
# Trades that a replay takes at a time: rows come out soon, and a checkpoint is never far.
LIVE_PIECE = 1 << 12


@dataclass
class Run:
    """One run in progress: its configuration, where it lives, the device, and the outputs made so far."""

    config: RunConfig
    choice: DeviceChoice
    trace: Trace
    first: str = "ingest"
    last: str = "report"
    outputs: dict[str, Output] = field(default_factory=dict)
    models: dict[str, Output] = field(default_factory=dict)
    report: Callable[[str, int, float], None] | None = None

    @property
    def folder(self) -> Path:
        """runs/NAME."""
        return Path(self.config.runs) / self.config.name

    @property
    def store(self) -> Store:
        """runs/.store, shared by all runs."""
        return Store(Path(self.config.runs) / ".store")

    @property
    def device(self) -> torch.device:
        """The device of the run."""
        return self.choice.device

    def wants(self, stage: str) -> bool:
        """Whether a stage lies before the last one asked for."""
        return STAGES.index(stage) <= STAGES.index(self.last)

    def symbols(self) -> dict[str, Symbol]:
        """Instruments with the scales that ingest found."""
        return ingest_stage.load_symbols(self.outputs["ingest"].manifest)

    def stage(self, name: str, config: Any, inputs: Mapping[str, str], write: Write) -> Output:
        """Runs a stage, or takes its finished output when inputs, configuration and code are unchanged."""
        key = self._key(name, config, inputs)
        with self.trace.stage(name) as record:
            found = self.store.find(name, key)
            forced = STAGES.index(name) >= STAGES.index(self.first) and self.first != "ingest"
            if found and not forced:
                record.reused = True
                log.info("%s: unchanged, taken from %s", name, found.path)
            else:
                self._refuse_missing(name)
                log.info("%s: running", name)
                found = self.store.make(name, key, config, inputs, write)
            _account(record, found.manifest)
        link(self.folder, "clean" if name == "ingest" else name, found)
        self.outputs[name] = found
        return found

    def _key(self, name: str, config: Any, inputs: Mapping[str, str]) -> str:
        folders = [_PROJECT / folder for folder in ("gpu_pipeline/core", *_CODE[name])]
        return digest_of([name, config, dict(inputs), digest_code([*folders, *_outside_code(self.config)])])

    def _refuse_missing(self, name: str) -> None:
        if STAGES.index(name) < STAGES.index(self.first):
            raise InputError(
                f"--from {self.first}: stage '{name}' has no output for this configuration; run without --from once"
            )


def _outside_code(config: RunConfig) -> list[Path]:
    """Source files of the plug-ins that a run file names by a dotted path: they are part of the code version."""
    sections = [*config.ingest.values(), *config.labels.values(), config.bars, config.book]
    modules = [section.plugin.module for section in sections if section is not None]
    if config.dataset is not None:
        modules += [config.dataset.split.plugin.module, config.dataset.scaler.plugin.module]
    if config.features is not None:
        modules += [sys.modules[choice.feature.function.__module__] for choice in read_set(config.features.set)]
    files = {Path(str(module.__file__)).resolve() for module in modules}
    return sorted(file for file in files if not file.is_relative_to(_PROJECT / "gpu_pipeline"))


def _account(record: StageRecord, manifest: Mapping[str, Any]) -> None:
    rows = manifest.get("rows")
    record.rows_in = manifest.get("rows_in")
    record.rows_out = manifest.get("rows_out", rows if isinstance(rows, int) else None)
    record.note = str(manifest.get("note", ""))


def run(
    config: RunConfig,
    trace: Trace | None = None,
    *,
    first: str = "ingest",
    last: str = "report",
    report: Callable[[str, int, float], None] | None = None,
) -> Run:
    """Runs the stages of a run file in order, reusing what is unchanged.

    Args:
        config: a checked run file.
        trace: collects progress and the closing account.
        first: stages from this one on run again even when unchanged; earlier ones must exist.
        last: the last stage to run.
        report: hears (model, epoch, validation loss) after every epoch; a search prunes by raising from it.

    Raises:
        PipelineError: with the exit code that the command line returns.
    """
    this = Run(config, choose_device(config.device), trace or Trace(), first, last, report=report)
    log.info("device: %s", this.choice)
    with lock(this.folder), _log_file(this.folder):
        write_text(this.folder / "config.yaml", write_yaml(_run_file(config)))
        _run_chain(this)
        if this.wants("train") and config.train:
            _train(this)
        if this.wants("evaluate") and this.models:
            _evaluate(this)
        if this.wants("report") and "bars" in this.outputs:
            _report(this)
    return this


def _run_chain(this: Run) -> None:
    stages: dict[str, tuple[bool, Callable[[Run], Output]]] = {
        "ingest": (True, _ingest),
        "bars": (this.config.bars is not None, _bars),
        "book": (this.config.book is not None, _book),
        "features": (this.config.features is not None, _features),
        "labels": (bool(this.config.labels), _labels),
        "dataset": (this.config.dataset is not None, _dataset),
    }
    for name in _CHAIN:
        asked, make = stages[name]
        if asked and this.wants(name):
            make(this)


def _ingest(this: Run) -> Output:
    config = this.config
    streams = {name: _seeded(section, config.seed) for name, section in config.ingest.items()}
    inputs = {str(path): this.store.digest_input(path) for path in ingest_stage.input_files(config)}
    inputs |= ingest_stage.table_digests(config)
    write = partial(ingest_stage.write, config=config, device=this.device, trace=this.trace)
    return this.stage("ingest", {"ingest": streams, "symbols": config.section("symbols")}, inputs, write)


def _seeded(section: Any, seed: int) -> Any:
    """The section as plain values, with the run's seed where the source draws numbers and names none of its own."""
    values = plain(section)
    if values["options"].get("seed", 0) is None:
        values["options"]["seed"] = seed
    return values


def _bars(this: Run) -> Output:
    source = this.outputs["ingest"]
    write = _from_bars(this, source) if "bars" in this.config.ingest else _from_trades(this, source)
    return this.stage("bars", this.config.section("bars"), {"ingest": source.key}, write)


def _from_bars(this: Run, source: Output) -> Write:
    return partial(
        bars_of_bars.write,
        config=this.config,
        symbols=this.symbols(),
        bars=lambda symbol: ingest_stage.load_bars(source.path, symbol, this.device),
        trace=this.trace,
    )


def _from_trades(this: Run, source: Output) -> Write:
    return partial(
        bars_stage.write,
        config=this.config,
        symbols=this.symbols(),
        files=partial(ingest_stage.trade_files, source.path),
        read=read_file,
        device=this.device,
        trace=this.trace,
    )


def _book(this: Run) -> Output:
    source, section = this.outputs["ingest"], this.config.book
    assert section is not None

    write = partial(
        book_stage.write,
        config=this.config,
        symbols=this.symbols(),
        book=lambda symbol: ingest_stage.load_book(source.path, section.stream, symbol, this.device),
        trace=this.trace,
        origin=partial(ingest_stage.origin, this.config, section.stream),
    )
    return this.stage("book", this.config.section("book"), {"ingest": source.key}, write)


def audit_book(config: RunConfig, trace: Trace) -> tuple[list[book_audit.Result], Mapping[str, Any]]:
    """What the book stream of a run is worth: one result per symbol, and what ingest counted by symbol.

    Raises:
        InputError: the run file has no section `book`, or bad data.
    """
    section = config.book
    if section is None:
        raise InputError(
            "book: the run file has no such section; name the stream: book: {form: snapshots, stream: book}"
        )
    this = run(config, trace, last="ingest")
    source = this.outputs["ingest"]
    streams = source.manifest["streams"]
    quotes = {
        stream: partial(ingest_stage.load_quotes, source.path, stream, device=this.device)
        for stream, entries in streams.items()
        if next(iter(entries.values()))["kind"] == "quotes"
    }
    found = book_audit.audit(
        config,
        this.symbols(),
        partial(ingest_stage.load_book, source.path, section.stream, device=this.device),
        quotes,
        trace,
    )
    return found, streams.get(section.stream, {})


def audit_features(config: RunConfig, trace: Trace) -> Iterator[features_audit.Result]:
    """What could be wrong with the features of a run on its own bars and book: one result per symbol.

    Raises:
        InputError: the run file has no features, or wrong ones; bad data.
    """
    engine = features_stage.compile_run(config)
    assert config.features is not None
    this = run(config, trace, last="book" if BOOK in engine.needed else "bars")
    choices, include = read_set(config.features.set), read_include(config.features.include)
    with trace.progress("audit of features") as ticker:
        for symbol in this.symbols().values():
            tables: dict[str, Any] = {
                resolution: bars_stage.load(this.outputs["bars"].path, symbol, resolution, _HOST)
                for resolution in engine.needed
                if resolution != BOOK
            }
            if BOOK in engine.needed:
                tables[BOOK] = BookRows.of(book_stage.load(this.outputs["book"].path, symbol, _HOST))
            yield features_audit.audit(
                choices,
                tables,
                resolutions=engine.resolutions,
                include=include,
                live=partial(_one_by_one, this, symbol, tables.get(BOOK)),
                device=this.device,
                seed=config.seed,
                told=partial(ticker.advance, 1),
            )


def _one_by_one(this: Run, symbol: Symbol, book: BookRows | None, engine: Engine) -> tuple[Features | None, str]:
    """Features of a symbol's first trades (or bars made by others), folded one by one."""
    clean, section = this.outputs["ingest"].path, this.config.bars
    assert section is not None
    if "bars" in this.config.ingest:
        return replay(next(ingest_stage.load_bars(clean, symbol, _HOST)), section, engine, book)
    with closing(read_file(ingest_stage.trade_files(clean, symbol)[0], symbol, _HOST)) as chunks:
        return replay(next(chunks), section, engine, book)


def _load_bars(this: Run) -> Callable[[Symbol, str], Any]:
    source = this.outputs["bars"]
    return lambda symbol, resolution: bars_stage.load(source.path, symbol, resolution, this.device)


def _load_prices(this: Run, symbol: Symbol) -> Iterator[Trades]:
    """Times, prices and quantities of a symbol's trades, in chunks."""
    for file in ingest_stage.trade_files(this.outputs["ingest"].path, symbol):
        yield from read_file(file, symbol, this.device, ("time_ns", "price_ticks", "quantity_lots"))


def _features(this: Run) -> Output:
    config = {"features": _feature_set(this.config), "device": this.device.type}
    inputs = {"bars": this.outputs["bars"].key}
    if features_stage.reads_book(this.config):
        inputs["book"] = this.outputs["book"].key
    write = partial(
        features_stage.write,
        config=this.config,
        symbols=this.symbols(),
        bars=_load_bars(this),
        book=lambda symbol: book_stage.load(this.outputs["book"].path, symbol, this.device),
        device=this.device,
        trace=this.trace,
    )
    return this.stage("features", config, inputs, write)


def _feature_set(config: RunConfig) -> dict[str, Any]:
    """What decides the columns: the set's content, not its file name, and the resolutions there are."""
    assert config.features is not None and config.bars is not None
    chosen = config.features.set
    content = read_yaml(Path(chosen)) if isinstance(chosen, str) else chosen
    include = read_include(config.features.include)
    return {"set": content, "include": include, "resolutions": [*config.bars.resolutions, *config.bars.time]}


def _labels(this: Run) -> Output:
    config = {"labels": this.config.section("labels"), "device": this.device.type}
    write = partial(
        labels_stage.write,
        config=this.config,
        symbols=this.symbols(),
        bars=_load_bars(this),
        device=this.device,
        trace=this.trace,
    )
    return this.stage("labels", config, {"bars": this.outputs["bars"].key}, write)


def _dataset(this: Run) -> Output:
    outputs, device = this.outputs, this.device
    shards = dataset_stage.sharded(this.config)
    section = {"dataset": this.config.section("dataset"), "device": device.type, "shards": shards}
    of_trades = ("ingest",) if dataset_stage.needs_trades(this.config) else ()
    inputs = {name: outputs[name].key for name in ("features", "labels", "book", *of_trades) if name in outputs}
    write = partial(
        dataset_stage.write,
        config=this.config,
        symbols=this.symbols(),
        features=lambda symbol: features_stage.load(outputs["features"].path, symbol, device),
        labels=lambda symbol, name: labels_stage.load(outputs["labels"].path, symbol, name, device),
        depth=lambda symbol: book_stage.load(outputs["book"].path, symbol, device),
        trades=partial(_load_prices, this),
        device=device,
        trace=this.trace,
    )
    return this.stage("dataset", section, inputs, write)


def _train(this: Run) -> None:
    config, source = this.config, this.outputs["dataset"]
    assert config.train is not None
    wanted = [train_stage.model_key(config, model, source, this.device) for model in config.train.models]
    ready = all(this.store.find("train", key) for key in wanted)
    processes = _processes(config, this.device)
    with this.trace.stage("train") as record:
        if processes > 1 and not ready:
            log.info("train: in %d processes", processes)
            launch(processes, [str(this.folder / "config.yaml")])
        this.models = train_stage.train_all(
            config, source.path, this.store, this.folder, this.device, this.trace, report=this.report
        )
        record.reused = ready
        record.rows_in = next(iter(this.models.values())).manifest["rows"]
        record.note = ", ".join(f"{title} {_best(output.manifest)}" for title, output in this.models.items())


def _best(manifest: Mapping[str, Any]) -> str:
    return f"(validation loss {manifest['best']['validation_loss']:.4f})"


def _processes(config: RunConfig, device: torch.device) -> int:
    assert config.train is not None
    if config.train.processes == "auto":
        return torch.cuda.device_count() if device.type == "cuda" else 1
    return config.train.processes


def _evaluate(this: Run) -> None:
    config, source = this.config, this.outputs["dataset"]
    section = {"evaluate": config.section("evaluate"), "seed": config.seed, "device": this.device.type}
    inputs = {"dataset": source.key, **{f"model {title}": output.key for title, output in this.models.items()}}

    def write(folder: Path) -> Mapping[str, Any]:
        dataset = load_dataset(source.path, this.device)
        paths = {title: output.path for title, output in this.models.items()}
        return train_stage.evaluate(folder, config, dataset, paths, this.device, this.trace)

    output = this.stage("evaluate", section, inputs, write)
    for name in ("metrics.json", "predictions.parquet"):
        _link_file(this.folder / name, output.path / name)


def _link_file(path: Path, target: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, path.parent.resolve()))
    os.replace(temporary, path)


def _report(this: Run) -> None:
    inputs = {name: output.key for name, output in this.outputs.items() if name != "report"}
    inputs |= {f"model {title}": output.key for title, output in this.models.items()}
    folders = {name: output.path for name, output in this.outputs.items()}
    models = {title: output.path for title, output in this.models.items()}
    values = _run_file(this.config)

    def write(folder: Path) -> Mapping[str, Any]:
        return report_stage.write(folder, values, folders, models)

    this.stage("report", values, inputs, write)


def _run_file(config: RunConfig) -> dict[str, Any]:
    """The configuration as a run file: plug-in options beside their names, every default written out."""
    return {name: _flat(value) for name, value in plain(config).items() if value is not None}


def _flat(value: Any) -> Any:
    if isinstance(value, dict):
        options = value.get("options") or {}
        own = {key.removesuffix("_"): _flat(item) for key, item in value.items() if key != "options"}
        return own | {key: _flat(item) for key, item in options.items()}
    return [_flat(item) for item in value] if isinstance(value, list) else value


@contextmanager
def _log_file(folder: Path) -> Iterator[None]:
    handler = logging.FileHandler(folder / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("gpu_pipeline")
    root.addHandler(handler)
    try:
        yield
    except BaseException:
        stopped = log.makeRecord(log.name, logging.ERROR, __file__, 0, "the run stopped", (), sys.exc_info())
        handler.handle(stopped)
        raise
    finally:
        root.removeHandler(handler)
        handler.close()


def plugin_table(kind: str) -> Sequence[tuple[str, str]]:
    """Names and one-line summaries of a kind of plug-in; features are listed one by one."""
    if kind == "features":
        return [(name, feature.summary) for name, feature in catalogue().items()]
    return [(name, plugins.load(kind, name).summary) for name in plugins.names(kind)]


def check_files(config: RunConfig) -> list[Path]:
    """The input files that a run file names, and its feature set and lists, all checked to be there.

    Raises:
        InputError: one is missing or names an unknown feature.
    """
    files = ingest_stage.input_files(config)
    if config.features is not None:
        features_stage.compile_run(config)
    return files


def tune(config: RunConfig, trace: Trace) -> search.Found:
    """Searches over the keys of `search:`; every trial runs in the folder NAME.trial and shares the store."""

    def trial(values: dict[str, Any], to: str, report: Callable[[int, float], None]) -> Mapping[str, Any]:
        named = check_config({**values, "name": f"{config.name}.trial"}, "trial")
        done = run(named, Trace(trace.console), last=to, report=lambda _, epoch, loss: report(epoch, loss))
        metrics: Mapping[str, Any] = read_json(done.outputs["evaluate"].path / "metrics.json")
        return metrics

    return search.tune(_run_file(config), trial, Path(config.runs) / config.name, trace)


def select(config: RunConfig, trace: Trace, command: Sequence[object]) -> Output:
    """Selects features on the training part of the run's dataset; `command` is the run file and its key=value pairs.

    Raises:
        InputError: the run has no finished dataset of this configuration; names the command that makes it.
    """
    source = find_dataset(config, command)
    made = read_json(source / MANIFEST)["config"]["dataset"]
    if made != config.section("dataset"):
        shown = " ".join(shlex.quote(str(part)) for part in command)
        raise InputError(f"{source}: made with another section 'dataset'; run: gpu-pipeline run {shown} --to dataset")
    this = Run(config, choose_device(config.device), trace)
    with lock(this.folder), _log_file(this.folder):
        return selection.select(config, source, this.store, this.folder, this.device, trace)


def live(
    config: RunConfig,
    trace: Trace,
    source: str,
    output: Open,
    *,
    lines: Iterable[str] = (),
    checkpoint: Path | None = None,
    every: int = 1000,
) -> LiveEngine:
    """Feeds a trained run; rows, with predictions where it has models, go to what `output(plan)` opens.

    Args:
        config: the run; what it lacks up to its models is made first.
        trace: progress.
        source: `-` for JSON lines, `run` for the run's own streams, else a file that the run's source of trades reads.
        output: opens the output.
        lines: the JSON lines.
        checkpoint: a folder for the state: gone on from where there is one.
        every: rows between two checkpoints.

    Raises:
        InputError: a section is missing, a stream cannot be made live, or bad input.
    """
    this = run(config, trace, last="train" if config.train else "dataset")
    plan = make_plan(config, this.outputs["dataset"].path)
    begun = checkpoint is not None and (checkpoint / "state.json").is_file()
    engine = LiveEngine.restore(checkpoint, plan) if begun and checkpoint else LiveEngine(plan, this.symbols())
    if begun:
        log.info("live: goes on after %s", ", ".join(f"{n:,} trades of {name}" for name, n in engine.taken.items()))
    pieces = read_lines(lines, this.symbols(), engine.taken) if source == "-" else _replay(this, source, engine)
    judges = {title: predictor(output.path, this.device) for title, output in this.models.items()}

    def predict(row: LiveRow) -> dict[str, dict[str, float]]:
        return {title: judge(row.windows) for title, judge in judges.items()} if row.windows else {}

    with trace.progress("live") as ticker:
        run_session(engine, pieces, output(plan), predict, ticker, checkpoint, every)
    return engine


def _replay(this: Run, source: str, engine: LiveEngine) -> Iterator[Piece]:
    """Clean streams in the order in which they are known: the run's own, or those of another file of trades."""
    stream = engine.plan.book_stream
    if source != "run":
        if stream is not None:
            raise InputError("live: this run also sees a book; feed trades and books as JSON lines, or use --from run")
        this = run(_of_other_file(this, source), this.trace, last="ingest")
    clean = this.outputs["ingest"].path

    def pieces(symbol: Symbol, fold: SymbolFold) -> Iterator[Piece]:
        trades = rest_of(ingest_stage.load_trades(clean, symbol, _HOST), fold.trades, LIVE_PIECE)
        if stream is None:
            return trades
        return interleave(trades, rest_of_book(ingest_stage.load_book(clean, stream, symbol, _HOST), fold.books))

    return merge([pieces(symbol, engine.folds[name]) for name, symbol in this.symbols().items()])


def _of_other_file(this: Run, path: str) -> RunConfig:
    """The run with another file of trades, on the scales that it was trained on."""
    values = _run_file(this.config)
    if "path" not in values["ingest"].get("trades", {}):
        raise InputError(f"live --from {path}: the run's source of trades reads no file; use --from run, or JSON lines")
    trades = {key: value for key, value in values["ingest"]["trades"].items() if key not in ("start", "end", "limit")}
    for name, symbol in this.symbols().items():
        said = symbol.to_json()
        values["symbols"][name] |= {key: said[key] for key in ("price_tick", "quantity_lot")}
    return check_config({**values, "name": f"{this.config.name}.live", "ingest": {"trades": trades | {"path": path}}})


def info() -> dict[str, dict[str, str]]:
    """Devices, versions and which implementation of each op would run."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    def found(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    packages = ("torch", "numpy", "numba", "numba-cuda", "triton", "pyarrow", "pandas", "cudf-cu13", "cupy-cuda13x")
    choice = choose_device("auto")
    gpus = {f"cuda:{n}": torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())}
    return {
        "device": {"chosen": str(choice), **gpus},
        "versions": {"python": platform.python_version(), **{name: found(name) for name in packages}},
        "ops": _implementations(choice.device),
    }


def _implementations(device: torch.device) -> dict[str, str]:
    import pkgutil

    import kernels

    names = [info.name for info in pkgutil.iter_modules(kernels.__path__) if not info.name.startswith("_")]
    cuda = "CUDA kernel (numba-cuda or Triton)"
    return dict.fromkeys(names, cuda if device.type == "cuda" else "CPU loop (numba)")
