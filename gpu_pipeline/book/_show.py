"""The tables that `audit book` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from gpu_pipeline.book._audit import Result
from gpu_pipeline.book._quality import PROFILE

Row = Mapping[str, Any]


def _number(name: str, digits: int = 0) -> Callable[[Row], str]:
    return lambda row: "-" if row[name] is None else f"{row[name]:,.{digits}f}"


def _levels(row: Row) -> str:
    return f"{_number('levels_bid')(row)} / {_number('levels_ask')(row)}"


def _spread(name: str) -> Callable[[Row], str]:
    return lambda row: "-" if row[f"spread_{name}"] is None else f"{row[f'spread_{name}']:g}"


def _quantity(level: int) -> Callable[[Row], str]:
    return lambda row: "-" if row[f"quantity_{level}"] is None else f"{row[f'quantity_{level}']:.4g}"


_WHICH: Mapping[str, Callable[[Row], str]] = {"symbol": lambda row: row["symbol"], "day": lambda row: row["day"]}
DAYS: Mapping[str, Callable[[Row], str]] = {
    **_WHICH,
    "updates": _number("updates"),
    "per s": _number("updates_per_s", 1),
    "steps back": _number("clock_back"),
    "crossed": _number("crossed"),
    "locked": _number("locked"),
    "one side": lambda row: f"{row['missing_bid'] + row['missing_ask']:,}",
    "empty": _number("empty"),
    "jumps": _number("jumps"),
    "gaps": _number("gaps"),
    "longest s": _number("gap_longest_s", 1),
    "spread": _spread("median"),
    "p99": _spread("p99"),
}
CELLS: Mapping[str, Callable[[Row], str]] = {
    **_WHICH,
    "levels": _levels,
    **{f"at level {level}" if level == 1 else str(level): _quantity(level) for level in PROFILE},
    "fresh": _number("fresh"),
    "filled": _number("filled"),
    "missing": _number("missing"),
}
FEED = ("applied", "stale", "duplicate", "out_of_order", "before_snapshot", "gaps")


def tables(results: Sequence[Result], feeds: Mapping[str, Row]) -> Iterable[Table]:
    """Days, what the feeds lacked, and what quotes say, each where there is something to show."""
    days = [row for result in results for row in result.days]
    yield _table("books by UTC day", list(DAYS), ([show(row) for show in DAYS.values()] for row in days))
    cells = ([show(row) for show in CELLS.values()] for row in days)
    yield _table("levels of a side, mean quantity at some of them, cells of the grid", list(CELLS), cells)
    counted = {name: feed for name, feed in feeds.items() if "messages" in feed}
    if counted:
        head = ["symbol", *(name.replace("_", " ") for name in FEED), "times set back"]
        rows = ([name, *_messages(feed), f"{feed.get('times_set_back', 0):,}"] for name, feed in counted.items())
        yield _table("messages of the feed", head, rows)
    compared = [(result.symbol, *item) for result in results for item in result.compared.items()]
    if compared:
        rows = (
            [symbol, stream, *(f"{count:,}" for count in (found.quotes, found.compared, found.equal))]
            for symbol, stream, found in compared
        )
        head = ["symbol", "quotes", "rows", "compared", "equal"]
        yield _table("best bid and ask at equal update ids", head, rows)
    unequal = [(symbol, one) for symbol, _, found in compared for one in found.differences]
    if unequal:
        head = ["symbol", "update id", "book and quote"]
        yield _table("first differences", head, ([symbol, *_difference(one)] for symbol, one in unequal))


def _messages(feed: Row) -> list[str]:
    return [f"{feed['messages'].get(name, 0):,}" for name in FEED]


def _difference(one: Row) -> list[str]:
    told = (f"{name} {value[0]} and {value[1]}" for name, value in one.items() if name != "update_id")
    return [str(one["update_id"]), ", ".join(told)]


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    made = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for name in head:
        made.add_column(name, justify="left" if name in ("symbol", "day", "quotes") else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made
