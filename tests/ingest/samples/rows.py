"""The trades that every sample file holds: (id, time in ms, price, quantity, is buyer maker)."""

from __future__ import annotations

import random
from decimal import Decimal

Row = tuple[int, int, Decimal, Decimal, bool]


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
