"""What every sample file holds: trades, messages of a book (the first is the whole book), quotes, or minute bars."""

from __future__ import annotations

import random
from decimal import Decimal

# (id, time in ms, price, quantity, is buyer maker)
Row = tuple[int, int, Decimal, Decimal, bool]
# (last update id, time in ms, [(1 bid or -1 ask, price, quantity)])
Message = tuple[int, int, list[tuple[int, Decimal, Decimal]]]
# (update id, time in ms, bid, its quantity, ask, its quantity)
Quote = tuple[int, int, Decimal, Decimal, Decimal, Decimal]
# (open in ms, open, high, low, close, volume, volume in quote currency)
Minute = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal, Decimal]


def rows(count: int = 300, seed: int = 4) -> list[Row]:
    draw = random.Random(seed)
    made: list[Row] = []
    time, price = 1_706_745_570_000, 4_200_000
    for at in range(count):
        time += draw.choice([0, 0, 1, 900])
        price += draw.choice([-1, 0, 0, 1])
        quantity = Decimal(draw.choice([0, 1, 25, 1_234_567])).scaleb(-3)
        made.append((at + 1_000, time, Decimal(price).scaleb(-2), quantity, draw.random() < 0.5))
    # Both scales are needed in full.
    made[0] = (made[0][0], made[0][1], Decimal("41999.99"), Decimal("0.001"), True)
    return made


def messages(count: int = 150, seed: int = 6) -> list[Message]:
    """A snapshot, then updates that follow it: deletes (of unknown levels too), new levels, changed ones."""
    draw = random.Random(seed)
    levels = [
        (side, Decimal(42_000_00 - side * at).scaleb(-2), Decimal("1.5")) for side in (1, -1) for at in range(1, 6)
    ]
    made: list[Message] = [(1_000, 1_706_745_570_000, levels)]
    for at in range(count):
        ident, time, _ = made[-1]
        changed = []
        for _ in range(draw.randrange(1, 5)):
            side = draw.choice([1, -1])
            price = Decimal(42_000_00 - side * draw.randrange(1, 9)).scaleb(-2)
            changed.append((side, price, Decimal(draw.choice([0, 1, 25, 1_234_567])).scaleb(-3)))
        if not at:
            changed.append((1, Decimal("41999.01"), Decimal("0.001")))
        made.append((ident + draw.randrange(1, 4), time + draw.choice([0, 1, 900]), changed))
    return made


def quotes(count: int = 200, seed: int = 7) -> list[Quote]:
    """Best bids and offers whose update ids rise; the ask is missing now and then."""
    draw = random.Random(seed)
    made: list[Quote] = []
    ident, time = 1_000, 1_706_745_570_000
    for at in range(count):
        ident, time = ident + draw.randrange(1, 4), time + draw.choice([0, 1, 900])
        bid = Decimal(42_000_00 + draw.randrange(9)).scaleb(-2)
        size = Decimal(draw.choice([1, 25, 1_234_567])).scaleb(-3)
        ask = (Decimal(0), Decimal(0)) if at % 13 == 12 else (bid + Decimal("0.01"), Decimal("0.002"))
        made.append((ident, time, bid, size, *ask))
    return made


def minutes(count: int = 200, seed: int = 8) -> list[Minute]:
    """Minute bars with gaps; some have no volume."""
    draw = random.Random(seed)
    made: list[Minute] = []
    time, price = 1_706_745_540_000, 42_000_00
    for _ in range(count):
        time += 60_000 * draw.choice([1, 1, 1, 4])
        opened, price = price, price + draw.randrange(-9, 10)
        high, low = max(opened, price) + draw.randrange(3), min(opened, price) - draw.randrange(3)
        volume = Decimal(draw.choice([0, 1, 25, 1_234_567])).scaleb(-3)
        prices = (Decimal(ticks).scaleb(-2) for ticks in (opened, high, low, price))
        made.append((time, *prices, volume, volume * 42_000))  # type: ignore[arg-type]
    made[0] = (made[0][0], *[Decimal("41999.99")] * 4, Decimal("0.001"), Decimal("41.99999"))
    return made
