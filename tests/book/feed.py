"""A data source of made-up book events, and of the quotes that belong to them, for run files of tests."""

from __future__ import annotations

from typing import Literal

import torch

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Quotes
from tests.book.market import SYMBOL, events_of, rows_of

QUOTE_COLUMNS = ("time_ns", "known_ns", "update_id", "bid_ticks", "bid_lots", "ask_ticks", "ask_lots")


class Config(Options):
    """What is yielded, and what is wrong with it."""

    kind: Literal["events", "quotes"]
    wrong: Literal["nothing", "quote", "crossed", "gap"] = "nothing"


def feed(wrong="nothing"):
    """Ten updates a second; the touch moves up by a tick every ten."""
    rows, now = [], 1_582_329_600 * 10**9
    rows += [(now, now, 0, 0, 0, 1), (now, now, 1, 100, 5, 1), (now, now, -1, 102, 7, 1), (now, now, -1, 103, 7, 1)]
    for update in range(2, 400):
        now += 10**8
        low = 100 + update // 10 % 2
        rows += [(now, now, 1, 101, update if low == 101 else 0, update), (now, now, -1, 102, 7, update)]
    if wrong == "crossed":
        rows += [(now, now, 1, 104, 1, 400), (now + 10**9, now + 10**9, 1, 104, 0, 401)]
    if wrong == "gap":
        rows += [(now, now, 0, 0, 0, 400)]
    return events_of(rows)


def quotes_of(events) -> Quotes:
    """The best levels after every third update, and quotes between updates that nothing can be compared with."""
    rows, sides, told = [], {1: {}, -1: {}}, rows_of(events)
    for (now, _, side, price, quantity, update), after in zip(told, [*told[1:], (0,) * 6], strict=True):
        if side:
            sides[side][price] = quantity
        if after[5] != update and update % 3 == 1 and update < 400:
            best = [(price, lots) for price, lots in sides[1].items() if lots], list(sides[-1].items())
            rows.append((now, now, update, *max(best[0]), *min(best[1])))
            rows.append((now, now, -1, 1, 1, 1, 1))
    table = torch.tensor(rows, dtype=torch.int64)
    return Quotes(SYMBOL, **{name: table[:, at].clone() for at, name in enumerate(QUOTE_COLUMNS)})


def read(config, request):
    events = feed(config.wrong)
    if config.kind == "events":
        yield events
        return
    quotes = quotes_of(events)
    if config.wrong == "quote":
        quotes.bid_lots[40] += 1
    yield quotes
