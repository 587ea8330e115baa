"""`python -m train CONFIG [key=value ...]`, alone or in every process of torchrun: trains on a finished dataset."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gpu_pipeline.core.config import RunConfig, load_config
from gpu_pipeline.core.errors import BUG, OK, InputError, PipelineError
from gpu_pipeline.core.store import MANIFEST, Store
from gpu_pipeline.core.trace import Trace
from train.launch import LAUNCHED, note_error
from train.parallel import Ranks, start
from train.stage import train_all

log = logging.getLogger("gpu_pipeline")
# A process that lost its partner to an error waits to be ended with it, before it calls that a bug.
AFTER_THE_FIRST = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; errors are one line each."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("config", type=Path, help="run file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example train.epochs=5")
    parser.add_argument(LAUNCHED, action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    trace = Trace()
    signal.signal(signal.SIGTERM, _stop)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        config = load_config(given.config, given.overrides)
        folder = find_dataset(config, [given.config, *given.overrides])
        with start(config.device) as ranks:
            _train(config, folder, ranks, trace)
    except PipelineError as error:
        if not note_error(error) or (_rank() == 0 and not given.launched):
            trace.console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception:
        if _rank():
            time.sleep(AFTER_THE_FIRST)
        log.exception("a bug of ours; please report it with this traceback")
        return BUG
    return OK


def _stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def find_dataset(config: RunConfig, command: Sequence[object]) -> Path:
    """The run's dataset folder; `command` is the run file and its key=value pairs.

    Raises:
        InputError: the dataset has not been made; names the command that makes it.
    """
    folder = Path(config.runs) / config.name / "dataset"
    if not (folder / MANIFEST).is_file():
        shown = " ".join(shlex.quote(str(part)) for part in command)
        raise InputError(f"{folder}: there is no finished dataset; run: gpu-pipeline run {shown} --to dataset")
    return folder


def _train(config: RunConfig, dataset: Path, ranks: Ranks, trace: Trace) -> None:
    run_folder = Path(config.runs) / config.name
    store = Store(Path(config.runs) / ".store")
    if not ranks.writes:
        logging.getLogger().setLevel(logging.ERROR)
        trace.console.quiet = True
    outputs = train_all(config, dataset, store, run_folder, ranks.device, trace, ranks=ranks)
    for title, output in outputs.items():
        best = output.manifest["best"]
        shown = f"epoch {best['epoch'] + 1}, validation loss {best['validation_loss']:.5f}"
        log.info("%s: %s, %s", title, shown, run_folder / "models" / title)


def _leave(code: int) -> None:
    """Ends the process; one of several at once, since tearing its communication threads down aborts now and then."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        sys.exit(code)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())
