from __future__ import annotations

import threading
import time
from collections.abc import Generator

import pytest

from gpu_pipeline.ingest._ahead import ahead


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")}


def counting(made: list[int], stop: int, closed: list[str] | None = None) -> Generator[int]:
    try:
        for number in range(1, stop + 1):
            made.append(number)
            yield number
    finally:
        if closed is not None:
            closed.append(threading.current_thread().name)


def wait_for(made: list[int], count: int) -> None:
    deadline = time.monotonic() + 30
    while len(made) < count and time.monotonic() < deadline:
        time.sleep(0.001)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_the_same_items_in_order(count: int) -> None:
    made: list[int] = []
    assert list(ahead(counting(made, count))) == made == list(range(1, count + 1))
    assert not threads()


def test_one_item_is_made_while_another_is_used_and_no_more() -> None:
    made: list[int] = []
    for item in ahead(counting(made, 5)):
        wanted = min(item + 1, 5)
        wait_for(made, wanted)
        time.sleep(0.01)
        assert len(made) == wanted


def test_nothing_runs_before_the_first_item_is_asked_for() -> None:
    made: list[int] = []
    items = ahead(counting(made, 3))
    assert made == [] and not threads()
    items.close()
    assert made == []


def test_an_error_arrives_where_its_item_would() -> None:
    def broken() -> Generator[int]:
        yield 1
        yield 2
        raise ValueError("third")

    got = []
    with pytest.raises(ValueError, match="third"):
        for item in ahead(broken()):
            got.append(item)
    assert got == [1, 2] and not threads()


def test_an_early_stop_closes_the_generator_in_its_own_thread() -> None:
    made: list[int] = []
    closed: list[str] = []
    items = ahead(counting(made, 100, closed))
    assert [next(items), next(items)] == [1, 2]
    items.close()
    assert len(closed) == 1 and closed[0].startswith("ahead")
    assert len(made) <= 3 and not threads()


def test_a_user_that_fails_leaves_no_thread() -> None:
    made: list[int] = []

    def use() -> None:
        for _ in ahead(counting(made, 100)):
            raise KeyError("use")

    with pytest.raises(KeyError):
        use()
    assert not threads() and len(made) <= 2
