"""The book after each message, for samples of sources that hold snapshots."""

from __future__ import annotations

from decimal import Decimal

from tests.ingest.samples.rows import Message

Side = list[tuple[Decimal, Decimal]]


def books(messages: list[Message]) -> list[tuple[int, int, Side, Side]]:
    """(update id, time in ms, bids and asks, best first) after each message."""
    held: dict[tuple[int, Decimal], Decimal] = {}
    made = []
    for ident, time, levels in messages:
        held |= {(side, price): size for side, price, size in levels}
        bids, asks = (
            sorted(((price, size) for (of, price), size in held.items() if of == side and size), reverse=side == 1)
            for side in (1, -1)
        )
        made.append((ident, time, bids, asks))
    return made
