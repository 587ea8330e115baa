"""The bars of many files at once: on the workers of a cluster, with the bytes of a single process.

Per file there are three tasks: `extract` decodes the columns that rules read, `chase` carries the state of the rules
over the file, `make` sums its bars. Only `chase` waits for the file before it, and it decodes nothing: it reads plain
arrays at hundreds of millions of trades per second. On CUDA, where decoding is as fast, it reads the file itself.
Parts come back as integers and are joined and written in order by this process.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gpu_pipeline.bars import _parts
from gpu_pipeline.bars._parts import Entry, FilePart, Read, Task, TradeFile
from gpu_pipeline.core.cluster import Cluster, open_cluster
from gpu_pipeline.core.config import RunConfig
from gpu_pipeline.core.errors import EnvironmentProblem
from gpu_pipeline.core.schema import Symbol
from gpu_pipeline.core.trace import Ticker

# Files begun and not yet taken, per task that runs at a time: it bounds scratch files and the parts that wait.
AHEAD = 2
BEAT_SECONDS = 0.5


@contextmanager
def parts_of(
    folder: Path,
    config: RunConfig,
    symbols: Mapping[str, Symbol],
    files: Mapping[str, Sequence[TradeFile]],
    read: Read,
    device: torch.device,
    ticker: Ticker,
) -> Iterator[Iterator[FilePart]]:
    """Opens the run's cluster and gives the parts of all files in order; scratch files lie in `folder` meanwhile.

    Raises:
        EnvironmentProblem: there is no cluster to be had.
    """
    assert config.bars is not None and config.engine is not None
    scratch = folder.resolve() / ".scratch"
    scratch.mkdir(parents=True)
    try:
        jobs = [(symbols[name], file) for name, some in files.items() for file in some]
        with open_cluster(config.engine, device, scratch, max(1, len(jobs))) as cluster:
            tasks = [
                Task(read, config.bars, symbol, file, cluster.device, scratch, number)
                for number, (symbol, file) in enumerate(jobs)
            ]
            flush = config.bars.at_file_end == "flush"
            yield parts(cluster, tasks, flush, lambda: ticker.advance(0))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def parts(cluster: Cluster, tasks: Sequence[Task], flush: bool, beat: Callable[[], None]) -> Iterator[FilePart]:
    """The parts of all files, in order.

    Args:
        cluster: where they are made.
        tasks: the files, symbol after symbol and in time order.
        flush: whether every file stands alone.
        beat: called while nothing comes.

    Raises:
        InputError: a file is damaged, or a threshold does not fit its scales.
        EnvironmentProblem: workers die on the same file again and again.
    """
    return _Schedule(cluster, tasks, flush, beat).run()


class _Schedule:
    """What runs, what may start, and what waits for its turn to be taken."""

    def __init__(self, cluster: Cluster, tasks: Sequence[Task], flush: bool, beat: Callable[[], None]) -> None:
        self.cluster, self.tasks, self.beat = cluster, tasks, beat
        self.alone = [flush or before is None or before.symbol != task.symbol for before, task in _after(tasks)]
        self.running: dict[Any, tuple[str, int]] = {}
        self.entries: dict[int, Entry] = {}
        self.sides: dict[int, bool | None] = {}
        self.made: dict[int, FilePart] = {}
        self.begun = 0

    def run(self) -> Iterator[FilePart]:
        window = AHEAD * self.cluster.slots
        for number in range(len(self.tasks)):
            while self.begun < min(number + window, len(self.tasks)):
                self._begin(self.begun)
            while number not in self.made:
                self._wait()
            yield self.made.pop(number)

    def _begin(self, number: int) -> None:
        self.begun += 1
        if self.alone[number]:
            self.entries[number] = {}
        if number in self.entries:
            self._start("make", number, self.entries[number])
        if self._leads_on(number) and self.cluster.device.type == "cpu":
            self._start("extract", number)
        else:
            self._may_chase(number, None)

    def _leads_on(self, number: int) -> bool:
        return number + 1 < len(self.tasks) and not self.alone[number + 1]

    def _may_chase(self, number: int, has_side: bool | None) -> None:
        """The file can be read by `chase`, which starts once the state before the file is there too."""
        self.sides[number] = has_side
        self._chase(number)

    def _chase(self, number: int) -> None:
        if number in self.sides and number in self.entries and self._leads_on(number):
            self._start("chase", number, self.entries[number], self.sides[number])

    def _start(self, kind: str, number: int, *arguments: Any) -> None:
        # Earlier files come first, and of one file the tasks that others wait for.
        priority = {"chase": 1, "extract": -2 * number, "make": -2 * number - 1}[kind]
        work = getattr(_parts, kind)
        future = self.cluster.client.submit(work, self.tasks[number], *arguments, priority=priority, pure=False)
        self.running[future] = (kind, number)

    def _wait(self) -> None:
        from distributed import wait

        try:
            with self.cluster.client.as_current():
                done = wait(list(self.running), timeout=BEAT_SECONDS, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            self.beat()
            return
        for future in done:
            kind, number = self.running.pop(future)
            self._take(kind, number, self._result(future, number))

    def _result(self, future: Any, number: int) -> Any:
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            task = self.tasks[number]
            where = f"{task.symbol.name} {task.file.month[0]:04}-{task.file.month[1]:02}"
            rule = f"engine: workers died again and again over {where} (killed, or out of memory)"
            raise EnvironmentProblem(f"{rule}; give fewer workers, or set engine: null") from error

    def _take(self, kind: str, number: int, result: Any) -> None:
        if kind == "make":
            self.made[number] = result
        elif kind == "extract":
            self._may_chase(number, result)
        else:
            _parts.forget(self.tasks[number])
            self.entries[number + 1] = result
            if number + 1 < self.begun:
                self._start("make", number + 1, result)
                self._chase(number + 1)


def _after(tasks: Sequence[Task]) -> Iterator[tuple[Task | None, Task]]:
    return zip([None, *tasks], tasks, strict=False)
