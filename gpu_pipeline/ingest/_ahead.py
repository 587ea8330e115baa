"""Reading ahead: the next item is made in a thread while the current one is used."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Generator[Item]) -> Generator[Item]:
    """The same items, one of them made in advance; errors arrive where the item would have.

    The generator runs in one thread from its first item to its end; the thread is gone when this one ends or is closed.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        try:
            coming = thread.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = thread.submit(next, items, None)
                yield item
        finally:
            thread.submit(items.close).result()
