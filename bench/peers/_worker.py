"""The process of a peer: `python -m bench.peers._worker MODULE`, a JSON object a line in, one a line out.

    {"do": "open", "path": FILE, "threshold": N}    loads the trades once and prepares every call -> versions
    {"do": "table", "call": NAME}                   one call's bars as columns, for the check     -> columns
    {"do": "time", "call": NAME}                    one call by this process's clock              -> seconds
    {"do": "peak", "call": NAME}                    one call's peak memory                        -> mib

Beside the peer's own calls there is PLAIN, our plain loop compiled by this environment's numba: how far a figure comes
from the environment shows there. What a peer prints goes to the error stream; an exception is answered as `error`.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np

from bench import _plain
from bench._memory import peak_mib
from bench.peers._contract import FileTrades, read

PLAIN = "plain"


class Worker:
    """Trades of one file, and the calls that a peer's module makes of them."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._calls: dict[str, Callable[[], Any]] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Does what a request says."""
        kinds = {"open": self._open, "table": self._table, "time": self._time, "peak": self._peak}
        return kinds[request.pop("do")](**request)

    def _open(self, path: str, threshold: int) -> dict[str, Any]:
        trades = read(Path(path))
        self._calls = {**self._module.prepare(trades, threshold), PLAIN: plain_call(trades, threshold)}
        packages = {name: version(name) for name in (*self._module.PACKAGES, "numba", "numpy")}
        return {"versions": {**packages, "python": platform.python_version()}}

    def _table(self, call: str) -> dict[str, Any]:
        result = self._calls[call]()
        columns = result if call == PLAIN else self._module.table(result)
        return {"columns": {name: np.asarray(values).tolist() for name, values in columns.items()}}

    def _time(self, call: str) -> dict[str, Any]:
        work = self._calls[call]
        started = time.perf_counter()
        work()
        return {"seconds": time.perf_counter() - started}

    def _peak(self, call: str) -> dict[str, Any]:
        return {"mib": peak_mib(self._calls[call])}


def plain_call(trades: FileTrades, threshold: int) -> Callable[[], dict[str, np.ndarray]]:
    """Our plain loop over these trades; its arrays are made beforehand."""
    columns = trades.time_ns, trades.price_ticks, trades.quantity_lots, trades.notional, trades.is_buyer_maker
    rule = threshold, float(trades.price_step), float(trades.lot)
    out = _plain.room(trades.notional, threshold)
    return lambda: _plain.named(*out, _plain.dollar_bars(*columns, *rule, *out))


def serve(module: ModuleType, requests: IO[str], answers: IO[str]) -> None:
    """Answers each line, until the other side closes."""
    worker = Worker(module)
    for line in requests:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Serves over the standard streams; all other output goes to the error stream."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(importlib.import_module(sys.argv[1]), sys.stdin, answers)


if __name__ == "__main__":
    main()
