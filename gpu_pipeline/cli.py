"""The command line: a run file, `key=value` overrides, one closing table, and exit codes that mean something."""

from __future__ import annotations

import errno
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from gpu_pipeline.core.config import STAGES, load_config
from gpu_pipeline.core.errors import BAD_INPUT, BUG, ENVIRONMENT, CheckFailed, InputError, PipelineError, nearest
from gpu_pipeline.core.plugins import KINDS
from gpu_pipeline.core.trace import Trace, log

REFUSALS = frozenset(
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "EIO", "EMFILE", "ENOMEM")
)

app = typer.Typer(add_completion=False, no_args_is_help=True, help="From raw market data to judged models.")
out = Console() if sys.stdout.isatty() else Console(width=140)
err = Console(stderr=True)
# Typer catches Ctrl-C and returns this.
INTERRUPTED = 130

ConfigFile = Annotated[Path, typer.Argument(help="the run file", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value pairs that replace keys of the run file")]


def _stage_name(name: str) -> str:
    if name not in STAGES:
        hint = nearest(name, STAGES)
        raise InputError(
            f"no stage '{name}'" + (f"; did you mean '{hint}'?" if hint else f"; there are {', '.join(STAGES)}")
        )
    return name


@app.command()
def run(
    config: ConfigFile,
    overrides: Overrides = None,
    first: Annotated[str, typer.Option("--from", help="run again from this stage on")] = "ingest",
    last: Annotated[str, typer.Option("--to", help="stop after this stage")] = "report",
) -> None:
    """Runs every stage from files to report, and again only what has changed."""
    from gpu_pipeline import pipeline

    started = time.perf_counter()
    trace = Trace(console=err)
    checked = load_config(config, overrides or ())
    if STAGES.index(_stage_name(first)) > STAGES.index(_stage_name(last)):
        raise InputError(f"--from {first} lies after --to {last}; the stages are {', '.join(STAGES)}")
    done = pipeline.run(checked, trace, first=first, last=last)
    out.print(_closing_table(trace, time.perf_counter() - started))
    _where(done)


def _one_stage(name: str) -> Any:
    def command(config: ConfigFile, overrides: Overrides = None) -> None:
        run(config, overrides, last=name)

    command.__doc__ = f"Runs the stage {name}, and what it needs where that is not there yet."
    return command


for _name in STAGES[:-1]:
    app.command(_name)(_one_stage(_name))


@app.command()
def report(
    targets: Annotated[list[str], typer.Argument(help="a run file with key=value pairs, or several run folders")],
) -> None:
    """Writes the page of one run, or compares several run folders side by side."""
    if all(Path(target).is_dir() for target in targets):
        from train.report import compare

        out.print(f"comparison: {compare([Path(target) for target in targets])}")
    else:
        run(Path(targets[0]), targets[1:])


@app.command()
def validate(config: ConfigFile, overrides: Overrides = None) -> None:
    """Checks a run file and the files it names; runs nothing."""
    from gpu_pipeline import pipeline

    checked = load_config(config, overrides or ())
    files = pipeline.check_files(checked)
    out.print(f"{config}: ok, {len(files)} input file{'' if len(files) == 1 else 's'}")


@app.command("list")
def list_plugins(kind: Annotated[str | None, typer.Argument(help=f"one of {', '.join(KINDS)}")] = None) -> None:
    """Lists sources, bars, book forms, features, labels, models, metrics, loaders, selectors."""
    from gpu_pipeline import pipeline

    if kind is not None and kind not in KINDS:
        raise InputError(f"no kind of plug-in '{kind}'; there are {', '.join(KINDS)}")
    for name in [kind] if kind else KINDS:
        table = Table(title=name, title_justify="left", box=None, show_header=False)
        for plugin, summary in pipeline.plugin_table(name):
            table.add_row(f"  {plugin}", summary)
        out.print(table)


@app.command()
def download(
    symbol: Annotated[str, typer.Argument(help="for example BTCUSDT")],
    start: Annotated[str, typer.Option("--from", help="first month, 2024-01")],
    end: Annotated[str, typer.Option("--to", help="last month, 2024-04")],
    market: Annotated[str, typer.Option(help="spot, um or cm")] = "um",
    kind: Annotated[str, typer.Option(help="trades or aggTrades")] = "trades",
    folder: Annotated[Path, typer.Option(help="where the files go")] = Path("data"),
    base_url: Annotated[str, typer.Option(help="another mirror")] = "https://data.binance.vision",
) -> None:
    """Fetches public exchange files with their checksums, and resumes what was interrupted."""
    from gpu_pipeline.ingest.download import download as fetch

    for path in fetch(symbol, market, start, end, kind, folder, base_url=base_url, trace=Trace(console=err)):
        out.print(str(path), soft_wrap=True)


def _audit_book(config: Path, overrides: list[str] | None) -> None:
    from gpu_pipeline import pipeline
    from gpu_pipeline.book._show import tables

    results, feeds = pipeline.audit_book(load_config(config, overrides or ()), Trace(console=err))
    for table in tables(results, feeds):
        out.print(table)
    findings = [line for result in results for line in result.findings(feeds.get(result.symbol, {}))]
    for line in findings:
        out.print(line, soft_wrap=True, highlight=False, markup=False)
    if findings:
        raise CheckFailed(f"{config}: {len(findings)} finding{'' if len(findings) == 1 else 's'} in the book")
    out.print(f"{config}: nothing is wrong with the book")


def _audit_features(config: Path, overrides: list[str] | None) -> None:
    from gpu_pipeline import pipeline

    started, failures = time.perf_counter(), 0
    for result in pipeline.audit_features(load_config(config, overrides or ()), Trace(console=err)):
        lines = list(result.lines())
        failures += len(lines)
        for line in [*lines, *result.remarks()]:
            out.print(line, soft_wrap=True, highlight=False, markup=False)
        seconds = time.perf_counter() - started
        out.print(f"{result.summary()}, {seconds:.1f} s", soft_wrap=True, highlight=False, markup=False)
    if failures:
        raise CheckFailed(f"{config}: {failures} column{' fails' if failures == 1 else 's fail'}")
    out.print(f"{config}: nothing is wrong with the features")


AUDITS: dict[str, Callable[[Path, list[str] | None], None]] = {"book": _audit_book, "features": _audit_features}


@app.command()
def audit(
    what: Annotated[str, typer.Argument(help=" or ".join(AUDITS))],
    config: ConfigFile,
    overrides: Overrides = None,
) -> None:
    """Looks for what could be wrong with the book or the features of a run; ends with code 1 where something is."""
    if what not in AUDITS:
        hint = nearest(what, AUDITS)
        more = f"; did you mean '{hint}'?" if hint else ""
        raise InputError(f"audit: cannot audit '{what}'; there are {', '.join(AUDITS)}{more}")
    AUDITS[what](config, overrides)


@app.command()
def tune(config: ConfigFile, overrides: Overrides = None) -> None:
    """Searches over keys of the run file and writes the best run file."""
    from gpu_pipeline import pipeline

    found = pipeline.tune(load_config(config, overrides or ()), Trace(console=err))
    table = Table(title=f"best value {found.value:.6g}", title_justify="left", box=None, show_header=False)
    for key, value in found.keys.items():
        table.add_row(f"  {key}", str(value))
    out.print(table)
    out.print(f"trials: {', '.join(f'{count} {state}' for state, count in found.counts.items() if count)}")
    out.print(f"best run file: {found.file}", soft_wrap=True)


@app.command()
def select(config: ConfigFile, overrides: Overrides = None) -> None:
    """Ranks and prunes features inside the training part; writes the list for features.include."""
    from gpu_pipeline import pipeline

    checked = load_config(config, overrides or ())
    made = pipeline.select(checked, Trace(console=err), [config, *(overrides or ())])
    for line in made.manifest["messages"]:
        out.print(line, soft_wrap=True, highlight=False, markup=False)
    folder = Path(checked.runs) / checked.name / "selection"
    out.print(
        f"{made.manifest['rows']} of {made.manifest['rows_in']} columns: {folder / made.manifest['file']}",
        soft_wrap=True,
    )
    out.print(f"scores and plots: {folder / 'index.html'}", soft_wrap=True)


@app.command()
def live(
    config: ConfigFile,
    overrides: Overrides = None,
    source: Annotated[str, typer.Option("--from", help="- (JSON lines), run (its own streams), or a file")] = "-",
    target: Annotated[str, typer.Option("--out", help="- (JSON lines), or a .jsonl or .parquet file")] = "-",
    checkpoint: Annotated[
        Path | None, typer.Option(help="folder of the state, gone on from where there is one")
    ] = None,
    every: Annotated[int, typer.Option(help="rows between two checkpoints", min=1)] = 1000,
) -> None:
    """Takes trades and books, gives model-ready rows and predictions: the batch code in small chunks."""
    from gpu_pipeline import pipeline
    from gpu_pipeline.live.output import opened

    checked = load_config(config, overrides or ())
    engine = pipeline.live(
        checked,
        Trace(console=err),
        source,
        opened(target),
        lines=sys.stdin if source == "-" else (),
        checkpoint=checkpoint,
        every=every,
    )
    err.print(f"live: {sum(engine.taken.values()):,} trades, {engine.rows:,} rows", highlight=False)


@app.command()
def info() -> None:
    """Shows devices, versions, and which implementation of each op would run."""
    from gpu_pipeline import pipeline

    for title, rows in pipeline.info().items():
        table = Table(title=title, title_justify="left", box=None, show_header=False)
        for name, value in rows.items():
            table.add_row(f"  {name}", value)
        out.print(table)


def _closing_table(trace: Trace, seconds: float) -> Table:
    table = Table(title=f"done in {seconds:.1f} s", title_justify="left")
    for title in ("stage", "rows in", "rows out", "seconds", "peak memory", ""):
        table.add_column(title, justify="left" if title in ("stage", "") else "right")
    for record in trace.records:
        rows = [f"{count:,}" if count is not None else "" for count in (record.rows_in, record.rows_out)]
        peak = f"{record.peak_bytes / 2**20:,.0f} MiB"
        note = "unchanged, not run again" if record.reused else record.note
        table.add_row(record.stage, *rows, f"{record.seconds:.1f}", peak, note)
    return table


def _where(done: Any) -> None:
    out.print(f"results: {done.folder}", soft_wrap=True)
    if "report" in done.outputs:
        out.print(f"report: {done.folder / 'report' / 'index.html'}", soft_wrap=True)
    if done.models and (done.folder / "tensorboard").is_dir():
        out.print(f"curves: tensorboard --logdir {done.folder / 'tensorboard'}", soft_wrap=True)


def _log_to_terminal() -> None:
    handler = RichHandler(console=err, show_path=False, show_level=False, log_time_format="%H:%M:%S")
    if not err.is_terminal:
        plain = logging.StreamHandler(sys.stderr)
        plain.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.handlers[:] = [plain]
    else:
        log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    logging.raiseExceptions = False  # a full disk is told once, by the stage that meets it


def _stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code of DESIGN section 6."""
    signal.signal(signal.SIGTERM, _stop)
    _log_to_terminal()
    try:
        code = app(args=arguments, standalone_mode=False)
        return _stopped(code) if code == INTERRUPTED else code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return _stopped(INTERRUPTED)
    except SystemExit as stop:
        return _stopped(stop.code if isinstance(stop.code, int) else BUG)
    except PipelineError as error:
        return _say(str(error), error.exit_code)
    except Exception as error:  # the last resort: anything else is a bug of ours
        return _outside_or_bug(error)


def _stopped(code: int) -> int:
    err.print("stopped; the same command goes on where it was", highlight=False)
    return code


def _say(line: str, code: int) -> int:
    err.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    return code


def _outside_or_bug(error: Exception) -> int:
    usage = getattr(error, "format_message", None)
    if usage is not None:
        return _say(usage(), BAD_INPUT)
    shown = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in REFUSALS):
        return _say(f"the machine refused ({shown}); check disk, memory and permissions", ENVIRONMENT)
    if "no locator available" in shown:  # numba's words where neither the package nor the home folder can be written
        return _say("compiled loops cannot be kept; set NUMBA_CACHE_DIR to a folder that can be written", ENVIRONMENT)
    return _say(f"a bug of ours: {shown}; traceback in {_write_traceback(error)}", BUG)


def _write_traceback(error: Exception) -> str:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="gpu-pipeline-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    return file.name


if __name__ == "__main__":
    sys.exit(main())
