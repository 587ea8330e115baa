"""The simulator gives each shared array to all threads of a block, also where they ask for it at the same moment.

Its look-up and its allocation are two steps: a thread that is stopped between them gets an array of its own (seen
about once in 300 launches on a busy machine). Here the look-up that finds nothing keeps a lock until the allocation.
"""

from __future__ import annotations

import threading
from typing import Any


class Allocations(dict):
    """The shared arrays of one block."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def get(self, key: Any, default: Any = None) -> Any:
        self._lock.acquire()
        if key in self:
            self._lock.release()
        return super().get(key, default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self._lock.release()


def allocate_shared_arrays_once() -> None:
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    begin = FakeCUDAShared.__init__

    def begin_with_a_lock(self: Any, dynshared_size: int) -> None:
        begin(self, dynshared_size)
        self._allocations = Allocations()

    FakeCUDAShared.__init__ = begin_with_a_lock
